//! What is counted while it is open.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limiter::Permit;
use super::{Account, account};
use crate::address::NetworkAddr;
use crate::egress::{Egress, EgressRefusal, Verdict};
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, Step};
use crate::host::Host;
use crate::network::{BoxDatagrams, BoxFuture, BoxListener, BoxStream, Datagrams, Listener};
use crate::shield::{Held, Panicked, Shielded};

/// A connection with its permit.
pub(crate) struct Counted {
    stream: Held<BoxStream>,
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "held until it is dropped; only the HTTP client gives one back earlier")
    )]
    permit: Permit,
}

impl Counted {
    pub(crate) const fn new(stream: BoxStream, permit: Permit) -> Self {
        Self { stream: Held::new(stream), permit }
    }

    #[cfg(feature = "http")]
    pub(crate) const fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Polls the connection, whose panic is an error of this poll.
    fn poll<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut BoxStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let polled = self.stream.call_mut(|stream| poll(Pin::new(stream)));
        polled.unwrap_or_else(|panicked| Poll::Ready(Err(panicked.into())))
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.call(AsyncWrite::is_write_vectored).unwrap_or(false)
    }
}

/// A listener with its permit. Connections that it accepts are counted, too.
pub(crate) struct CountedListener {
    listener: Held<BoxListener>,
    local: NetworkAddr,
    account: Account,
    _permit: Permit,
}

impl CountedListener {
    /// # Errors
    ///
    /// If the listener panics.
    pub(crate) fn new(listener: BoxListener, account: Account, permit: Permit) -> Result<Self, Panicked> {
        let listener = Held::new(listener);
        let local = listener.call(|listener| listener.local())?;
        Ok(Self { listener, local, account, _permit: permit })
    }
}

impl Listener for CountedListener {
    fn local(&self) -> NetworkAddr {
        self.local.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, Result<(BoxStream, NetworkAddr), DriverError>> {
        Box::pin(async move {
            let accepted = Shielded::new(self.listener.call_mut(|listener| listener.accept())).await;
            let (stream, peer) =
                accepted.unwrap_or_else(|panicked| Err(panicked.at(Step::Accept, &self.local)))?;
            // Closed if there is no room for it, so that the peer learns at once.
            let permit = self.account.limits.connection(&self.account.unit);
            let permit =
                permit.map_err(|error| DriverError::new(Step::Accept, &self.local, Cause::Limit(error)))?;
            Ok((Box::new(Counted::new(stream, permit)) as BoxStream, peer))
        })
    }
}

/// A socket for datagrams with its permit. The names that it sends to are looked up for its unit, and it sends only where the
/// unit may.
pub(crate) struct CountedDatagrams {
    datagrams: Held<BoxDatagrams>,
    local: NetworkAddr,
    account: Account,
    egress: Option<Egress>,
    _permit: Permit,
}

impl CountedDatagrams {
    /// # Errors
    ///
    /// If the socket panics.
    pub(crate) fn new(
        datagrams: BoxDatagrams,
        account: Account,
        egress: Option<Egress>,
        permit: Permit,
    ) -> Result<Self, Panicked> {
        let datagrams = Held::new(datagrams);
        let local = datagrams.call(|datagrams| datagrams.local())?;
        Ok(Self { datagrams, local, account, egress, _permit: permit })
    }
}

impl Datagrams for CountedDatagrams {
    fn local(&self) -> NetworkAddr {
        self.local.clone()
    }

    fn send_to<'a>(&'a self, payload: &'a [u8], to: &'a Endpoint) -> BoxFuture<'a, Result<(), DriverError>> {
        if let Some(Verdict::Refused(list)) = self.egress.as_ref().map(|egress| egress.check(to)) {
            let refusal = EgressRefusal::new(to.host().clone(), Some(to.port()), list);
            let refused = DriverError::new(Step::Send, to, Cause::Egress(Box::new(refusal)));
            return Box::pin(async { Err(refused) });
        }
        let sent = Shielded::new(self.datagrams.call(|datagrams| datagrams.send_to(payload, to)));
        Box::pin(async move {
            let sent = match to.host() {
                Host::Address(_) => sent.await,
                Host::Name(_) => account(self.account.clone(), sent).await,
            };
            sent.unwrap_or_else(|panicked| Err(panicked.at(Step::Send, to)))
        })
    }

    fn receive_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, Result<(usize, NetworkAddr), DriverError>> {
        let received = Shielded::new(self.datagrams.call(|datagrams| datagrams.receive_from(buffer)));
        Box::pin(async move {
            let received = received.await;
            received.unwrap_or_else(|panicked| Err(panicked.at(Step::Receive, &self.local)))
        })
    }
}
