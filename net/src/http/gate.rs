//! One connection for the first requests to an origin of HTTP/2.
//!
//! Whether a server speaks HTTP/2 is known once TLS is done. Until then, of all requests that share connections, one
//! makes a connection and the others wait. If it speaks HTTP/2 they share it. Otherwise each makes its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::Place;

/// How many origins are known to speak HTTP/1.1. Beyond that all are forgotten, which costs a wait.
const MAX_KNOWN: usize = 1024;

/// The origins that are being connected to, and those that speak HTTP/1.1.
#[derive(Default)]
pub(super) struct Gates {
    table: Mutex<HashMap<Place, Gate>>,
}

enum Gate {
    Opening {
        /// Has a permit for each request that may make a connection. It is closed when the protocol is known.
        permits: Arc<Semaphore>,
        /// How many requests are at the gate.
        requests: usize,
    },
    Http1,
}

impl Gates {
    /// Waits until the protocol of the origin in `place` is known, or until it is this request's turn to find out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the turn to another request.
    pub(super) async fn enter<'a>(&'a self, place: &'a Place) -> Option<Turn<'a>> {
        let new = || Gate::Opening { permits: Arc::new(Semaphore::new(1)), requests: 0 };
        let permits = match self.table().entry(place.clone()).or_insert_with(new) {
            Gate::Opening { permits, requests } => {
                *requests += 1;
                Arc::clone(permits)
            }
            Gate::Http1 => return None,
        };
        let mut turn = Turn { gates: self, place, permits, permit: None };
        turn.permit = Some(Arc::clone(&turn.permits).acquire_owned().await.ok()?);
        Some(turn)
    }

    /// Notes which protocol the origin in `place` speaks.
    pub(super) fn learn(&self, place: &Place, is_http2: bool) {
        let mut table = self.table();
        if table.len() >= MAX_KNOWN {
            table.retain(|_, gate| matches!(gate, Gate::Opening { .. }));
        }
        let before = if is_http2 { table.remove(place) } else { table.insert(place.clone(), Gate::Http1) };
        if let Some(Gate::Opening { permits, .. }) = before {
            permits.close();
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Place, Gate>> {
        // Nothing in here panics in the middle of a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is at a gate. With a permit it may make a connection.
pub(super) struct Turn<'a> {
    gates: &'a Gates,
    place: &'a Place,
    permits: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turn<'_> {
    /// The connection could not be made. Each failure lets twice as many requests try, so that a server that fails
    /// slowly holds up few, and a server that fails at once is not flooded.
    pub(super) fn failed(self) {
        self.permits.add_permits(1);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.permit = None;
        let mut table = self.gates.table();
        let Entry::Occupied(mut entry) = table.entry(self.place.clone()) else { return };
        if let Gate::Opening { permits, requests } = entry.get_mut()
            && Arc::ptr_eq(permits, &self.permits)
        {
            *requests -= 1;
            if *requests == 0 {
                entry.remove();
            }
        }
    }
}
