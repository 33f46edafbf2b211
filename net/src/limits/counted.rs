//! What is counted while it is open.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limiter::Permit;
use super::{Account, account};
use crate::address::NetworkAddr;
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, Step};
use crate::host::Host;
use crate::network::{BoxDatagrams, BoxFuture, BoxListener, BoxStream, Datagrams, Listener};

/// A connection with its permit.
pub(crate) struct Counted {
    stream: BoxStream,
    permit: Permit,
}

impl Counted {
    pub(crate) const fn new(stream: BoxStream, permit: Permit) -> Self {
        Self { stream, permit }
    }

    #[cfg(feature = "http")]
    pub(crate) const fn permit(&self) -> &Permit {
        &self.permit
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A listener with its permit. Connections that it accepts are counted, too.
pub(crate) struct CountedListener {
    pub(crate) listener: BoxListener,
    pub(crate) account: Account,
    pub(crate) _permit: Permit,
}

impl Listener for CountedListener {
    fn local(&self) -> NetworkAddr {
        self.listener.local()
    }

    fn accept(&mut self) -> BoxFuture<'_, Result<(BoxStream, NetworkAddr), DriverError>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            // Closed if there is no room for it: whoever connected learns at once.
            let permit = self.account.limits.connection(&self.account.unit);
            let permit = permit.map_err(|error| {
                DriverError::new(Step::Accept, self.listener.local(), Cause::Limit(error))
            })?;
            Ok((Box::new(Counted::new(stream, permit)) as BoxStream, peer))
        })
    }
}

/// A socket for datagrams with its permit. The names that it sends to are looked up for its unit.
pub(crate) struct CountedDatagrams {
    pub(crate) datagrams: BoxDatagrams,
    pub(crate) account: Account,
    pub(crate) _permit: Permit,
}

impl Datagrams for CountedDatagrams {
    fn local(&self) -> NetworkAddr {
        self.datagrams.local()
    }

    fn send_to<'a>(&'a self, payload: &'a [u8], to: &'a Endpoint) -> BoxFuture<'a, Result<(), DriverError>> {
        let sent = self.datagrams.send_to(payload, to);
        match to.host() {
            Host::Address(_) => sent,
            Host::Name(_) => Box::pin(account(self.account.clone(), sent)),
        }
    }

    fn receive_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, Result<(usize, NetworkAddr), DriverError>> {
        self.datagrams.receive_from(buffer)
    }
}
