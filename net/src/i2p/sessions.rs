//! The session that all connections of a network share, and when it is tried again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::DriverError;
use crate::i2p::LocalDestination;
use crate::i2p::bridge::Bridge;
use crate::i2p::destination::PrivateKey;
use crate::i2p::error::SamError;
use crate::i2p::session::Session;

/// The session of a network.
pub(super) struct Sessions {
    bridge: Arc<Bridge>,
    state: Arc<Mutex<SharedSession>>,
}

struct SharedSession {
    current: Current,
    /// Where the last session was, and most often the next will be.
    last: Option<LastDestination>,
    is_listening: bool,
    backoff: Backoff,
    /// Until when no session is created, and why the last one was not.
    failed: Option<(Instant, Arc<DriverError>)>,
}

enum Current {
    None,
    /// A task creates it, which nobody who waits for it can spoil by going away. It does not hold what holds it here.
    Creating {
        outcome: watch::Receiver<Option<Outcome>>,
        task: AbortOnDropHandle<()>,
    },
    /// The task waits until it is not to be held any more.
    Standing {
        session: Arc<Session>,
        _task: AbortOnDropHandle<()>,
    },
}

/// Where a session was, and the way to the bridge that it was created on.
#[derive(Clone)]
struct LastDestination {
    key: PrivateKey,
    way: CancellationToken,
}

type Outcome = Result<Arc<Session>, Failed>;

#[derive(Clone)]
struct Failed {
    at: Instant,
    error: Arc<DriverError>,
}

impl Sessions {
    pub(super) fn new(bridge: Bridge) -> Self {
        let state = SharedSession {
            current: Current::None,
            last: None,
            is_listening: false,
            backoff: Backoff::default(),
            failed: None,
        };
        Self { bridge: Arc::new(bridge), state: Arc::new(Mutex::new(state)) }
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
                Current::Standing { session, .. } => return Ok(Arc::clone(session)),
                Current::Creating { outcome, .. } => outcome.clone(),
                Current::None => {
                    state.check_backoff(Instant::now())?;
                    self.create(&mut state)
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
        let mut state = self.state();
        if state.is_listening {
            return Err(SamError::AlreadyListening);
        }
        state.settle();
        // Nobody was told yet of a place that has to stay.
        state.last.take_if(|last| last.way.is_cancelled());
        state.is_listening = true;
        drop(state);
        Ok(Listening(Arc::clone(self)))
    }

    fn create(&self, state: &mut SharedSession) -> watch::Receiver<Option<Outcome>> {
        let (sender, outcome) = watch::channel(None);
        let (bridge, last, is_listening) = (Arc::clone(&self.bridge), state.last.clone(), state.is_listening);
        let held_here = Arc::downgrade(&self.state);
        let task = tokio::spawn(async move {
            let destination = || match &last {
                // A listener says where it is reached, and that has to stay true. Otherwise a destination is not
                // heard of on two ways, which would tie them together.
                Some(last) if is_listening || !last.way.is_cancelled() => {
                    LocalDestination::PrivateKey(last.key.clone())
                }
                _ => bridge.config.destination.clone(),
            };
            let created = Session::create(&bridge, destination).await;
            let way = created.as_ref().ok().map(|session| session.way().clone());
            let failed = |error| Failed { at: Instant::now(), error: Arc::new(error) };
            sender.send_replace(Some(created.map_err(failed)));
            // It holds the session, too.
            drop(sender);
            let Some(way) = way else { return };
            way.cancelled().await;
            if let Some(state) = held_here.upgrade() {
                lock(&state).settle();
            }
        });
        state.current = Current::Creating { outcome: outcome.clone(), task: AbortOnDropHandle::new(task) };
        outcome
    }

    fn state(&self) -> MutexGuard<'_, SharedSession> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<SharedSession>) -> MutexGuard<'_, SharedSession> {
    // Nothing in here panics half-way.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The claim to be the listener, given back when it is dropped.
pub(super) struct Listening(Arc<Sessions>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.state().is_listening = false;
    }
}

impl SharedSession {
    /// Takes notice of a session that is created by now, or not, or over.
    fn settle(&mut self) {
        self.current = match std::mem::replace(&mut self.current, Current::None) {
            Current::Creating { outcome, task } => {
                // Asked before the outcome is: that is there as soon as the sender is gone.
                let is_under_way = outcome.has_changed().is_ok();
                let value = outcome.borrow().clone();
                match value {
                    None if is_under_way => Current::Creating { outcome, task },
                    None => Current::None,
                    Some(Ok(session)) => {
                        self.last =
                            Some(LastDestination { key: session.key().clone(), way: session.way().clone() });
                        self.backoff.succeeded();
                        self.failed = None;
                        Current::Standing { session, _task: task }
                    }
                    Some(Err(Failed { at, error })) => {
                        self.failed = Some((at + self.backoff.failed(random()), error));
                        Current::None
                    }
                }
            }
            current => current,
        };
        if matches!(&self.current, Current::Standing { session, .. } if session.has_ended()) {
            self.current = Current::None;
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
}

/// Doubles the time between attempts with every failure in a row, from half a second to a minute. Of each time
/// between half and the whole is taken, at random: many that failed together do not come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    /// The longest time between two attempts.
    pub(super) const LONGEST: Duration = Duration::from_mins(1);

    /// How long to wait after one more failure. `random` decides where between half and the whole time this is.
    pub(super) fn failed(&mut self, random: u16) -> Duration {
        let doubled = Self::FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let half = doubled.min(Self::LONGEST) / 2;
        half + half * u32::from(random) / u32::from(u16::MAX)
    }

    /// The next failure is the first one again.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// A random number for [`Backoff::failed`]. Where there is none, all wait as long.
pub(super) fn random() -> u16 {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_or(u16::MAX, |()| u16::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_minute_and_starts_again() {
        let mut backoff = Backoff::default();
        let millis: Vec<_> = (0..10).map(|_| backoff.failed(u16::MAX).as_millis()).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        backoff.failures = u32::MAX;
        assert_eq!(backoff.failed(u16::MAX).as_secs(), 60);
        backoff.succeeded();
        assert_eq!(backoff.failed(0).as_millis(), 250);
        assert_eq!(backoff.failed(0).as_millis(), 500);
        assert!((500..=1000).contains(&{
            backoff.succeeded();
            backoff.failed(0);
            backoff.failed(random()).as_millis()
        }));
    }
}
