//! What is counted while it is open.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limiter::Permit;
use super::{Account, account};
use crate::audit::{AttemptKind, Peers, Recording};
use crate::dialer::{Dialer, unrecorded};
use crate::egress::{Egress, EgressRefusal, Verdict};
use crate::endpoint::{Endpoint, Host, NetworkAddr};
use crate::error::{Cause, DriverError, DriverStep};
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
    /// What is counted for the audit log. The last field, so that a connection is closed before its record is written.
    recording: Recording,
}

impl Counted {
    pub(crate) fn new(stream: BoxStream, permit: Permit) -> Self {
        Self { stream: Held::new(stream), permit, recording: Recording::default() }
    }

    /// Counts what is sent and received for `recording`, which ends with the connection.
    pub(crate) fn recorded_as(self, recording: Recording) -> Self {
        Self { recording, ..self }
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
        let polled = polled.unwrap_or_else(|panicked| Poll::Ready(Err(panicked.into())));
        if let Poll::Ready(Err(error)) = &polled {
            self.recording.broke(error);
        }
        polled
    }

    /// The same, of a poll that sends bytes.
    fn poll_sent(
        &mut self,
        poll: impl FnOnce(Pin<&mut BoxStream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let polled = self.poll(poll);
        if let Poll::Ready(Ok(sent)) = polled {
            self.recording.add_sent(sent);
        }
        polled
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.poll(|stream| stream.poll_read(cx, buffer));
        self.recording.add_received(buffer.filled().len().saturating_sub(before));
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_sent(|stream| stream.poll_write(cx, bytes))
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
        self.poll_sent(|stream| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.call(AsyncWrite::is_write_vectored).unwrap_or(false)
    }
}

/// A listener with its permit. Connections that it accepts are counted, too.
pub(crate) struct CountedListener {
    listener: Held<BoxListener>,
    local: NetworkAddr,
    dialer: Dialer,
    /// A connection that was accepted, and is not recorded yet.
    accepted: Option<(BoxStream, NetworkAddr)>,
    _permit: Permit,
    _recording: Recording,
}

impl CountedListener {
    /// # Errors
    ///
    /// If the listener panics.
    pub(crate) fn new(
        listener: BoxListener,
        dialer: &Dialer,
        recording: Recording,
        permit: Permit,
    ) -> Result<Self, Panicked> {
        let listener = Held::new(listener);
        let local = listener.call(|listener| listener.local())?;
        let (dialer, accepted) = (dialer.clone(), None);
        Ok(Self { listener, local, dialer, accepted, _permit: permit, _recording: recording })
    }

    async fn accept_next(&mut self) -> Result<(BoxStream, NetworkAddr), DriverError> {
        let accepted = Shielded::new(self.listener.call_mut(|listener| listener.accept())).await;
        accepted.unwrap_or_else(|panicked| Err(panicked.at(DriverStep::Accept, &self.local)))
    }
}

/// Takes room for a connection of `peer`, and records it.
async fn count(dialer: &Dialer, peer: &NetworkAddr) -> Result<(Permit, Recording), Cause> {
    let permit = dialer.permit()?;
    let recording = dialer.record(AttemptKind::Accept, peer).await?;
    recording.succeeded();
    Ok((permit, recording))
}

impl Listener for CountedListener {
    fn local(&self) -> NetworkAddr {
        self.local.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, Result<(BoxStream, NetworkAddr), DriverError>> {
        Box::pin(async move {
            let (stream, peer) = match self.accepted.take() {
                Some(accepted) => accepted,
                None => self.accept_next().await?,
            };
            // Kept, so that the next call has it if this one is dropped while it is being recorded.
            self.accepted = Some((stream, peer.clone()));
            let counted = count(&self.dialer, &peer).await;
            // Closed if there is no room for it, so that the peer learns at once, or if it cannot be recorded.
            let accepted = self.accepted.take();
            let (permit, recording) =
                counted.map_err(|cause| DriverError::new(DriverStep::Accept, &self.local, cause))?;
            let counted = accepted.map(|(stream, peer)| {
                let counted = Counted::new(stream, permit).recorded_as(recording);
                (Box::new(counted) as BoxStream, peer)
            });
            // It was put there above.
            counted.ok_or_else(|| DriverError::new(DriverStep::Accept, &self.local, Cause::Closed))
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
    /// Those that were sent to, for the audit log.
    peers: Option<Peers>,
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
        peers: Option<Peers>,
        permit: Permit,
    ) -> Result<Self, Panicked> {
        let datagrams = Held::new(datagrams);
        let local = datagrams.call(|datagrams| datagrams.local())?;
        Ok(Self { datagrams, local, account, egress, peers, _permit: permit })
    }

    async fn send(&self, payload: &[u8], to: &Endpoint) -> Result<(), DriverError> {
        let sent = Shielded::new(self.datagrams.call(|datagrams| datagrams.send_to(payload, to)));
        let sent = match to.host() {
            Host::Address(_) => sent.await,
            Host::Name(_) => account(self.account.clone(), sent).await,
        };
        sent.unwrap_or_else(|panicked| Err(panicked.at(DriverStep::Send, to)))
    }
}

impl Datagrams for CountedDatagrams {
    fn local(&self) -> NetworkAddr {
        self.local.clone()
    }

    fn send_to<'a>(&'a self, payload: &'a [u8], to: &'a Endpoint) -> BoxFuture<'a, Result<(), DriverError>> {
        if let Some(Verdict::Refused(list)) = self.egress.as_ref().map(|egress| egress.check(to)) {
            let refusal = EgressRefusal::new(to.host().clone(), Some(to.port()), list);
            let refused = DriverError::new(DriverStep::Send, to, Cause::Egress(Box::new(refusal)));
            if let Some(peers) = &self.peers {
                peers.refused(to, &refused);
            }
            return Box::pin(async { Err(refused) });
        }
        Box::pin(async move {
            let Some(peers) = &self.peers else { return self.send(payload, to).await };
            let begun = peers.begin(to).await;
            let recording = begun.map_err(|error| unrecorded(DriverStep::Send, to, error))?;
            match self.send(payload, to).await {
                Ok(()) => {
                    recording.succeeded();
                    recording.add_sent(payload.len());
                    Ok(())
                }
                Err(error) => {
                    recording.failed(&error);
                    peers.end(to);
                    Err(error)
                }
            }
        })
    }

    fn receive_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, Result<(usize, NetworkAddr), DriverError>> {
        let received = Shielded::new(self.datagrams.call(|datagrams| datagrams.receive_from(buffer)));
        Box::pin(async move {
            let received = received.await;
            let received =
                received.unwrap_or_else(|panicked| Err(panicked.at(DriverStep::Receive, &self.local)));
            if let (Some(peers), Ok((bytes, from))) = (&self.peers, &received) {
                peers.received(from, *bytes);
            }
            received
        })
    }
}
