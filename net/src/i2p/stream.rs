//! Connections over I2P, and the listener that accepts them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::deadline::Deadline;
use crate::endpoint::{Host, LocalEndpoint, NetworkAddr};
use crate::error::{Cause, DriverError, DriverStep};
use crate::i2p::bridge::Socket;
use crate::i2p::error::{SamError, failed};
use crate::i2p::exchange::{Action, Exchange, Incoming, Request, SamReply, Stage};
use crate::i2p::is_over;
use crate::i2p::session::Session;
use crate::i2p::sessions::{self, Backoff, Listening, Sessions};
use crate::network::{BoxFuture, BoxStream, Listener};

/// A socket of a bridge, once all that comes is from the other end. It keeps the session, which it is over without.
pub(super) struct I2pStream {
    inner: BoxStream,
    /// What came together with the last line of the bridge; empty once it was read.
    unread: Vec<u8>,
    /// Until when the first byte must be there; none once it was, or if there is no limit.
    first_byte: Option<FirstByte>,
    _session: Arc<Session>,
}

struct FirstByte {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    is_missed: bool,
}

impl I2pStream {
    /// The connection on `socket`. Its first read fails if nothing was received for as long as `limit` from now.
    pub(super) fn new(socket: Socket, session: Arc<Session>, limit: Option<Duration>) -> Self {
        let Socket { stream: inner, mut unread, .. } = socket;
        let unread = std::mem::take(&mut *unread);
        let first_byte = limit.filter(|_| unread.is_empty()).map(|limit| FirstByte {
            limit,
            timer: Box::pin(tokio::time::sleep(limit)),
            is_missed: false,
        });
        Self { inner, unread, first_byte, _session: session }
    }

    /// Reads while it counts how long the first byte takes.
    fn poll_first(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        mut first_byte: FirstByte,
    ) -> Poll<io::Result<()>> {
        if !first_byte.is_missed {
            let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
            if polled.is_ready() {
                return polled;
            }
            first_byte.is_missed = first_byte.timer.as_mut().poll(cx).is_ready();
        }
        let polled = if first_byte.is_missed { Poll::Ready(Err(first_byte.error())) } else { Poll::Pending };
        self.first_byte = Some(first_byte);
        polled
    }
}

impl FirstByte {
    fn error(&self) -> io::Error {
        let text = format!("nothing was received within {:?} of the connection", self.limit);
        io::Error::new(io::ErrorKind::TimedOut, text)
    }
}

