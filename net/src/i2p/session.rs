//! A session: a destination on I2P, for as long as a socket of the bridge is open.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use crate::deadline::Deadline;
use crate::error::{Cause, DriverError, Step};
use crate::i2p::bridge::{Bridge, Socket};
use crate::i2p::control::Control;
use crate::i2p::destination::{Destination, PrivateKey};
use crate::i2p::error::SamError;
use crate::i2p::exchange::{Answer, Exchange, Request, Stage};
use crate::i2p::name::I2pName;
use crate::i2p::{LocalDestination, backoff};

/// A session that stands, or stood. It is over when this is dropped, and with it its connections: who has one of them
/// has this, too.
pub(super) struct Session {
    id: String,
    key: PrivateKey,
    lookups: mpsc::Sender<Lookup>,
    ended: CancellationToken,
    /// Cancelled once there is another way to the bridge than the one that the socket goes.
    way: CancellationToken,
    /// Has the socket.
    _attendant: AbortOnDropHandle<()>,
}

/// A name, and who wants to know what it stands for.
struct Lookup {
    name: I2pName,
    found: oneshot::Sender<Found>,
}

type Found = Result<Destination, Cause>;

/// How many names may wait to be looked up.
const MAX_LOOKUPS: usize = 16;

impl Session {
    /// Creates a session, at the destination that `destination` gives once it is known which way the socket goes. If
    /// there is another way before the session stands, then it starts over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends what there is of it.
    pub(super) async fn create(
        bridge: &Bridge,
        destination: impl Fn() -> LocalDestination,
    ) -> Result<Arc<Self>, DriverError> {
        let deadline = Deadline::after(bridge.config.session_deadline);
        let failed = |cause| DriverError::new(Step::Sam(Stage::Session), &bridge.config.sam, cause);
        loop {
            let (mut socket, way) = bridge.connect(deadline).await?;
            // It ties everything together that it is heard with, so it is used on one way only.
            let id = backoff::session_id().map_err(|error| failed(Cause::Io(error)))?;
            let destination = destination();
            let request =
                Request::Session { id: &id, destination: &destination, options: &bridge.config.options };
            let exchange = tokio::select! {
                biased;
                asked = bridge.ask(&mut socket, request, deadline) => asked?,
                () = way.cancelled() => continue,
            };
            let Answer::Session(key) = bridge.outcome(exchange)? else {
                return Err(failed(Cause::from(SamError::SessionEnded)));
            };
            let ended = CancellationToken::new();
            let (lookups, asked) = mpsc::channel(MAX_LOOKUPS);
            let attendant = attend(socket, asked, bridge.config.deadline, ended.clone().drop_guard());
            let attendant = AbortOnDropHandle::new(tokio::spawn(attendant));
            return Ok(Arc::new(Self { id, key, lookups, ended, way, _attendant: attendant }));
        }
    }

    /// What the bridge calls it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The keys of its destination.
    pub(super) const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Cancelled once there is another way to the bridge than the one that it was created on.
    pub(super) const fn way(&self) -> &CancellationToken {
        &self.way
    }

    /// Whether nothing more is to be done in it: it is over, or there is another way to the bridge. On that one it
    /// would tell the bridge that both are of the same client. Its connections go on.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled() || self.way.is_cancelled()
    }

    /// Waits until it [has](Self::has_ended).
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = self.way.cancelled() => {}
        }
    }

    /// Takes it for over: the bridge does not know it any more.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Makes a request about it, on a socket that goes the same way as its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket.
    pub(super) async fn ask<'a>(
        &self,
        bridge: &Bridge,
        request: Request<'a>,
        deadline: Deadline,
    ) -> Result<(Socket, Exchange<'a>), DriverError> {
        let (mut socket, _) = bridge.connect(deadline).await?;
        // Not before now is it certain which way that was.
        if self.way.is_cancelled() {
            let cause = Cause::from(SamError::SessionEnded);
            return Err(DriverError::new(Step::Connect, &bridge.config.sam, cause));
        }
        let exchange = bridge.ask(&mut socket, request, deadline).await?;
        Ok((socket, exchange))
    }

    /// What `name` stands for. Names are looked up one after the other. The session is over if the bridge leaves one
    /// without an answer, as it would all that come after it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the answer.
    pub(super) async fn look_up(&self, name: I2pName) -> Found {
        let (found, answer) = oneshot::channel();
        let asked = self.lookups.send(Lookup { name, found }).await;
        asked.map_err(|_| SamError::SessionEnded)?;
        answer.await.unwrap_or_else(|_| Err(Cause::from(SamError::SessionEnded)))
    }
}

/// Whoever waits for what the bridge was asked for, and until when it may answer.
struct Asking {
    found: oneshot::Sender<Found>,
    deadline: Deadline,
}

impl Asking {
    fn answer(self, found: Found) {
        // Whoever asked may not want to know any more.
        let _ = self.found.send(found);
    }

    /// Waits until the bridge has taken too long.
    async fn overdue(asking: Option<&Self>) -> Cause {
        match asking {
            None => pending().await,
            Some(asking) => asking.deadline.timeout(pending::<Cause>()).await.unwrap_or_else(|cause| cause),
        }
    }
}

/// Attends to the socket of a session until it is closed, the bridge is out of step, or nobody has the session any
/// more. The bridge has as long as `limit` for each answer.
async fn attend(mut socket: Socket, mut lookups: mpsc::Receiver<Lookup>, limit: Duration, _ended: DropGuard) {
    let mut control = Control::default();
    let mut asking: Option<Asking> = None;
    loop {
        let heard = control.receive(&socket.unread);
        socket.unread.clear();
        if let Some((asking, found)) = control.found().and_then(|found| Some((asking.take()?, found))) {
            asking.answer(found.map_err(Cause::from));
        }
        if let Err(error) = heard {
            if let Some(asking) = asking {
                asking.answer(Err(Cause::from(error)));
            }
            return;
        }
        let output = control.output();
        if !output.is_empty() && socket.send(&output).await.is_err() {
            return;
        }
        tokio::select! {
            received = socket.receive() => if !matches!(received, Ok(1..)) { return },
            cause = Asking::overdue(asking.as_ref()) => {
                if let Some(asking) = asking {
                    asking.answer(Err(cause));
                }
                return;
            }
            lookup = lookups.recv(), if control.is_idle() => match lookup {
                None => return,
                Some(Lookup { name, found }) if !found.is_closed() => {
                    control.look_up(name);
                    asking = Some(Asking { found, deadline: Deadline::after(limit) });
                }
                Some(_) => {}
            },
        }
    }
}
