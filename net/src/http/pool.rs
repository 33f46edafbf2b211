//! Connections that are kept for later requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::HttpConfig;
use super::connection::{Connection, Identity};
use super::target::Origin;
use crate::audit::Recording;
use crate::deadline::Deadline;
use crate::dialer::Dialer;
use crate::isolation::{Isolation, IsolationKey};
use crate::limits::{Keeper, Limits, Unit};
use crate::registry::Registered;

/// Whose a connection is. Nobody else gets it, and no other unit: it counts for the one that made it, and whether there is
/// one would tell another unit what this one does.
#[derive(Clone)]
pub(super) struct Place(Arc<Belongs>);

struct Belongs {
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
        let (unit, origin) = (dialer.unit().clone(), origin.clone());
        let runtime = Handle::current().id();
        Some(Self(Arc::new(Belongs { network, retired, isolation, unit, origin, runtime })))
    }
}

impl PartialEq for Place {
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

impl Eq for Place {}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Belongs { network, retired: _, isolation, unit, origin, runtime } = &*self.0;
        network.as_ptr().hash(state);
        (isolation, unit, origin, runtime).hash(state);
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
    pub(super) fn take(&self, place: &Place, is_from_public: bool) -> Option<Connection> {
        self.take_if(place, is_from_public, Wanted::Any)
    }

    /// The same, of connections that carry one request at a time.
    pub(super) fn take_own(&self, place: &Place, is_from_public: bool) -> Option<Connection> {
        self.take_if(place, is_from_public, Wanted::Own)
    }

