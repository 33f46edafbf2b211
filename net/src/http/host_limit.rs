//! How many connections there are to one host at a time.
//!
//! The limit is for each place of the pool, so that no unit, network or isolation key waits for another. A connection of
//! HTTP/1.1 holds a permit while a request uses it, and one of HTTP/2 for as long as it is open. So while no request of
//! HTTP/1.1 waits, idle connections may hold no permit; one is made only if no idle one is left.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::Place;

/// The permits of all places.
#[derive(Default)]
pub(super) struct HostLimit {
    max: Option<NonZeroUsize>,
    table: Arc<Table>,
}

/// The places where connections are in use. Others have all their permits.
#[derive(Default)]
struct Table(Mutex<HashMap<Place, Arc<Semaphore>>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Arc<Semaphore>>> {
        // Nothing in here panics in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostLimit {
    pub(super) fn new(max: Option<NonZeroUsize>) -> Self {
        Self { max, table: Arc::default() }
    }

    /// How many connections there may be.
    pub(super) const fn max(&self) -> Option<NonZeroUsize> {
        self.max
    }

    /// Takes a permit for a connection in `place`, unless requests wait for one.
    pub(super) fn try_acquire(&self, place: &Place) -> Option<HostPermit> {
        let Some(mut turn) = self.turn(place) else { return Some(HostPermit::unlimited()) };
        turn.permit = Some(Arc::clone(&turn.semaphore).try_acquire_owned().ok()?);
        Some(HostPermit { _turn: Some(turn) })
    }

    /// Waits for a permit for a connection in `place`. Permits are given in the order in which they are asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue.
    pub(super) async fn acquire(&self, place: &Place) -> HostPermit {
        let Some(mut turn) = self.turn(place) else { return HostPermit::unlimited() };
        // It is never closed.
        turn.permit = Arc::clone(&turn.semaphore).acquire_owned().await.ok();
        HostPermit { _turn: Some(turn) }
    }

    fn turn(&self, place: &Place) -> Option<Turn> {
        let max = self.max?.get().min(Semaphore::MAX_PERMITS);
        let mut table = self.table.lock();
        let semaphore = table.entry(place.clone()).or_insert_with(|| Arc::new(Semaphore::new(max)));
        let semaphore = Arc::clone(semaphore);
        drop(table);
        Some(Turn { table: Arc::clone(&self.table), place: place.clone(), semaphore, permit: None })
    }
}

/// A permit for one connection, or for any number if there is no limit.
pub(super) struct HostPermit {
    _turn: Option<Turn>,
}

impl HostPermit {
    /// Limits nothing: there is no limit, or the connection must not be seen to belong with others, or nothing uses it.
    pub(super) const fn unlimited() -> Self {
        Self { _turn: None }
    }
}

/// A request in the queue, and once it has a permit its connection.
struct Turn {
    table: Arc<Table>,
    place: Place,
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        /// The handle of the table, and this one.
        const UNUSED: usize = 2;
        self.permit = None;
        let mut table = self.table.lock();
        if Arc::strong_count(&self.semaphore) <= UNUSED {
            table.remove(&self.place);
        }
    }
}

/// The permit of a connection. Its stream holds it, too, so that it is given back after the stream is closed.
#[derive(Clone)]
pub(super) struct HostSlot(Arc<Mutex<HostPermit>>);

impl HostSlot {
    pub(super) fn new(permit: HostPermit) -> Self {
        Self(Arc::new(Mutex::new(permit)))
    }

    /// A request uses the connection from now on.
    pub(super) fn occupy(&self, permit: HostPermit) {
        self.replace(permit);
    }

    /// No request uses the connection any more.
    pub(super) fn vacate(&self) {
        self.replace(HostPermit::unlimited());
    }

    fn replace(&self, permit: HostPermit) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, permit);
        drop(current);
        drop(before);
    }
}

impl fmt::Debug for HostSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostSlot").finish_non_exhaustive()
    }
}
