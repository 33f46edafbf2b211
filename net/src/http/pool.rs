//! Connections that are kept for later requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::config::HttpConfig;
use super::connection::Connection;
use super::target::Origin;
use crate::deadline::Deadline;
use crate::dialer::Dialer;
use crate::isolation::{Isolation, IsolationKey};
use crate::limits::{Keeper, Limits, Unit};
use crate::registered::Registered;

/// Whose a connection is. Nobody else gets it, and no other unit: it counts for the one that made it, and whether there is
/// one would tell another unit what this one does.
#[derive(Clone)]
pub(super) struct Place {
    /// The network in its place, which says the route, too. It is not kept alive, and its address is not taken by
    /// another as long as this is there.
    network: Weak<Registered>,
    retired: CancellationToken,
    isolation: Option<IsolationKey>,
    unit: Unit,
    origin: Origin,
    /// What drives the connection. While nobody runs that, the connection stands still.
    runtime: runtime::Id,
}

impl Place {
    /// Where connections to `origin` are kept that `dialer` makes through `registered`. There is none where no two of
    /// them may be seen to belong together.
    pub(super) fn new(registered: &Arc<Registered>, dialer: &Dialer, origin: &Origin) -> Option<Self> {
        let isolation = match (registered.isolation(), dialer.isolation()) {
            (Isolation::ByKey, None) => return None,
            (Isolation::ByKey | Isolation::None, isolation) => isolation.cloned(),
        };
        let (network, retired) = (Arc::downgrade(registered), registered.retired.clone());
        let runtime = Handle::current().id();
        let unit = dialer.unit().clone();
        Some(Self { network, retired, isolation, unit, origin: origin.clone(), runtime })
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.network.ptr_eq(&other.network)
            && self.isolation == other.isolation
            && self.unit == other.unit
            && self.origin == other.origin
            && self.runtime == other.runtime
    }
}

impl Eq for Place {}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.network.as_ptr().hash(state);
        self.isolation.hash(state);
        self.unit.hash(state);
        self.origin.hash(state);
        self.runtime.hash(state);
    }
}

/// All connections that a client keeps.
pub(super) struct Pool {
    /// Known once there is a connection, unless it was set.
    max_idle: OnceLock<usize>,
    max_idle_per_host: usize,
    idle_timeout: Duration,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: Id,
    /// By when it was parked.
    order: BTreeMap<Id, Place>,
    /// In each place the connection that was parked last is the last.
    places: HashMap<Place, Vec<Parked>>,
    /// Those of each unit.
    units: HashMap<Unit, BTreeSet<Id>>,
}

type Id = u64;

struct Parked {
    id: Id,
    connection: Connection,
    _watch: Watch,
}

impl Parked {
    /// Whether a request can take it that a public host has redirected, if it is one.
    fn is_fit(&self, is_from_public: bool) -> bool {
        !is_from_public || self.connection.reach().is_open_to_redirects()
    }
}

