//! A server of HTTP/2 that sends and takes bodies of any size.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use frame_net::http::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_rustls::TlsAcceptor;

/// What is sent: so many bytes.
struct Zeros(u64);

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 64 << 10] = [0; 64 << 10];
        let len = PIECE.len().min(usize::try_from(self.0).unwrap_or(usize::MAX));
        self.0 -= len as u64;
        Poll::Ready((len > 0).then(|| Ok(Frame::data(Bytes::from_static(&PIECE[..len])))))
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    size: u64,
) -> hyper::Response<http_body_util::Either<Zeros, String>> {
    if request.uri().path() == "/down" {
        return hyper::Response::new(http_body_util::Either::Left(Zeros(size)));
    }
    let (mut body, mut count) = (request.into_body(), 0);
    while let Some(frame) = body.frame().await {
        count += frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
    }
    hyper::Response::new(http_body_util::Either::Right(count.to_string()))
}

/// Serves connections: `/down` has so many bytes, and elsewhere the bytes of the request are counted.
pub(crate) fn start(acceptor: TlsAcceptor, size: u64) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                    let service =
                        service_fn(|request| async move { Ok::<_, Infallible>(answer(request, size).await) });
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // The client closes when it likes.
                    let _ = builder.serve_connection(stream, service).await;
                });
            }
        });
    });
    address
}
