//! A session: a destination on I2P, for as long as a socket of the bridge is open.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use crate::deadline::Deadline;
use crate::error::{Cause, DriverError, Step};
use crate::i2p::bridge::{Bridge, Socket};
use crate::i2p::control::Control;
use crate::i2p::destination::{Destination, PrivateKey};
use crate::i2p::error::SamError;
use crate::i2p::exchange::{Answer, Request, Stage};
use crate::i2p::name::I2pName;
use crate::i2p::{LocalDestination, backoff};

/// A session that stands, or stood. It is over when this is dropped, and with it its connections: who has one of them
/// has this, too.
pub(super) struct Session {
    id: String,
    key: PrivateKey,
    lookups: mpsc::Sender<Lookup>,
    ended: CancellationToken,
    /// Has the socket.
    _attendant: AbortOnDropHandle<()>,
}

/// A name, and who wants to know what it stands for.
struct Lookup {
    name: I2pName,
    found: oneshot::Sender<Result<Destination, SamError>>,
}

/// How many names may wait to be looked up.
const MAX_LOOKUPS: usize = 16;

impl Session {
    /// Creates a session.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends what there is of it.
    pub(super) async fn create(
        bridge: &Bridge,
        destination: &LocalDestination,
    ) -> Result<Arc<Self>, DriverError> {
        let deadline = Deadline::after(bridge.config.session_deadline);
        let failed = |cause| DriverError::new(Step::Sam(Stage::Session), &bridge.config.sam, cause);
        let id = backoff::session_id().map_err(|error| failed(Cause::Io(error)))?;
        let request = Request::Session { id: &id, destination, options: &bridge.config.options };
        let (socket, exchange) = bridge.ask(request, deadline).await?;
        let Answer::Session(key) = bridge.outcome(exchange)? else {
            return Err(failed(Cause::from(SamError::SessionEnded)));
        };
        let ended = CancellationToken::new();
        let (lookups, asked) = mpsc::channel(MAX_LOOKUPS);
        let attendant = tokio::spawn(attend(socket, asked, ended.clone().drop_guard()));
        Ok(Arc::new(Self { id, key, lookups, ended, _attendant: AbortOnDropHandle::new(attendant) }))
    }

    /// What the bridge calls it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The keys of its destination.
    pub(super) const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Whether it is over.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Waits until it is over.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Takes it for over: the bridge does not know it any more.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// What `name` stands for. Names are looked up one after the other.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the answer.
    pub(super) async fn look_up(&self, name: I2pName) -> Result<Destination, SamError> {
        let (found, answer) = oneshot::channel();
        let asked = self.lookups.send(Lookup { name, found }).await;
        asked.map_err(|_| SamError::SessionEnded)?;
        answer.await.unwrap_or(Err(SamError::SessionEnded))
    }
}

/// Attends to the socket of a session until it is closed, or nobody has the session any more.
async fn attend(mut socket: Socket, mut lookups: mpsc::Receiver<Lookup>, _ended: DropGuard) {
    let mut control = Control::default();
    let mut asking = None;
    loop {
        if control.receive(&socket.unread).is_err() {
            return;
        }
        socket.unread.clear();
        if let Some(found) = control.found() {
            // Whoever asked may not want to know any more.
            let _ = asking.take().map(|asking: oneshot::Sender<_>| asking.send(found));
        }
        let output = control.output();
        if !output.is_empty() && socket.send(&output).await.is_err() {
            return;
        }
        tokio::select! {
            received = socket.receive() => if !matches!(received, Ok(1..)) { return },
            lookup = lookups.recv(), if control.is_idle() => match lookup {
                None => return,
                Some(Lookup { name, found }) if !found.is_closed() => {
                    control.look_up(name);
                    asking = Some(found);
                }
                Some(_) => {}
            },
        }
    }
}
