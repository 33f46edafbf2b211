//! Connections that are kept for later requests.
//!
//! `hyper_util::client::pool` has layers for keys, for a cache and for one shared connection. They keep no ages and no order
//! across keys: connections are dropped only by a predicate that visits each. This pool finds the oldest connection, also
//! that of a unit, whenever another needs its room, and hands out connections by what they lead to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::HttpConfig;
use super::connection::{Connection, ConnectionId};
use super::target::Origin;
use crate::audit::Recording;
use crate::deadline::Deadline;
use crate::dialer::Dialer;
use crate::isolation::{Isolation, IsolationKey};
use crate::limits::{IdlePool, Limits, Unit};
use crate::registry::Registered;

/// What connections are pooled by. A connection is used by requests with its key alone. The unit is a part of it: the
/// connection counts for the unit that made it, and its presence would show other units what this one does.
#[derive(Clone)]
pub(crate) struct PoolKey(Arc<Owner>);

struct Owner {
    /// The network in its key, which says the route, too. It is not kept alive, and its address is not taken by
    /// another as long as this is there.
    network: Weak<Registered>,
    retired: CancellationToken,
    isolation: Option<IsolationKey>,
    unit: Unit,
    origin: Origin,
    /// The runtime that drives the connection. The connection makes no progress while that does not run.
    runtime: runtime::Id,
}

impl PoolKey {
    /// The key of connections to `origin` that `dialer` makes through `registered`. Returns nothing if no two of them may be
    /// linked.
    pub(crate) fn new(registered: &Arc<Registered>, dialer: &Dialer, origin: &Origin) -> Option<Self> {
        let isolation = match (registered.isolation(), dialer.isolation()) {
            (Isolation::ByKey, None) => return None,
            (Isolation::ByKey | Isolation::None, isolation) => isolation.cloned(),
        };
        let (network, retired) = (Arc::downgrade(registered), registered.retired.clone());
        let (unit, origin) = (dialer.unit().clone(), origin.clone());
        let runtime = Handle::current().id();
        Some(Self(Arc::new(Owner { network, retired, isolation, unit, origin, runtime })))
    }
}

impl PartialEq for PoolKey {
    fn eq(&self, other: &Self) -> bool {
        let (this, that) = (&*self.0, &*other.0);
        std::ptr::eq(this, that)
            || this.network.ptr_eq(&that.network)
                && this.isolation == that.isolation
                && this.unit == that.unit
                && this.origin == that.origin
                && this.runtime == that.runtime
    }
}

impl Eq for PoolKey {}

impl Hash for PoolKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Owner { network, retired: _, isolation, unit, origin, runtime } = &*self.0;
        network.as_ptr().hash(state);
        (isolation, unit, origin, runtime).hash(state);
    }
}

/// All connections that a client keeps.
pub(crate) struct Pool {
    /// Known once there is a connection, unless it was set.
    max_idle: OnceLock<usize>,
    max_idle_per_host: usize,
    idle_timeout: Duration,
    table: Mutex<PoolTable>,
}

#[derive(Default)]
struct PoolTable {
    last: Id,
    /// By when it was parked.
    order: BTreeMap<Id, PoolKey>,
    /// For each key, the connection that was parked last is the last.
    parked: HashMap<PoolKey, Vec<Parked>>,
    /// Those of each unit.
    units: HashMap<Unit, BTreeSet<Id>>,
}

type Id = u64;

struct Parked {
    id: Id,
    /// Since when it waits.
    since: Instant,
    connection: Connection,
}

impl Parked {
    /// Whether a request can take it that a public host has redirected, if it is one.
    fn is_fit(&self, is_from_public: bool) -> bool {
        !is_from_public || self.connection.reach().is_open_to_redirects()
    }
}

/// Which connections a request can go over.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Any,
    /// Those that carry several requests at a time.
    Shared,
    /// Those that carry one.
    Own,
}

impl Wanted {
    const fn includes(self, connection: &Connection) -> bool {
        match self {
            Self::Any => true,
            Self::Shared => connection.is_shared(),
            Self::Own => !connection.is_shared(),
        }
    }
}

