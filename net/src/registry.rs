//! The networks of an app.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use frame_registry::{App, Key};

use crate::error::{ChosenBy, Missing, NetworkError};
use crate::id::NetworkId;
use crate::network::Network;

/// The networks of an app, put there by [`boot`](crate::boot()).
pub static NETWORKS: Key<NetworkRegistry> = Key::new("net.networks");

/// The network of frames that nothing else decides for.
pub(crate) static DEFAULT: Key<Arc<NetworkId>> = Key::new("net.default");

/// The network of frames that nothing else decides for, if the app has a default.
pub fn default_network(app: &App) -> Option<&NetworkId> {
    app.get(&DEFAULT).map(|id| &**id)
}

/// The app's networks, if `id` is one of them.
pub(crate) fn require<'a>(
    app: &'a App,
    id: &NetworkId,
    chosen_by: ChosenBy,
) -> Result<&'a NetworkRegistry, NetworkError> {
    let missing = match app.get(&NETWORKS) {
        Some(networks) if networks.has(id) => return Ok(networks),
        Some(_) => Missing::Network,
        None => Missing::Registry,
    };
    Err(NetworkError::NotFound { id: id.clone(), chosen_by, missing })
}

/// Overlay networks by id, and clearnet. Cloning it gives another handle to the same networks.
///
/// Looking a network up never waits. Changes are serialised, replace the table as one, and hand out the network
/// that they take away, so that closing it is not done under a lock; it stays open until its last user is done.
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

struct Inner {
    clearnet: Arc<dyn Network>,
    table: ArcSwap<Table>,
    writer: Mutex<()>,
}

pub(crate) type Table = BTreeMap<NetworkId, Arc<dyn Network>>;

impl NetworkRegistry {
    /// A registry without overlay networks. `clearnet` is where frames without one go.
    pub fn new(clearnet: Arc<dyn Network>) -> Self {
        Self::with(clearnet, Table::new())
    }

    /// A registry of these overlay networks.
    pub(crate) fn with(clearnet: Arc<dyn Network>, table: Table) -> Self {
        let inner = Inner { clearnet, table: ArcSwap::from_pointee(table), writer: Mutex::new(()) };
        Self { inner: Arc::new(inner) }
    }

    /// Adds `network` as `id`.
    ///
    /// # Errors
    ///
    /// [`NetworkError::AlreadyRegistered`] if there is one of that id, which stays.
    pub fn register(&self, id: NetworkId, network: Arc<dyn Network>) -> Result<(), NetworkError> {
        self.change(|table| {
            if table.contains_key(&id) {
                return Err(NetworkError::AlreadyRegistered { id });
            }
            table.insert(id, network);
            Ok(())
        })
    }

    /// Puts `network` in the place of the one registered as `id`, which is given back. Nobody who looks in
    /// between finds neither.
    ///
    /// # Errors
    ///
    /// [`NetworkError::NotRegistered`] if there is none to replace.
    pub fn replace(
        &self,
        id: &NetworkId,
        network: Arc<dyn Network>,
    ) -> Result<Arc<dyn Network>, NetworkError> {
        self.change(|table| match table.get_mut(id) {
            Some(place) => Ok(std::mem::replace(place, network)),
            None => Err(NetworkError::NotRegistered { id: id.clone() }),
        })
    }

    /// Takes the network registered as `id` away and gives it back. Without one it does nothing.
    ///
    /// Frames that carry the id keep it: what they dial from now on is refused.
    pub fn unregister(&self, id: &NetworkId) -> Option<Arc<dyn Network>> {
        self.change(|table| table.remove(id).ok_or(())).ok()
    }

    /// Whether a network is registered as `id`.
    pub fn has(&self, id: &NetworkId) -> bool {
        self.inner.table.load().contains_key(id)
    }