/// The task that waits for the end of a connection that is parked. It is over when the connection is taken.
struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pool {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let max_idle = config.max_idle.map_or_else(OnceLock::new, OnceLock::from);
        let (max_idle_per_host, idle_timeout) = (config.max_idle_per_host, config.idle_timeout);
        Self { max_idle, max_idle_per_host, idle_timeout, table: Mutex::default() }
    }

    /// Closes connections from now on where others need room within `limits`. Unless it was set, a quarter of what these
    /// allow is kept at most.
    pub(super) fn attach(self: &Arc<Self>, limits: &Limits) {
        self.max_idle.get_or_init(|| limits.connections() / 4);
        limits.attach(self);
    }

    /// A connection that waits in `place`. One that carries several requests at a time stays there, too. A request that
    /// a public host has redirected gets none that leads to a special address: it would not be made for it.
    pub(super) fn take(self: &Arc<Self>, place: &Place, is_from_public: bool) -> Option<Connection> {
        self.pop(place, is_from_public, false)
    }

    /// The same, of connections that carry several requests at a time.
    pub(super) fn take_shared(self: &Arc<Self>, place: &Place, is_from_public: bool) -> Option<Connection> {
        self.pop(place, is_from_public, true)
    }

    /// Keeps none of the connections in `place` that such a request cannot take. Those that are used go on until they are not.
    pub(super) fn release_unfit(&self, place: &Place, is_from_public: bool) {
        self.release(place, |parked| !parked.is_fit(is_from_public));
    }

    /// Keeps none of the connections in `place`. Those that are used go on until they are not.
    pub(super) fn release_all(&self, place: &Place) {
        self.release(place, |_| true);
    }

    fn release(&self, place: &Place, is_released: impl Fn(&Parked) -> bool) {
        let mut table = self.table();
        let here = table.places.get(place).into_iter().flatten();
        let ids: Vec<_> = here.filter(|parked| is_released(parked)).map(|parked| parked.id).collect();
        let released: Vec<_> = ids.into_iter().filter_map(|id| table.remove(id)).collect();
        drop(table);
        released.into_iter().for_each(Connection::close);
    }

    fn pop(self: &Arc<Self>, place: &Place, is_from_public: bool, is_shared: bool) -> Option<Connection> {
        let mut table = self.table();
        loop {
            let connection = table.pop(place, is_from_public, is_shared)?;
            if !connection.is_ready() {
                continue;
            }
            if let Some(shared) = connection.share() {
                // The place says that it is this runtime that drives the connection.
                self.insert(&mut table, place, shared, &Handle::current());
            }
            return Some(connection);
        }
    }

    /// Keeps `connection`, which `runtime` drives, until somebody takes it, the network is retired, no further request
    /// is to go over it, it has waited for too long, or there are too many.
    pub(super) fn park(self: &Arc<Self>, place: &Place, connection: Connection, runtime: &Handle) {
        self.insert(&mut self.table(), place, connection, runtime);
    }

    fn insert(self: &Arc<Self>, table: &mut Table, place: &Place, connection: Connection, runtime: &Handle) {
        let is_spare = connection.is_shared() && table.has_shared(place);
        let max_idle = self.max_idle.get().copied().unwrap_or(0);
        if place.retired.is_cancelled() || is_spare || max_idle == 0 || self.max_idle_per_host == 0 {
            return;
        }
        table.last += 1;
        let id = table.last;
        let watch = Watch(runtime.spawn(self.watch(id, place, &connection)).abort_handle());
        let slot = (!connection.is_shared()).then(|| connection.slot().clone());
        table.order.insert(id, place.clone());
        table.units.entry(place.unit.clone()).or_default().insert(id);
        let here = table.places.entry(place.clone()).or_default();
        here.push(Parked { id, connection, _watch: watch });

        // The next request for the place finds it there.
        if let Some(slot) = slot {
            slot.vacate();
        }

        let surplus_here = (here.len() > self.max_idle_per_host).then(|| here[0].id);
        let surplus = surplus_here.or_else(|| table.surplus(max_idle, &place.unit));
        if let Some(surplus) = surplus.and_then(|id| table.remove(id)) {
            surplus.close();
        }
    }

    /// Waits for what ends the connection that is parked as `id`, and closes it. If the network was retired before
    /// this began, it is over at once.
    fn watch(
        self: &Arc<Self>,
        id: Id,
        place: &Place,
        connection: &Connection,
    ) -> impl Future<Output = ()> + use<> {
        let (pool, idle_timeout) = (Arc::downgrade(self), self.idle_timeout);
        let (retired, spent) = (place.retired.clone(), connection.spent().clone());
        async move {
            let idle = tokio::time::sleep(idle_timeout);
            retired.run_until_cancelled(spent.run_until_cancelled(idle)).await;
            if let Some(pool) = Weak::upgrade(&pool) {
                pool.table().remove(id);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics in the middle of a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper for Pool {
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

impl Table {
    /// The connection that makes room for another one of `unit`, if there are more than `max`: the oldest of a unit that
    /// has more than its even share, and of this one rather than of another.
    fn surplus(&self, max: usize, unit: &Unit) -> Option<Id> {
        if self.order.len() <= max {
            return None;
        }
        let share = max / self.units.len().max(1);
        let own = self.units.get(unit).filter(|ids| ids.len() > share);
        own.and_then(BTreeSet::first).copied().or_else(|| {
            let has_more = |place: &Place| self.units.get(&place.unit).is_some_and(|ids| ids.len() > share);
            self.order.iter().find_map(|(id, place)| has_more(place).then_some(*id))
        })
    }

    fn is_idle(&self, id: Id) -> bool {
        let here = self.order.get(&id).and_then(|place| self.places.get(place));
        here.into_iter().flatten().any(|parked| parked.id == id && parked.connection.is_idle())
    }

    fn pop(&mut self, place: &Place, is_from_public: bool, is_shared: bool) -> Option<Connection> {
        let is_wanted =
            |parked: &&Parked| (!is_shared || parked.connection.is_shared()) && parked.is_fit(is_from_public);
        let id = self.places.get(place)?.iter().rfind(is_wanted)?.id;
        self.remove(id)
    }

    fn remove(&mut self, id: Id) -> Option<Connection> {
        let place = self.order.remove(&id)?;
        if let Some(ids) = self.units.get_mut(&place.unit) {
            ids.remove(&id);
            if ids.is_empty() {
                self.units.remove(&place.unit);
            }
        }
        let here = self.places.get_mut(&place)?;
        let index = here.iter().position(|parked| parked.id == id)?;
        let removed = here.remove(index);
        if here.is_empty() {
            self.places.remove(&place);
        }
        Some(removed.connection)
    }

    fn has_shared(&self, place: &Place) -> bool {
        let here = self.places.get(place).into_iter().flatten();
        here.map(|parked| &parked.connection)
            .any(|connection| connection.is_ready() && connection.is_shared())
    }
}

/// A connection that somebody uses. If it is dropped it is closed, unless it carries requests of others.
pub(super) struct Lease {
    pub(super) connection: Connection,
    /// Where it is parked afterwards.
    home: Option<Home>,
}

struct Home {
    pool: Weak<Pool>,
    place: Place,
    /// What drives the connection. Who reads the response may do so in another, which may be gone before the
    /// connection is. The pool does not keep it: that would hold the files of runtimes that are gone.
    runtime: Handle,
}

impl Home {
    fn park(&self, connection: Connection) {
        if let Some(pool) = self.pool.upgrade() {
            pool.park(&self.place, connection, &self.runtime);
        }
    }
}

impl Lease {
    /// A lease of what the current runtime drives.
    pub(super) fn new(connection: Connection, home: Option<(&Arc<Pool>, Place)>) -> Self {
        let home = home.map(|(pool, place)| {
            let (pool, runtime) = (Arc::downgrade(pool), Handle::current());
            Home { pool, place, runtime }
        });
        Self { connection, home }
    }

    /// The response is whole. The connection can serve another request, which is not to be waited for longer than
    /// `limit`: a server may answer before it has got the whole request.
    pub(super) fn finish(self, limit: Deadline) {
        let Self { mut connection, home } = self;
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
