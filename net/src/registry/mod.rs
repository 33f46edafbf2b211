//! The networks of an app.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use frame_registry::{App, Key};
use tokio_util::sync::CancellationToken;

use crate::config::NetworkConfig;
use crate::driver::Drivers;
use crate::endpoint::{Endpoint, HostName, LocalEndpoint};
use crate::error::{Cause, ChosenBy, DriverError, DriverStep, Missing, NetworkError};
use crate::isolation::{Isolation, IsolationKey};
use crate::limits::{Limits, LimitsConfig};
use crate::network::{BoxDatagrams, BoxFuture, BoxListener, BoxStream, Network, NetworkId};
use crate::reach;
use crate::shield::{Held, Panicked, Shielded};

/// The networks of an app, put there by [`boot`](crate::boot()).
pub static NETWORKS: Key<NetworkRegistry> = Key::new("net.networks");

/// The network of frames that nothing else decides for.
pub(crate) static DEFAULT: Key<Arc<NetworkId>> = Key::new("net.default");

/// The network of frames that nothing else decides for, if the app has a default.
pub fn default_network(app: &App) -> Option<&NetworkId> {
    app.get(&DEFAULT).map(|id| &**id)
}

/// The network that is registered as `id`.
pub(crate) fn require(
    app: &App,
    id: &NetworkId,
    chosen_by: ChosenBy,
) -> Result<Arc<Registered>, NetworkError> {
    let missing = match app.get(&NETWORKS) {
        Some(networks) => match networks.get(id) {
            Some(registered) => return Ok(registered),
            None => Missing::Network,
        },
        None => Missing::Registry,
    };
    Err(NetworkError::NotFound { id: id.clone(), chosen_by, missing })
}

/// Overlay networks by id, and clearnet. Cloning it gives another handle to the same networks.
///
/// Looking a network up never waits. Changes are serialised and replace the table as one; a network that they take
/// away is dropped, and so closed, outside any lock, once its last user is done.
///
/// Networks go in here, and connections come out of [`dialer`](crate::dialer()), which reads the frame: there is no
/// lookup that would let one dial past a frame's choice by mistake. Who may change the registry is trusted.
///
/// ```
/// use frame_net::{Direct, NetworkRegistry};
/// use std::sync::Arc;
///
/// let networks = NetworkRegistry::new(Arc::new(Direct::default()));
/// networks.register("host:lan".parse()?, Arc::new(Direct::default()))?;
/// assert_eq!(networks.kind(&"host:lan".parse()?), Some("direct"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct NetworkRegistry {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    clearnet: Arc<Registered>,
    table: ArcSwap<Table>,
    writer: Mutex<()>,
    drivers: Drivers,
    limits: Arc<Limits>,
}

type Table = BTreeMap<NetworkId, Arc<Registered>>;

impl NetworkRegistry {
    /// A registry without overlay networks. `clearnet` is where frames without one go.
    pub fn new(clearnet: Arc<dyn Network>) -> Self {
        Self::with_drivers(clearnet, Drivers::standard())
    }

    /// The same, with other drivers to make networks of their configurations.
    pub fn with_drivers(clearnet: Arc<dyn Network>, drivers: Drivers) -> Self {
        Self::with_limits(clearnet, drivers, &LimitsConfig::default())
    }

