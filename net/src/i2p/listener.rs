//! Connections that others make.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::deadline::Deadline;
use crate::endpoint::{Host, LocalEndpoint, NetworkAddr};
use crate::error::{Cause, DriverError, Step};
use crate::i2p::backoff::{self, Backoff};
use crate::i2p::bridge::Socket;
use crate::i2p::client::is_over;
use crate::i2p::error::{SamError, failed};
use crate::i2p::exchange::{Action, Answer, Exchange, Incoming, Request, Stage};
use crate::i2p::session::Session;
use crate::i2p::sessions::{Listening, Sessions};
use crate::i2p::stream::I2pStream;
use crate::network::{BoxFuture, BoxStream, Listener};

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
        let failed = |error| failed(Step::Listen, at, error);
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
            accepted.unwrap_or_else(|| Err(failed(Step::Accept, &self.local, SamError::SessionEnded)))
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
                tokio::time::sleep(backoff.failed(backoff::random())).await;
            }
        }
        waiting = match sessions.get().await {
            Ok(session) => Waiting::new(&sessions, session).await,
            Err(error) => Err(failed(Step::Accept, &local, error)),
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
            return Err(failed(Step::Accept, &bridge.config.sam, SamError::SessionEnded));
        }
        Ok(Self { socket, exchange: exchange.detached(), session })
    }

    /// The connection that comes.
    async fn connection(mut self, sessions: &Sessions) -> Result<(I2pStream, Incoming), DriverError> {
        let (bridge, session) = (sessions.bridge(), self.session);
        let step = Step::Sam(self.exchange.stage());
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
            Answer::Incoming(incoming) => Ok((I2pStream::new(self.socket, session, None), incoming)),
            Answer::Session(_) | Answer::Connected => {
                Err(DriverError::new(step, &bridge.config.sam, Cause::from(SamError::SessionEnded)))
            }
        }
    }
}