    /// The kind of the network registered as `id`.
    pub fn kind(&self, id: &NetworkId) -> Option<&'static str> {
        self.inner.table.load().get(id).map(|network| network.kind())
    }

    /// The ids of the registered networks with their kinds, by id.
    pub fn list(&self) -> Vec<(NetworkId, &'static str)> {
        self.inner.table.load().iter().map(|(id, network)| (id.clone(), network.kind())).collect()
    }

    pub(crate) fn get(&self, id: &NetworkId) -> Option<Arc<dyn Network>> {
        self.inner.table.load().get(id).cloned()
    }

    pub(crate) fn clearnet(&self) -> Arc<dyn Network> {
        Arc::clone(&self.inner.clearnet)
    }

    /// Publishes what `change` makes of a copy of the table, unless it fails.
    fn change<T, E>(&self, change: impl FnOnce(&mut Table) -> Result<T, E>) -> Result<T, E> {
        // A panic in `change` leaves the table as it was, so a poisoned lock says nothing.
        let lock = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.inner.table.load());
        let changed = change(&mut table)?;
        let replaced = self.inner.table.swap(Arc::new(table));
        drop(lock);
        drop(replaced);
        Ok(changed)
    }
}

impl fmt::Debug for NetworkRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkRegistry ")?;
        f.debug_map().entries(self.list()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::direct::Direct;
    use crate::endpoint::Endpoint;
    use crate::error::DriverError;
    use crate::network::{BoxFuture, BoxStream};

    fn id(text: &str) -> NetworkId {
        text.parse().unwrap()
    }

    fn networks() -> NetworkRegistry {
        NetworkRegistry::new(Arc::new(Direct::default()))
    }

    /// Says on drop whether the registry can be written to.
    struct WritesWhenDropped(NetworkRegistry, Arc<AtomicBool>);

    impl Network for WritesWhenDropped {
        fn kind(&self) -> &'static str {
            "test"
        }

        fn connect<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
            unreachable!("nobody dials")
        }
    }

    impl Drop for WritesWhenDropped {
        fn drop(&mut self) {
            self.0.unregister(&id("a:other"));
            self.1.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_id_is_registered_once() {
        let networks = networks();
        networks.register(id("a:b"), Arc::new(Direct::default())).unwrap();
        let again = networks.register(id("a:b"), Arc::new(Direct::default()));
        assert!(matches!(again, Err(NetworkError::AlreadyRegistered { id }) if id.as_str() == "a:b"));
        assert_eq!(networks.list(), [(id("a:b"), "direct")]);
    }

    #[test]
    fn what_is_absent_is_not_replaced_and_unregistering_it_does_nothing() {
        let networks = networks();
        let replaced = networks.replace(&id("a:b"), Arc::new(Direct::default()));
        assert!(matches!(replaced, Err(NetworkError::NotRegistered { .. })));
        assert!(networks.unregister(&id("a:b")).is_none());
        assert!(!networks.has(&id("a:b")));
    }

    #[test]
    fn the_old_network_is_given_back_and_closed_outside_the_lock() {
        let networks = networks();
        let dropped = Arc::new(AtomicBool::new(false));
        let old = Arc::new(WritesWhenDropped(networks.clone(), Arc::clone(&dropped)));
        networks.register(id("a:b"), old).unwrap();

        let user = networks.get(&id("a:b")).unwrap();
        let replaced = networks.replace(&id("a:b"), Arc::new(Direct::default())).unwrap();
        assert_eq!((replaced.kind(), networks.kind(&id("a:b"))), ("test", Some("direct")));
        drop(replaced);
        assert!(!dropped.load(Ordering::Relaxed), "it has a user");
        drop(user);
        assert!(dropped.load(Ordering::Relaxed));
    }

    #[test]
    fn a_network_is_never_absent_while_it_is_replaced() {
        let networks = networks();
        networks.register(id("a:b"), Arc::new(Direct::default())).unwrap();
        std::thread::scope(|scope| {
            let replacing = scope.spawn(|| {
                for _ in 0..1_000 {
                    networks.replace(&id("a:b"), Arc::new(Direct::default())).unwrap();
                }
            });
            while !replacing.is_finished() {
                assert!(networks.has(&id("a:b")));
            }
        });
    }
}