    /// The same, with other limits than those that follow from how many descriptors this process may have now.
    pub fn with_limits(clearnet: Arc<dyn Network>, drivers: Drivers, limits: &LimitsConfig) -> Self {
        let inner = Inner {
            clearnet: Registered::new(clearnet, false),
            table: ArcSwap::default(),
            writer: Mutex::new(()),
            drivers,
            limits: Limits::new(limits),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Adds `network` as `id`. It is for trusted code only to [choose](crate#who-may-choose).
    ///
    /// # Errors
    ///
    /// [`NetworkError::AlreadyRegistered`] if there is one of that id, which stays. [`NetworkError::ViaNotRegistered`]
    /// if it goes through a network that is not registered.
    pub fn register(&self, id: NetworkId, network: Arc<dyn Network>) -> Result<(), NetworkError> {
        self.register_all(&[(id, Registered::new(network, false))])
    }

    /// [`register`](Self::register), for everybody to [choose](crate#who-may-choose).
    ///
    /// # Errors
    ///
    /// As `register`.
    pub fn register_selectable(&self, id: NetworkId, network: Arc<dyn Network>) -> Result<(), NetworkError> {
        self.register_all(&[(id, Registered::new(network, true))])
    }

    /// Adds networks, all or none. They may go through each other.
    pub(crate) fn register_all(&self, networks: &[(NetworkId, Arc<Registered>)]) -> Result<(), NetworkError> {
        // Shared with the table rather than moved: what is refused is dropped by the caller, where the lock is not held.
        self.change(|table| {
            for (id, network) in networks {
                if table.contains_key(id) {
                    return Err(NetworkError::AlreadyRegistered { id: id.clone() });
                }
                table.insert(id.clone(), Arc::clone(network));
            }
            check(table, networks.iter().map(|(id, _)| id))
        })
    }

    /// Puts `network` in the place of the one registered as `id`. Nobody who looks in between finds neither. Whether the old
    /// one was selectable says nothing of the new one: it is for trusted code only to [choose](crate#who-may-choose).
    ///
    /// Connections that the old one made go on through it.
    ///
    /// # Errors
    ///
    /// [`NetworkError::NotRegistered`] if there is none to replace. [`NetworkError::ViaNotRegistered`] and
    /// [`NetworkError::ViaCycle`] if the network cannot go through what it is to go through. The old one then stays.
    pub fn replace(&self, id: &NetworkId, network: Arc<dyn Network>) -> Result<(), NetworkError> {
        self.replace_registered(id, &Registered::new(network, false))
    }

    fn replace_registered(&self, id: &NetworkId, new: &Arc<Registered>) -> Result<(), NetworkError> {
        let replaced = self.change(|table| {
            let Some(place) = table.get_mut(id) else {
                return Err(NetworkError::NotRegistered { id: id.clone() });
            };
            let old = std::mem::replace(place, Arc::clone(new));
            check(table, [id])?;
            Ok([vec![old], renew_behind(table, [id])].concat())
        })?;
        retire(&replaced);
        Ok(())
    }

    /// Takes the network registered as `id` away, and says whether there was one.
    ///
    /// Frames that carry the id keep it: what they dial from now on is refused, and so is what goes via this network.
    /// Connections that it made go on through it.
    pub fn unregister(&self, id: &NetworkId) -> bool {
        let removed = self.change(|table| {
            let removed = table.remove(id).ok_or(())?;
            Ok::<_, ()>([vec![removed], renew_behind(table, [id])].concat())
        });
        removed.is_ok_and(|removed| {
            retire(&removed);
            true
        })
    }

    /// Makes the network that is described, and [registers](NetworkRegistry::register) it as `id`.
    ///
    /// # Errors
    ///
    /// [`NetworkError::Config`] if no driver can make it, and the errors of `register`. Nothing is registered then.
    pub fn create(&self, id: NetworkId, config: &NetworkConfig) -> Result<(), NetworkError> {
        let network = self.build_registered(&id, config)?;
        self.register_all(&[(id, network)])
    }

    /// Makes the network that is described, and only then puts it in the [place](NetworkRegistry::replace) of the one
    /// registered as `id`.
    ///
    /// # Errors
    ///
    /// [`NetworkError::Config`] if no driver can make it, and the errors of `replace`. The old one then stays.
    pub fn update(&self, id: &NetworkId, config: &NetworkConfig) -> Result<(), NetworkError> {
        if !self.contains(id) {
            return Err(NetworkError::NotRegistered { id: id.clone() });
        }
        let network = self.build_registered(id, config)?;
        self.replace_registered(id, &network)
    }

    /// Returns whether a network is registered as `id`.
    pub fn contains(&self, id: &NetworkId) -> bool {
        self.inner.table.load().contains_key(id)
    }

    /// Whether the network registered as `id` is one that everybody may [choose](crate#who-may-choose).
    pub fn is_selectable(&self, id: &NetworkId) -> bool {
        self.inner.table.load().get(id).is_some_and(|registered| registered.is_selectable)
    }

    /// The kind of the network registered as `id`.
    pub fn kind(&self, id: &NetworkId) -> Option<&'static str> {
        self.inner.table.load().get(id).map(|registered| registered.kind())
    }

    /// Returns the ids of the registered networks, sorted.
    pub fn ids(&self) -> Vec<NetworkId> {
        self.inner.table.load().keys().cloned().collect()
    }

    /// Makes the network that is described, which is to be `id`, and does not register it: to see whether it can be made,
    /// or to [apply](Self::apply) it later. What it goes through is looked at then only.
    ///
    /// Nothing is connected, and what it holds is gone once it is dropped.
    ///
    /// # Errors
    ///
    /// [`NetworkError::Config`] if no driver can make it, or if the driver panics: some need a Tokio runtime.
    pub fn build(&self, id: &NetworkId, config: &NetworkConfig) -> Result<Arc<dyn Network>, NetworkError> {
        let built = self.inner.drivers.create(config, self);
        built.map_err(|source| NetworkError::Config { id: id.clone(), source })
    }

    pub(crate) fn build_registered(
        &self,
        id: &NetworkId,
        config: &NetworkConfig,
    ) -> Result<Arc<Registered>, NetworkError> {
        Ok(Registered::new(self.build(id, config)?, config.is_selectable()))
    }

    pub(crate) fn get(&self, id: &NetworkId) -> Option<Arc<Registered>> {
        self.inner.table.load().get(id).cloned()
    }

    /// The networks that `id` goes through, the nearest first.
    pub(crate) fn path_behind(&self, id: &NetworkId) -> Vec<NetworkId> {
        let table = self.inner.table.load();
        let via = |id: &NetworkId| table.get(id).and_then(|registered| registered.via().cloned());
        // None leads back to itself; that is checked where networks are registered.
        std::iter::successors(via(id), via).take(table.len()).collect()
    }

    pub(crate) fn clearnet(&self) -> Arc<Registered> {
        Arc::clone(&self.inner.clearnet)
    }

    pub(crate) fn limits(&self) -> &Arc<Limits> {
        &self.inner.limits
    }

    /// For networks that go through others: they must not keep alive the registry that keeps them alive.
    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    pub(crate) fn upgrade(inner: &Weak<Inner>) -> Option<Self> {
        inner.upgrade().map(|inner| Self { inner })
    }

    /// Publishes what `change` makes of a copy of the table, unless it fails. Whatever goes away is dropped after the
    /// lock: closing a network may take its time, and may come back here.
    fn change<T, E>(&self, change: impl FnOnce(&mut Table) -> Result<T, E>) -> Result<T, E> {
        // A panic in `change` leaves the table as it was, so a poisoned lock says nothing.
        let lock = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.inner.table.load());
        let changed = change(&mut table);
        let unused = match &changed {
            Ok(_) => self.inner.table.swap(Arc::new(table)),
            Err(_) => Arc::new(table),
        };
        drop(lock);
        drop(unused);
        changed
    }
}

/// Tells users of networks that these are not registered any more.
fn retire(networks: &[Arc<Registered>]) {
    for registered in networks {
        registered.retired.cancel();
    }
}

/// Registers all networks anew that go through those that have `changed`, and gives back what they were registered as: who keeps
/// connections of theirs is not to use these any more. Those that have changed themselves are new.
fn renew_behind<'a>(
    table: &mut Table,
    changed: impl IntoIterator<Item = &'a NetworkId>,
) -> Vec<Arc<Registered>> {
    let mut behind: HashMap<NetworkId, Vec<NetworkId>> = HashMap::new();
    for (id, registered) in table.iter() {
        if let Some(via) = registered.via() {
            behind.entry(via.clone()).or_default().push(id.clone());
        }
    }
    let mut left: Vec<_> = changed.into_iter().cloned().collect();
    let mut seen: HashSet<_> = left.iter().cloned().collect();
    let mut renewed = Vec::new();
    while let Some(id) = left.pop() {
        for id in behind.remove(&id).unwrap_or_default() {
            if !seen.insert(id.clone()) {
                continue;
            }
            if let Some(place) = table.get_mut(&id) {
                let new = place.renewed();
                renewed.push(std::mem::replace(place, new));
            }
            left.push(id);
        }
    }
    renewed
}

