//! Changes of several networks at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{NetworkRegistry, check, renew_behind, retire};
use crate::config::NetworkConfig;
use crate::error::NetworkError;
use crate::id::NetworkId;
use crate::network::Network;
use crate::registered::Registered;

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
/// assert_eq!(networks.list(), [("app:tor".parse()?, "socks5")]);
/// assert!(networks.is_selectable(&"app:tor".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct NetworkChanges {
    /// What is to be registered, or nothing.
    networks: BTreeMap<NetworkId, Option<Arc<Registered>>>,
}

impl NetworkChanges {
    /// Registers `network` as `id`, whether there is one or not.
    pub fn put(&mut self, id: NetworkId, network: Arc<dyn Network>, is_selectable: bool) -> &mut Self {
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
    /// Makes all of these changes at once, or none. Networks that are put may go through each other. Otherwise it is as
    /// [`replace`](Self::replace) and [`unregister`](Self::unregister).
    ///
    /// # Errors
    ///
    /// [`NetworkError::ViaNotRegistered`] and [`NetworkError::ViaCycle`] if a network that is put cannot go through what it
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
            let put = changes.networks.iter().filter(|(_, network)| network.is_some());
            put.map(|(id, _)| id).try_for_each(|id| check(table, id))?;
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