impl AsyncRead for I2pStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let len = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread[..len]);
            self.unread.drain(..len);
            return Poll::Ready(Ok(()));
        }
        // To read nothing is no way to find out whether something is there.
        match self.first_byte.take_if(|_| buffer.remaining() > 0) {
            Some(first_byte) => self.poll_first(cx, buffer, first_byte),
            None => Pin::new(&mut self.inner).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for I2pStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What accepts the connections of a session. A task waits for one at a time: what comes while it takes one is kept
/// by the router for some seconds. If the session is over the task has a new one made, at the same destination.
pub(super) struct I2pListener {
    local: NetworkAddr,
    accepted: mpsc::Receiver<Accepted>,
    _worker: AbortOnDropHandle<()>,
    _listening: Listening,
}

type Accepted = Result<(BoxStream, NetworkAddr), DriverError>;

/// How many connections may be there and not yet taken. With more, no further one is waited for.
const BACKLOG: usize = 16;

impl I2pListener {
    /// Listens at `at`, of which only the port counts. The bridge waits for a connection when this returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing that waits.
    pub(super) async fn new(sessions: &Arc<Sessions>, at: &LocalEndpoint) -> Result<Self, DriverError> {
        let failed = |error| failed(DriverStep::Listen, at, error);
        let listening = sessions.listen().map_err(failed)?;
        let session = sessions.get().await.map_err(failed)?;
        let local = NetworkAddr::new(Host::Name(session.key().destination().host_name()), at.port);
        let first = match Waiting::new(sessions, session).await {
            Err(error) if is_over(&error) => {
                Waiting::new(sessions, sessions.get().await.map_err(failed)?).await?
            }
            first => first?,
        };
        let (sender, accepted) = mpsc::channel(BACKLOG);
        let worker = tokio::spawn(work(Arc::clone(sessions), local.clone(), first, sender));
        Ok(Self { local, accepted, _worker: AbortOnDropHandle::new(worker), _listening: listening })
    }
}

impl Listener for I2pListener {
    fn local(&self) -> NetworkAddr {
        self.local.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, Accepted> {
        Box::pin(async {
            let accepted = self.accepted.recv().await;
            // The runtime of the task is shutting down.
            accepted.unwrap_or_else(|| Err(failed(DriverStep::Accept, &self.local, SamError::SessionEnded)))
        })
    }
}

/// Accepts connections for as long as somebody wants them.
async fn work(sessions: Arc<Sessions>, local: NetworkAddr, first: Waiting, accepted: mpsc::Sender<Accepted>) {
    let mut backoff = Backoff::default();
    let mut waiting = Ok(first);
    loop {
        let since = Instant::now();
        let came = match waiting {
            Ok(waiting) => waiting.connection(&sessions).await,
            Err(error) => Err(error),
        };
        // That the bridge lets it wait says little: it may end that at once, every time.
        if came.is_ok() || since.elapsed() >= Backoff::LONGEST {
            backoff.succeeded();
        }
        match came {
            Ok((stream, incoming)) if is_for(&incoming, local.port) => {
                let peer = NetworkAddr::new(Host::Name(incoming.from.host_name()), incoming.from_port);
                if accepted.send(Ok((Box::new(stream), peer))).await.is_err() {
                    return;
                }
            }
            Ok(for_another_port) => drop(for_another_port),
            Err(error) => {
                if accepted.send(Err(error)).await.is_err() {
                    return;
                }
                tokio::time::sleep(backoff.failed(sessions::random())).await;
            }
        }
        waiting = match sessions.get().await {
            Ok(session) => Waiting::new(&sessions, session).await,
            Err(error) => Err(failed(DriverStep::Accept, &local, error)),
        };
    }
}

/// Port 0 is any, on both sides. A router without ports gives the session whatever comes.
const fn is_for(incoming: &Incoming, port: u16) -> bool {
    port == 0 || incoming.to_port == 0 || incoming.to_port == port
}

/// A socket on which the bridge waits for a connection.
struct Waiting {
    socket: Socket,
    exchange: Exchange<'static>,
    session: Arc<Session>,
}

impl Waiting {
    async fn new(sessions: &Sessions, session: Arc<Session>) -> Result<Self, DriverError> {
        let bridge = sessions.bridge();
        let request = Request::Accept { id: session.id() };
        let deadline = Deadline::after(bridge.config.deadline);
        let (socket, exchange) = session.ask(bridge, request, deadline).await?;
        // With the answer the connection itself may have come already.
        if exchange.stage() != Stage::Incoming {
            let refused = bridge.outcome(exchange);
            if refused.as_ref().is_err_and(is_over) {
                session.end();
            }
            refused?;
            return Err(failed(DriverStep::Accept, &bridge.config.sam, SamError::SessionEnded));
        }
        Ok(Self { socket, exchange: exchange.detached(), session })
    }

    /// The connection that comes.
    async fn connection(mut self, sessions: &Sessions) -> Result<(I2pStream, Incoming), DriverError> {
        let (bridge, session) = (sessions.bridge(), self.session);
        let step = DriverStep::Sam(self.exchange.stage());
        while self.exchange.action() != Action::Finish {
            let acted = tokio::select! {
                biased;
                acted = self.socket.act(&mut self.exchange) => acted,
                // The router may be gone without closing this socket, or there is another way to it.
                () = session.ended() => Err(Cause::from(SamError::SessionEnded)),
            };
            acted.map_err(|cause| DriverError::new(step, &bridge.config.sam, cause))?;
        }
        match bridge.outcome(self.exchange)? {
            SamReply::Incoming(incoming) => Ok((I2pStream::new(self.socket, session, None), incoming)),
            SamReply::Session(_) | SamReply::Connected => {
                Err(DriverError::new(step, &bridge.config.sam, Cause::from(SamError::SessionEnded)))
            }
        }
    }
}