/// Refuses those of `ids` that panicked when they were asked what they are, and those whose `via` is not registered or
/// leads back to them. The time is linear in the networks that are looked at.
fn check<'a>(table: &'a Table, ids: impl IntoIterator<Item = &'a NetworkId>) -> Result<(), NetworkError> {
    // From these no way leads in a circle.
    let mut checked: HashSet<&NetworkId> = HashSet::new();
    for id in ids {
        let Some(registered) = table.get(id) else { continue };
        if !registered.is_described() {
            return Err(NetworkError::Panicked { id: id.clone() });
        }
        // What others go through may have been unregistered since, and then they are refused when they dial.
        if let Some(via) = registered.via().filter(|via| !table.contains_key(via)) {
            return Err(NetworkError::ViaNotRegistered { id: id.clone(), via: via.clone() });
        }
        let (mut way, mut on_way) = (Vec::new(), HashSet::new());
        let mut next = Some(id);
        while let Some(here) = next.filter(|here| !checked.contains(here)) {
            way.push(here);
            if !on_way.insert(here) {
                return Err(NetworkError::ViaCycle {
                    id: id.clone(),
                    cycle: way.into_iter().cloned().collect(),
                });
            }
            next = table.get(here).and_then(|registered| registered.via());
        }
        checked.extend(on_way);
    }
    Ok(())
}