    /// The same, of connections that carry several requests at a time.
    pub(super) fn take_shared(&self, place: &Place, is_from_public: bool) -> Option<Connection> {
        self.take_if(place, is_from_public, Wanted::Shared)
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

    fn take_if(&self, place: &Place, is_from_public: bool, wanted: Wanted) -> Option<Connection> {
        let mut table = self.table();
        loop {
            let parked = table.last_in(place, is_from_public, wanted)?;
            let id = parked.id;
            let shared = parked.connection.share().filter(Connection::is_ready);
            if let Some(shared) = shared {
                table.touch(place, id);
                return Some(shared);
            }
            let taken = table.remove(id)?;
            if taken.is_ready() {
                return Some(taken);
            }
        }
    }

    /// Keeps `connection`, which is [watched](Self::watch), until a request takes it or there are too many.
    pub(super) fn park(&self, place: &Place, connection: Connection) {
        let since = Instant::now();
        let max_idle = self.max_idle.get().copied().unwrap_or(0);
        let mut table = self.table();
        let is_spare = connection.is_shared() && table.has_shared(place);
        // Asked while the table is locked, so that the watcher either finds the connection here or was first.
        let is_kept = connection.is_ready() && !place.0.retired.is_cancelled();
        if !is_kept || is_spare || max_idle == 0 || self.max_idle_per_host == 0 {
            return;
        }
        let surplus_here = table.insert(place, connection, since, self.max_idle_per_host);
        let surplus = surplus_here.or_else(|| table.surplus(max_idle, &place.0.unit));
        let closed = surplus.and_then(|id| table.remove(id));
        drop(table);
        if let Some(closed) = closed {
            closed.close();
        }
    }

    /// Closes `connection`, which the current runtime drives, when it has waited in `place` for too long, its network
    /// is retired, or no further request is to go over it.
    ///
    /// There is one task for this as long as the connection is open, and not one each time it waits.
    pub(super) fn watch(self: &Arc<Self>, place: &Place, connection: &Connection) {
        let (retired, spent) = (place.0.retired.clone(), connection.spent().clone());
        let (mut left, idle_timeout) = (self.idle_timeout, self.idle_timeout);
        let watch =
            Watch { pool: Arc::downgrade(self), place: place.clone(), identity: connection.identity() };
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

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics in the middle of a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches a connection. When it is dropped, with the runtime that drives the connection at the latest, the connection
/// is not kept any more.
struct Watch {
    pool: Weak<Pool>,
    place: Place,
    identity: Identity,
}

impl Watch {
    /// How long the connection may still wait, at least. If it has waited for `idle_timeout` it is closed, and nothing
    /// is returned.
    fn time_left(&self, idle_timeout: Duration) -> Option<Duration> {
        let pool = self.pool.upgrade()?;
        let mut table = pool.table();
        let Some(parked) = table.find(&self.place, &self.identity) else { return Some(idle_timeout) };
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

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut table = pool.table();
        let id = table.find(&self.place, &self.identity).map(|parked| parked.id);
        let removed = id.and_then(|id| table.remove(id));
        drop(table);
        drop(removed);
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
            let has_more = |place: &Place| self.units.get(&place.0.unit).is_some_and(|ids| ids.len() > share);
            self.order.iter().find_map(|(id, place)| has_more(place).then_some(*id))
        })
    }

    fn is_idle(&self, id: Id) -> bool {
        let here = self.order.get(&id).and_then(|place| self.places.get(place));
        here.into_iter().flatten().any(|parked| parked.id == id && parked.connection.is_idle())
    }

    /// The connection in `place` that was parked last, of those that a request may use.
    fn last_in(&self, place: &Place, is_from_public: bool, wanted: Wanted) -> Option<&Parked> {
        let is_wanted =
            |parked: &&Parked| wanted.includes(&parked.connection) && parked.is_fit(is_from_public);
        self.places.get(place)?.iter().rfind(is_wanted)
    }

    fn find(&self, place: &Place, identity: &Identity) -> Option<&Parked> {
        self.places.get(place)?.iter().find(|parked| parked.connection.is(identity))
    }

    /// Adds `connection`. Returns which one in the place is too many, if there are more than `max`.
    fn insert(&mut self, place: &Place, connection: Connection, since: Instant, max: usize) -> Option<Id> {
        self.last += 1;
        let id = self.last;
        self.order.insert(id, place.clone());
        self.add_to_unit(&place.0.unit, id);
        let slot = (!connection.is_shared()).then(|| connection.slot().clone());
        let here = self.places.entry(place.clone()).or_default();
        here.push(Parked { id, since, connection });
        // The next request for the place finds it there.
        if let Some(slot) = slot {
            slot.vacate();
        }
        (here.len() > max).then(|| here[0].id)
    }

    /// The connection that is parked as `id` in `place` begins to wait anew.
    fn touch(&mut self, place: &Place, id: Id) {
        let new = if id == self.last { id } else { self.last + 1 };
        let Some(here) = self.places.get_mut(place) else { return };
        let Some(index) = here.iter().position(|parked| parked.id == id) else { return };
        here[index].since = Instant::now();
        if new == id {
            return;
        }
        self.last = new;
        here[index].id = new;
        here[index..].rotate_left(1);
        if let Some(place) = self.order.remove(&id) {
            self.order.insert(new, place);
        }
        if let Some(ids) = self.units.get_mut(&place.0.unit) {
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
        let place = self.order.remove(&id)?;
        if let Some(ids) = self.units.get_mut(&place.0.unit) {
            ids.remove(&id);
            if ids.is_empty() {
                self.units.remove(&place.0.unit);
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
    /// The record of the request, which ends with the lease.
    pub(super) recording: Recording,
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
            pool.park(&self.place, connection);
        }
    }
}

impl Lease {
    /// A lease of what the current runtime drives.
    pub(super) fn new(
        connection: Connection,
        home: Option<(&Arc<Pool>, Place)>,
        recording: Recording,
    ) -> Self {
        let home = home.map(|(pool, place)| {
            let (pool, runtime) = (Arc::downgrade(pool), Handle::current());
            Home { pool, place, runtime }
        });
        Self { connection, home, recording }
    }

    /// The response is not wanted, or failed. The connection is closed, unless it carries requests of others, and does not
    /// count any more.
    pub(super) fn close(self) {
        self.connection.close();
    }

    /// The response is whole. The connection can serve another request, which is not to be waited for longer than
    /// `limit`: a server may answer before it has got the whole request.
    pub(super) fn finish(self, limit: Deadline) {
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
