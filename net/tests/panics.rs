//! A network with bugs harms its own calls only.

mod support;

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use frame_net::{
    BoxDatagrams, BoxFuture, BoxListener, BoxStream, Cause, Datagrams, DriverError, Endpoint, HostName,
    IsolationKey, Listener, LocalEndpoint, Network, NetworkAddr, NetworkError, dialer,
};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use support::{app, endpoint, frame};

/// What panics in every method that can be called of it, and when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("drop")
    }
}

impl AsyncRead for Bomb {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        panic!("read")
    }
}

impl AsyncWrite for Bomb {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        panic!("write")
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("flush")
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("shutdown")
    }
}

impl Listener for Bomb {
    fn local(&self) -> NetworkAddr {
        NetworkAddr::new(IpAddr::from([127, 0, 0, 1]), 1)
    }

    fn accept(&mut self) -> BoxFuture<'_, Result<(BoxStream, NetworkAddr), DriverError>> {
        Box::pin(async { panic!("accept") })
    }
}

impl Datagrams for Bomb {
    fn local(&self) -> NetworkAddr {
        Listener::local(self)
    }

    fn send_to<'a>(&'a self, _: &'a [u8], _: &'a Endpoint) -> BoxFuture<'a, Result<(), DriverError>> {
        panic!("send")
    }

    fn receive_from<'a>(
        &'a self,
        _: &'a mut [u8],
    ) -> BoxFuture<'a, Result<(usize, NetworkAddr), DriverError>> {
        Box::pin(async { panic!("receive") })
    }
}

/// A network that makes [`Bomb`]s.
struct Bombs;

impl Network for Bombs {
    fn kind(&self) -> &'static str {
        "bombs"
    }

    fn connect<'a>(
        &'a self,
        _: &'a Endpoint,
        _: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        Box::pin(async { Ok(Box::new(Bomb) as BoxStream) })
    }

    fn listen<'a>(&'a self, _: &'a LocalEndpoint) -> BoxFuture<'a, Result<BoxListener, DriverError>> {
        Box::pin(async { Ok(Box::new(Bomb) as BoxListener) })
    }

    fn bind_datagram<'a>(&'a self, _: &'a LocalEndpoint) -> BoxFuture<'a, Result<BoxDatagrams, DriverError>> {
        Box::pin(async { Ok(Box::new(Bomb) as BoxDatagrams) })
    }

    fn lookup<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DriverError>> {
        panic!("lookup")
    }
}

#[tokio::test]
async fn nothing_that_a_network_returns_panics_its_caller() {
    let (app, networks) = app(json!({}));
    networks.register("app:bombs".parse().unwrap(), Arc::new(Bombs)).unwrap();
    let dialer = dialer(&frame(&app, &json!({ "network": "app:bombs" })), &app).unwrap();

    let mut stream = dialer.connect(&endpoint("h:1")).await.unwrap();
    let failed = [
        stream.read_u8().await.unwrap_err(),
        stream.write_all(b"x").await.unwrap_err(),
        stream.flush().await.unwrap_err(),
        stream.shutdown().await.unwrap_err(),
    ];
    assert!(failed.iter().all(|error| error.to_string() == "the network panicked"), "{failed:?}");
    drop(stream);

    let is_panic = |error: &DriverError| matches!(error.cause(), Cause::Panicked) && !error.is_retryable();
    let at = LocalEndpoint::port(1);
    let mut listener = dialer.listen(&at).await.unwrap();
    assert!(is_panic(&listener.accept().await.unwrap_err()));
    drop(listener);
    let datagrams = dialer.bind_datagram(&at).await.unwrap();
    assert!(is_panic(&datagrams.send_to(b"x", &endpoint("h:1")).await.unwrap_err()));
    assert!(is_panic(&datagrams.send_to(b"x", &endpoint("127.0.0.1:1")).await.unwrap_err()));
    assert!(is_panic(&datagrams.receive_from(&mut [0; 8]).await.unwrap_err()));
    drop(datagrams);
    let error = dialer.lookup(&"h".parse().unwrap()).await.unwrap_err();
    assert!(matches!(&error, NetworkError::Lookup { source, .. } if is_panic(source)), "{error:?}");
}