impl fmt::Debug for NetworkRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkRegistry ")?;
        let table = self.inner.table.load();
        f.debug_map().entries(table.iter().map(|(id, registered)| (id, registered.kind()))).finish()
    }
}

/// What becomes of networks: of each that is named here, the last thing that was said. Nothing happens to them before
/// [`NetworkRegistry::apply`].
///
/// ```
/// use frame_net::{Direct, NetworkChanges, NetworkRegistry};
/// use serde_json::json;
/// use std::sync::Arc;
///
/// let networks = NetworkRegistry::new(Arc::new(Direct::default()));
/// networks.register("app:old".parse()?, Arc::new(Direct::default()))?;
///
/// let mut changes = NetworkChanges::default();
/// let tor = serde_json::from_value(json!({ "kind": "socks5", "proxy": "127.0.0.1:9050", "selectable": true }))?;
/// changes.build(&networks, "app:tor".parse()?, &tor)?;
/// changes.unregister("app:old".parse()?);
/// networks.apply(changes)?;
///
/// assert_eq!(networks.ids(), ["app:tor".parse()?]);
/// assert!(networks.is_selectable(&"app:tor".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct NetworkChanges {
    /// What is to be registered, or nothing.
    networks: BTreeMap<NetworkId, Option<Arc<Registered>>>,
}

impl NetworkChanges {
    /// Registers `network` as `id`, in the place of an earlier one.
    pub fn insert(&mut self, id: NetworkId, network: Arc<dyn Network>, is_selectable: bool) -> &mut Self {
        self.networks.insert(id, Some(Registered::new(network, is_selectable)));
        self
    }

    /// [Makes](NetworkRegistry::build) the network that is described, and registers it as `id`, whether there is one or
    /// not.
    ///
    /// # Errors
    ///
    /// [`NetworkError::Config`] if no driver can make it. The changes are then as they were.
    pub fn build(
        &mut self,
        networks: &NetworkRegistry,
        id: NetworkId,
        config: &NetworkConfig,
    ) -> Result<&mut Self, NetworkError> {
        let network = networks.build_registered(&id, config)?;
        self.networks.insert(id, Some(network));
        Ok(self)
    }

    /// Takes the network registered as `id` away, if there is one.
    pub fn unregister(&mut self, id: NetworkId) -> &mut Self {
        self.networks.insert(id, None);
        self
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

impl NetworkRegistry {
    /// Makes all of these changes at once, or none. Networks that are inserted may go through each other. Otherwise it is as
    /// [`replace`](Self::replace) and [`unregister`](Self::unregister).
    ///
    /// # Errors
    ///
    /// [`NetworkError::ViaNotRegistered`] and [`NetworkError::ViaCycle`] if an inserted network cannot go through what it
    /// is to go through.
    // By value, so that what is refused is dropped where the lock is not held.
    #[allow(clippy::needless_pass_by_value)]
    pub fn apply(&self, changes: NetworkChanges) -> Result<(), NetworkError> {
        let replaced = self.change(|table| {
            let mut replaced = Vec::new();
            for (id, network) in &changes.networks {
                replaced.extend(match network {
                    Some(network) => table.insert(id.clone(), Arc::clone(network)),
                    None => table.remove(id),
                });
            }
            let inserted = changes.networks.iter().filter(|(_, network)| network.is_some());
            check(table, inserted.map(|(id, _)| id))?;
            replaced.extend(renew_behind(table, changes.networks.keys()));
            Ok::<_, NetworkError>(replaced)
        })?;
        retire(&replaced);
        Ok(())
    }
}

impl std::fmt::Debug for NetworkChanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds = self.networks.iter().map(|(id, network)| {
            let kind = network.as_ref().map(|registered| registered.kind());
            (id, kind)
        });
        f.write_str("NetworkChanges ")?;
        f.debug_map().entries(kinds).finish()
    }
}