impl Pool {
    pub(crate) fn new(config: &HttpConfig) -> Self {
        let max_idle = config.max_idle.map_or_else(OnceLock::new, OnceLock::from);
        let (max_idle_per_host, idle_timeout) = (config.max_idle_per_host, config.idle_timeout);
        Self { max_idle, max_idle_per_host, idle_timeout, table: Mutex::default() }
    }

    /// Closes connections from now on where others need room within `limits`. Unless it was set, a quarter of what these
    /// allow is kept at most.
    pub(crate) fn attach(self: &Arc<Self>, limits: &Limits) {
        self.max_idle.get_or_init(|| limits.connections() / 4);
        limits.attach(self);
    }

    /// A connection that waits of `key`. One that carries several requests at a time stays there, too. A request that
    /// a public host has redirected gets none that leads to a special address: it would not be made for it.
    pub(crate) fn take(&self, key: &PoolKey, is_from_public: bool) -> Option<Connection> {
        self.take_if(key, is_from_public, Wanted::Any)
    }

    /// The same, of connections that carry one request at a time.
    pub(crate) fn take_own(&self, key: &PoolKey, is_from_public: bool) -> Option<Connection> {
        self.take_if(key, is_from_public, Wanted::Own)
    }

    /// The same, of connections that carry several requests at a time.
    pub(crate) fn take_shared(&self, key: &PoolKey, is_from_public: bool) -> Option<Connection> {
        self.take_if(key, is_from_public, Wanted::Shared)
    }

    /// Keeps none of the connections of `key` that such a request cannot take. Those that are used go on until they are not.
    pub(crate) fn release_unfit(&self, key: &PoolKey, is_from_public: bool) {
        self.release(key, |parked| !parked.is_fit(is_from_public));
    }

    /// Keeps none of the connections of `key`. Those that are used go on until they are not.
    pub(crate) fn release_all(&self, key: &PoolKey) {
        self.release(key, |_| true);
    }

    fn release(&self, key: &PoolKey, is_released: impl Fn(&Parked) -> bool) {
        let mut table = self.table();
        let here = table.parked.get(key).into_iter().flatten();
        let ids: Vec<_> = here.filter(|parked| is_released(parked)).map(|parked| parked.id).collect();
        let released: Vec<_> = ids.into_iter().filter_map(|id| table.remove(id)).collect();
        drop(table);
        released.into_iter().for_each(Connection::close);
    }

    fn take_if(&self, key: &PoolKey, is_from_public: bool, wanted: Wanted) -> Option<Connection> {
        let mut table = self.table();
        loop {
            let parked = table.last_in(key, is_from_public, wanted)?;
            let id = parked.id;
            let shared = parked.connection.share().filter(Connection::is_ready);
            if let Some(shared) = shared {
                table.touch(key, id);
                return Some(shared);
            }
            let taken = table.remove(id)?;
            if taken.is_ready() {
                return Some(taken);
            }
        }
    }

    /// Keeps `connection`, which is [watched](Self::watch), until a request takes it or there are too many.
    pub(crate) fn park(&self, key: &PoolKey, connection: Connection) {
        let since = Instant::now();
        let max_idle = self.max_idle.get().copied().unwrap_or(0);
        let mut table = self.table();
        let is_spare = connection.is_shared() && table.has_shared(key);
        // Asked while the table is locked, so that the watcher either finds the connection here or was first.
        let is_kept = connection.is_ready() && !key.0.retired.is_cancelled();
        if !is_kept || is_spare || max_idle == 0 || self.max_idle_per_host == 0 {
            return;
        }
        let surplus_here = table.insert(key, connection, since, self.max_idle_per_host);
        let surplus = surplus_here.or_else(|| table.surplus(max_idle, &key.0.unit));
        let closed = surplus.and_then(|id| table.remove(id));
        drop(table);
        if let Some(closed) = closed {
            closed.close();
        }
    }

