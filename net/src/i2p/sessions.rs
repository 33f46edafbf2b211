//! The one session of a network: created when it is needed, shared, and created again when it is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::error::DriverError;
use crate::i2p::LocalDestination;
use crate::i2p::backoff::{self, Backoff};
use crate::i2p::bridge::Bridge;
use crate::i2p::error::SamError;
use crate::i2p::session::Session;

/// The session of a network.
pub(super) struct Sessions {
    bridge: Arc<Bridge>,
    state: Mutex<State>,
    is_listening: AtomicBool,
}

struct State {
    current: Current,
    /// Where the next session will be. Once there was one, it is where that was.
    destination: LocalDestination,
    backoff: Backoff,
    /// Until when no session is created, and why the last one was not.
    failed: Option<(Instant, Arc<DriverError>)>,
}

enum Current {
    None,
    /// A task creates it, which nobody who waits for it can spoil by going away. It does not hold what holds it here.
    Creating {
        outcome: watch::Receiver<Option<Outcome>>,
        _task: AbortOnDropHandle<()>,
    },
    Standing(Arc<Session>),
}

type Outcome = Result<Arc<Session>, Failed>;

#[derive(Clone)]
struct Failed {
    at: Instant,
    error: Arc<DriverError>,
}

impl Sessions {
    pub(super) fn new(bridge: Bridge) -> Self {
        let state = State {
            current: Current::None,
            destination: bridge.config.destination.clone(),
            backoff: Backoff::default(),
            failed: None,
        };
        Self { bridge: Arc::new(bridge), state: Mutex::new(state), is_listening: AtomicBool::new(false) }
    }

    pub(super) fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// The session, which is created unless it stands. All who ask in the meantime wait for the same one.
    ///
    /// After a failure there is no other attempt for a while, and who asks gets the error at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it to be created, for whoever asks next.
    pub(super) async fn get(&self) -> Result<Arc<Session>, SamError> {
        let mut outcome = {
            let mut state = self.state();
            state.settle();
            match &state.current {
                Current::Standing(session) => return Ok(Arc::clone(session)),
                Current::Creating { outcome, .. } => outcome.clone(),
                Current::None => {
                    state.check_backoff(Instant::now())?;
                    state.create(&self.bridge)
                }
            }
        };
        let outcome = outcome.wait_for(Option::is_some).await;
        match outcome.ok().and_then(|outcome| outcome.clone()) {
            Some(Ok(session)) => Ok(session),
            Some(Err(failed)) => Err(SamError::Session(failed.error)),
            // The runtime of the task is shutting down.
            None => Err(SamError::SessionEnded),
        }
    }

    /// Claims the one listener that a destination has.
    pub(super) fn listen(self: &Arc<Self>) -> Result<Listening, SamError> {
        if self.is_listening.swap(true, Ordering::AcqRel) {
            return Err(SamError::AlreadyListening);
        }
        Ok(Listening(Arc::clone(self)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The claim to be the listener, given back when it is dropped.
pub(super) struct Listening(Arc<Sessions>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.is_listening.store(false, Ordering::Release);
    }
}

impl State {
    /// Takes notice of a session that is created by now, or not, or over.
    fn settle(&mut self) {
        let outcome = match &self.current {
            Current::Standing(session) if session.has_ended() => None,
            Current::None | Current::Standing(_) => return,
            Current::Creating { outcome, .. } => {
                let value = outcome.borrow().clone();
                if value.is_none() && outcome.has_changed().is_ok() {
                    return;
                }
                value
            }
        };
        self.current = Current::None;
        match outcome {
            Some(Ok(session)) => {
                // A listener says where it is reached, and that has to stay true.
                self.destination = LocalDestination::PrivateKey(session.key().clone());
                self.backoff.succeeded();
                self.failed = None;
                if !session.has_ended() {
                    self.current = Current::Standing(session);
                }
            }
            Some(Err(Failed { at, error })) => {
                self.failed = Some((at + self.backoff.failed(backoff::random()), error));
            }
            None => {}
        }
    }

    fn check_backoff(&self, now: Instant) -> Result<(), SamError> {
        match &self.failed {
            Some((until, error)) if *until > now => {
                Err(SamError::Backoff { left: *until - now, source: Arc::clone(error) })
            }
            _ => Ok(()),
        }
    }

    fn create(&mut self, bridge: &Arc<Bridge>) -> watch::Receiver<Option<Outcome>> {
        let (sender, outcome) = watch::channel(None);
        let (bridge, destination) = (Arc::clone(bridge), self.destination.clone());
        let task = tokio::spawn(async move {
            let created = Session::create(&bridge, &destination).await;
            let failed = |error| Failed { at: Instant::now(), error: Arc::new(error) };
            sender.send_replace(Some(created.map_err(failed)));
        });
        self.current = Current::Creating { outcome: outcome.clone(), _task: AbortOnDropHandle::new(task) };
        outcome
    }
}