/// A network in its place. The same network in another place, or there again, is another, and so is one that goes
/// through another than before.
///
/// Everything that this crate calls of a network, it calls here: networks may be of other crates, and panic.
pub(crate) struct Registered {
    network: Held<Arc<dyn Network>>,
    /// What the network says of itself, or that it panicked instead.
    described: Result<Description, Panicked>,
    /// Whether code that is not trusted may choose it.
    pub(crate) is_selectable: bool,
    /// Cancelled once it is not registered any more.
    pub(crate) retired: CancellationToken,
}

/// What a network says of itself.
#[derive(Clone)]
struct Description {
    kind: &'static str,
    via: Option<NetworkId>,
    isolation: Isolation,
}

impl Registered {
    pub(crate) fn new(network: Arc<dyn Network>, is_selectable: bool) -> Arc<Self> {
        let network = Held::new(network);
        let described = network.call(|network| Description {
            kind: network.kind(),
            via: network.via().cloned(),
            isolation: network.isolation(),
        });
        Arc::new(Self { network, described, is_selectable, retired: CancellationToken::new() })
    }

    /// The same network, in another place.
    pub(crate) fn renewed(&self) -> Arc<Self> {
        let Self { network, described, is_selectable, .. } = self;
        let (network, described) = (network.clone(), described.clone());
        Arc::new(Self {
            network,
            described,
            is_selectable: *is_selectable,
            retired: CancellationToken::new(),
        })
    }

    /// Whether the network says of itself what it has to.
    pub(crate) const fn is_described(&self) -> bool {
        self.described.is_ok()
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.described.as_ref().map_or("unknown", |described| described.kind)
    }

    /// The network that this one goes through.
    pub(crate) fn via(&self) -> Option<&NetworkId> {
        self.described.as_ref().ok()?.via.as_ref()
    }

    pub(crate) fn isolation(&self) -> Isolation {
        self.described.as_ref().map_or(Isolation::None, |described| described.isolation)
    }

    /// Connects to `to` for a unit, with the isolation that the network lacks refused.
    pub(crate) async fn connect(
        &self,
        to: &Endpoint,
        isolation: Option<&IsolationKey>,
    ) -> Result<BoxStream, DriverError> {
        if isolation.is_some() && self.isolation() == Isolation::None {
            return Err(self.not_supported(DriverStep::Connect, to, "isolating connections"));
        }
        self.call(DriverStep::Connect, to, |network| network.connect(to, isolation)).await
    }

    /// Connects to `to`, the far end of a network that goes through this one.
    pub(crate) async fn carry(&self, to: &Endpoint) -> Result<BoxStream, DriverError> {
        reach::unwatched(self.call(DriverStep::Connect, to, |network| network.carry(to))).await
    }

    pub(crate) async fn listen(&self, at: &LocalEndpoint) -> Result<BoxListener, DriverError> {
        self.call(DriverStep::Listen, at, |network| network.listen(at)).await
    }

    pub(crate) async fn bind_datagram(&self, at: &LocalEndpoint) -> Result<BoxDatagrams, DriverError> {
        self.call(DriverStep::Bind, at, |network| network.bind_datagram(at)).await
    }

    pub(crate) async fn lookup(&self, name: &HostName) -> Result<Vec<IpAddr>, DriverError> {
        self.call(DriverStep::Lookup, name, |network| network.lookup(name)).await
    }

    /// Calls the network, whose panic is an error of `step`.
    async fn call<'a, T>(
        &'a self,
        step: DriverStep,
        peer: &(impl fmt::Display + Sync),
        make: impl FnOnce(&'a dyn Network) -> BoxFuture<'a, Result<T, DriverError>>,
    ) -> Result<T, DriverError> {
        let called = Shielded::new(self.network.call(|network| make(&**network))).await;
        called.unwrap_or_else(|panicked| Err(panicked.at(step, peer)))
    }

    /// Refuses `step` to who wants connections kept apart: there is no other than the one that all have in common.
    pub(crate) fn check_shared(
        &self,
        step: DriverStep,
        peer: impl fmt::Display,
        isolation: Option<&IsolationKey>,
    ) -> Result<(), DriverError> {
        match isolation {
            None => Ok(()),
            Some(_) => Err(self.not_supported(step, peer, "anything but connecting, with an isolation key,")),
        }
    }

    fn not_supported(&self, step: DriverStep, peer: impl fmt::Display, what: &'static str) -> DriverError {
        DriverError::new(step, peer, Cause::NotSupported { kind: self.kind(), what })
    }
}

#[cfg(test)]
mod tests;
