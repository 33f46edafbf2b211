//! Which requests may make a connection, and when.
//!
//! *Gates.* Whether a server speaks HTTP/2 is known once TLS is done. Until then, of all requests that share connections,
//! one makes a connection and the others wait. If it speaks HTTP/2 they share it. Otherwise each makes its own.
//!
//! *The limit of connections to one host.* It applies to each key of the pool, so that no unit, network or isolation key
//! waits for another. A connection of HTTP/1.1 holds a permit while a request uses it, and one of HTTP/2 for as long as it
//! is open. So while no request of HTTP/1.1 waits, idle connections may hold no permit; one is made only if no idle one is
//! left.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::PoolKey;

/// How many origins are known to speak HTTP/1.1. Beyond that all are forgotten, which costs a wait.
const MAX_KNOWN: usize = 1024;

/// The origins that are being connected to, and those that speak HTTP/1.1.
#[derive(Default)]
pub(crate) struct Gates {
    table: Mutex<HashMap<PoolKey, Gate>>,
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
    /// Waits until the protocol of the origin of `key` is known, or until this request may find out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets another request find out.
    pub(crate) async fn enter<'a>(&'a self, key: &'a PoolKey) -> Option<GatePass<'a>> {
        let new = || Gate::Opening { permits: Arc::new(Semaphore::new(1)), requests: 0 };
        let permits = match self.table().entry(key.clone()).or_insert_with(new) {
            Gate::Opening { permits, requests } => {
                *requests += 1;
                Arc::clone(permits)
            }
            Gate::Http1 => return None,
        };
        let mut pass = GatePass { gates: self, key, permits, permit: None };
        pass.permit = Some(Arc::clone(&pass.permits).acquire_owned().await.ok()?);
        Some(pass)
    }

    /// Notes which protocol the origin of `key` speaks.
    pub(crate) fn learn(&self, key: &PoolKey, is_http2: bool) {
        let mut table = self.table();
        if table.len() >= MAX_KNOWN {
            table.retain(|_, gate| matches!(gate, Gate::Opening { .. }));
        }
        let before = if is_http2 { table.remove(key) } else { table.insert(key.clone(), Gate::Http1) };
        if let Some(Gate::Opening { permits, .. }) = before {
            permits.close();
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<PoolKey, Gate>> {
        // Nothing in here panics in the middle of a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is at a gate. It makes a connection while it holds the permit.
pub(crate) struct GatePass<'a> {
    gates: &'a Gates,
    key: &'a PoolKey,
    permits: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl GatePass<'_> {
    /// The connection could not be made. Each failure lets twice as many requests try, so that a server that fails
    /// slowly holds up few, and a server that fails at once is not flooded.
    pub(crate) fn failed(self) {
        self.permits.add_permits(1);
    }
}

impl Drop for GatePass<'_> {
    fn drop(&mut self) {
        self.permit = None;
        let mut table = self.gates.table();
        let Entry::Occupied(mut entry) = table.entry(self.key.clone()) else { return };
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

/// The limit of connections to one host, and the permits of all keys.
#[derive(Default)]
pub(crate) struct HostLimit {
    max: Option<NonZeroUsize>,
    table: Arc<HostTable>,
}

/// The keys with connections in use. Others have all their permits.
#[derive(Default)]
struct HostTable(Mutex<HashMap<PoolKey, Arc<Semaphore>>>);

impl HostTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<PoolKey, Arc<Semaphore>>> {
        // Nothing in here panics in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostLimit {
    pub(crate) fn new(max: Option<NonZeroUsize>) -> Self {
        Self { max, table: Arc::default() }
    }

    /// How many connections there may be.
    pub(crate) const fn max(&self) -> Option<NonZeroUsize> {
        self.max
    }

    /// Takes a permit for a connection of `key`, unless requests wait for one.
    pub(crate) fn try_acquire(&self, key: &PoolKey) -> Option<HostPermit> {
        let Some(mut queued) = self.queued(key) else { return Some(HostPermit::unlimited()) };
        queued.permit = Some(Arc::clone(&queued.semaphore).try_acquire_owned().ok()?);
        Some(HostPermit { _queued: Some(queued) })
    }

    /// Waits for a permit for a connection of `key`. Permits are given in the order in which they are asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue.
    pub(crate) async fn acquire(&self, key: &PoolKey) -> HostPermit {
        let Some(mut queued) = self.queued(key) else { return HostPermit::unlimited() };
        // It is never closed.
        queued.permit = Arc::clone(&queued.semaphore).acquire_owned().await.ok();
        HostPermit { _queued: Some(queued) }
    }

    fn queued(&self, key: &PoolKey) -> Option<QueuedPermit> {
        let max = self.max?.get().min(Semaphore::MAX_PERMITS);
        let mut table = self.table.lock();
        let semaphore = table.entry(key.clone()).or_insert_with(|| Arc::new(Semaphore::new(max)));
        let semaphore = Arc::clone(semaphore);
        drop(table);
        Some(QueuedPermit { table: Arc::clone(&self.table), key: key.clone(), semaphore, permit: None })
    }
}

/// A permit for one connection, or for any number if there is no limit.
pub(crate) struct HostPermit {
    _queued: Option<QueuedPermit>,
}

impl HostPermit {
    /// A permit that limits nothing: there is no limit, the connection must not be linked to others, or nothing uses it.
    pub(crate) const fn unlimited() -> Self {
        Self { _queued: None }
    }
}

/// A request in the queue, and once it has a permit its connection.
struct QueuedPermit {
    table: Arc<HostTable>,
    key: PoolKey,
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for QueuedPermit {
    fn drop(&mut self) {
        /// The handle of the table, and this one.
        const UNUSED: usize = 2;
        self.permit = None;
        let mut table = self.table.lock();
        if Arc::strong_count(&self.semaphore) <= UNUSED {
            table.remove(&self.key);
        }
    }
}

/// The permit of a connection. Its stream holds it, too, so that it is given back after the stream is closed.
#[derive(Clone)]
pub(crate) struct HostSlot(Arc<Mutex<HostPermit>>);

impl HostSlot {
    pub(crate) fn new(permit: HostPermit) -> Self {
        Self(Arc::new(Mutex::new(permit)))
    }

    /// Holds `permit` while a request uses the connection.
    pub(crate) fn hold(&self, permit: HostPermit) {
        self.replace(permit);
    }

    /// Returns the permit: no request uses the connection.
    pub(crate) fn release(&self) {
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