    /// Closes `connection`, which the current runtime drives, when it has waited of `key` for too long, its network
    /// is retired, or no further request is to go over it.
    ///
    /// There is one task for this as long as the connection is open, and not one each time it waits.
    pub(crate) fn watch(self: &Arc<Self>, key: &PoolKey, connection: &Connection) {
        let (retired, spent) = (key.0.retired.clone(), connection.spent().clone());
        let (mut left, idle_timeout) = (self.idle_timeout, self.idle_timeout);
        let watch =
            IdleWatch { pool: Arc::downgrade(self), key: key.clone(), identity: connection.identity() };
        tokio::spawn(async move {
            let expired = async {
                loop {
                    tokio::time::sleep(left).await;
                    match watch.time_left(idle_timeout) {
                        Some(longer) => left = longer,
                        None => return,
                    }
                }
            };
            retired.run_until_cancelled(spent.run_until_cancelled(expired)).await;
        });
    }

    fn table(&self) -> MutexGuard<'_, PoolTable> {
        // Nothing in here panics in the middle of a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches a connection. When it is dropped, with the runtime that drives the connection at the latest, the connection
/// is not kept any more.
struct IdleWatch {
    pool: Weak<Pool>,
    key: PoolKey,
    identity: ConnectionId,
}

impl IdleWatch {
    /// How long the connection may still wait, at least. If it has waited for `idle_timeout` it is closed, and nothing
    /// is returned.
    fn time_left(&self, idle_timeout: Duration) -> Option<Duration> {
        let pool = self.pool.upgrade()?;
        let mut table = pool.table();
        let Some(parked) = table.find(&self.key, &self.identity) else { return Some(idle_timeout) };
        let left = idle_timeout.saturating_sub(parked.since.elapsed());
        if !left.is_zero() {
            return Some(left);
        }
        let id = parked.id;
        let expired = table.remove(id);
        drop(table);
        drop(expired);
        None
    }
}

impl Drop for IdleWatch {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut table = pool.table();
        let id = table.find(&self.key, &self.identity).map(|parked| parked.id);
        let removed = id.and_then(|id| table.remove(id));
        drop(table);
        drop(removed);
    }
}

impl IdlePool for Pool {
    fn close_oldest(&self, unit: Option<&Unit>) -> bool {
        let mut table = self.table();
        let oldest = match unit {
            Some(unit) => {
                table.units.get(unit).and_then(|ids| ids.iter().copied().find(|&id| table.is_idle(id)))
            }
            None => table.order.keys().copied().find(|&id| table.is_idle(id)),
        };
        let closed = oldest.and_then(|id| table.remove(id));
        drop(table);
        closed.map(Connection::close).is_some()
    }

    fn len(&self) -> usize {
        self.table().order.len()
    }
}

impl PoolTable {
    /// The connection that makes room for another one of `unit`, if there are more than `max`: the oldest of a unit that
    /// has more than its even share, and of this one rather than of another.
    fn surplus(&self, max: usize, unit: &Unit) -> Option<Id> {
        if self.order.len() <= max {
            return None;
        }
        let share = max / self.units.len().max(1);
        let own = self.units.get(unit).filter(|ids| ids.len() > share);
        own.and_then(BTreeSet::first).copied().or_else(|| {
            let has_more = |key: &PoolKey| self.units.get(&key.0.unit).is_some_and(|ids| ids.len() > share);
            self.order.iter().find_map(|(id, key)| has_more(key).then_some(*id))
        })
    }

    fn is_idle(&self, id: Id) -> bool {
        let here = self.order.get(&id).and_then(|key| self.parked.get(key));
        here.into_iter().flatten().any(|parked| parked.id == id && parked.connection.is_idle())
    }

    /// The connection of `key` that was parked last, of those that a request may use.
    fn last_in(&self, key: &PoolKey, is_from_public: bool, wanted: Wanted) -> Option<&Parked> {
        let is_wanted =
            |parked: &&Parked| wanted.includes(&parked.connection) && parked.is_fit(is_from_public);
        self.parked.get(key)?.iter().rfind(is_wanted)
    }

    fn find(&self, key: &PoolKey, identity: &ConnectionId) -> Option<&Parked> {
        self.parked.get(key)?.iter().find(|parked| parked.connection.is(identity))
    }

    /// Adds `connection`. Returns which of the key is too many, if there are more than `max`.
    fn insert(&mut self, key: &PoolKey, connection: Connection, since: Instant, max: usize) -> Option<Id> {
        self.last += 1;
        let id = self.last;
        self.order.insert(id, key.clone());
        self.add_to_unit(&key.0.unit, id);
        let slot = (!connection.is_shared()).then(|| connection.slot().clone());
        let here = self.parked.entry(key.clone()).or_default();
        here.push(Parked { id, since, connection });
        // The next request for the key finds it there.
        if let Some(slot) = slot {
            slot.release();
        }
        (here.len() > max).then(|| here[0].id)
    }

    /// The connection that is parked as `id` of `key` begins to wait anew.
    fn touch(&mut self, key: &PoolKey, id: Id) {
        let new = if id == self.last { id } else { self.last + 1 };
        let Some(here) = self.parked.get_mut(key) else { return };
        let Some(index) = here.iter().position(|parked| parked.id == id) else { return };
        here[index].since = Instant::now();
        if new == id {
            return;
        }
        self.last = new;
        here[index].id = new;
        here[index..].rotate_left(1);
        if let Some(key) = self.order.remove(&id) {
            self.order.insert(new, key);
        }
        if let Some(ids) = self.units.get_mut(&key.0.unit) {
            ids.remove(&id);
            ids.insert(new);
        }
    }

    fn add_to_unit(&mut self, unit: &Unit, id: Id) {
        if let Some(ids) = self.units.get_mut(unit) {
            ids.insert(id);
        } else {
            self.units.insert(unit.clone(), BTreeSet::from([id]));
        }
    }

    fn remove(&mut self, id: Id) -> Option<Connection> {
        let key = self.order.remove(&id)?;
        if let Some(ids) = self.units.get_mut(&key.0.unit) {
            ids.remove(&id);
            if ids.is_empty() {
                self.units.remove(&key.0.unit);
            }
        }
        let here = self.parked.get_mut(&key)?;
        let index = here.iter().position(|parked| parked.id == id)?;
        let removed = here.remove(index);
        if here.is_empty() {
            self.parked.remove(&key);
        }
        Some(removed.connection)
    }

    fn has_shared(&self, key: &PoolKey) -> bool {
        let here = self.parked.get(key).into_iter().flatten();
        here.map(|parked| &parked.connection)
            .any(|connection| connection.is_ready() && connection.is_shared())
    }
}

/// A connection in use. Dropping it closes the connection, unless that carries other requests.
pub(crate) struct Lease {
    pub(crate) connection: Connection,
    /// Where it is parked afterwards.
    home: Option<LeaseHome>,
    /// The record of the request, which ends with the lease.
    pub(crate) recording: Recording,
}

struct LeaseHome {
    pool: Weak<Pool>,
    key: PoolKey,
    /// The runtime that drives the connection. The response may be read in another one, which may end before the connection
    /// does. The pool does not keep the handle: that would hold the files of runtimes that have ended.
    runtime: Handle,
}

impl LeaseHome {
    fn park(&self, connection: Connection) {
        if let Some(pool) = self.pool.upgrade() {
            pool.park(&self.key, connection);
        }
    }
}

impl Lease {
    /// A lease of what the current runtime drives.
    pub(crate) fn new(
        connection: Connection,
        home: Option<(&Arc<Pool>, PoolKey)>,
        recording: Recording,
    ) -> Self {
        let home = home.map(|(pool, key)| {
            let (pool, runtime) = (Arc::downgrade(pool), Handle::current());
            LeaseHome { pool, key, runtime }
        });
        Self { connection, home, recording }
    }

    /// The response is not wanted, or failed. The connection is closed, unless it carries requests of others, and does not
    /// count any more.
    pub(crate) fn close(self) {
        self.connection.close();
    }

    /// The response is whole. The connection can serve another request, which is not to be waited for longer than
    /// `limit`: a server may answer before it has got the whole request.
    pub(crate) fn finish(self, limit: Deadline) {
        let Self { mut connection, home, recording } = self;
        drop(recording);
        // A connection that is shared is parked while it is used.
        let Some(home) = home.filter(|_| !connection.is_shared()) else { return };
        if connection.is_ready() {
            return home.park(connection);
        }
        home.runtime.clone().spawn(async move {
            if let Ok(true) = limit.timeout(connection.ready()).await {
                home.park(connection);
            }
        });
    }
}
