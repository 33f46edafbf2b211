//! The secrets of an app.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use frame_registry::{App, Frame, Key};

use super::error::SecretError;
use super::option::{SECRETS_KEY, SecretId, SecretIds};
use super::secret::StoredSecret;

/// The secrets of an app. Without it no request can carry one.
pub static SECRET_STORE: Key<SecretStore> = Key::new("net.secret_store");

/// Secrets by id. Cloning it gives another handle to the same ones.
///
/// ```
/// use frame_net::secrets::{SecretStore, StoredSecret};
///
/// let secret = StoredSecret::new("sk_live_31337", ["api.example".parse()?])?;
/// let store: SecretStore = [("app:stripe".parse()?, secret)].into_iter().collect();
/// assert!(store.ids().contains(&"app:stripe".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct SecretStore(Arc<ArcSwap<Secrets>>);

type Secrets = BTreeMap<SecretId, Arc<StoredSecret>>;

impl SecretStore {
    /// Has these secrets in the place of those before, in all handles, and returns the ones before. A request that has begun
    /// keeps its own.
    pub fn replace(
        &self,
        secrets: BTreeMap<SecretId, Arc<StoredSecret>>,
    ) -> BTreeMap<SecretId, Arc<StoredSecret>> {
        BTreeMap::clone(&self.0.swap(Arc::new(secrets)))
    }

    /// The ids of all secrets.
    pub fn ids(&self) -> BTreeSet<SecretId> {
        self.0.load().keys().cloned().collect()
    }

    /// The secret of this moment.
    fn get(&self, id: &SecretId) -> Option<Arc<StoredSecret>> {
        self.0.load().get(id).cloned()
    }
}

impl FromIterator<(SecretId, StoredSecret)> for SecretStore {
    fn from_iter<I: IntoIterator<Item = (SecretId, StoredSecret)>>(secrets: I) -> Self {
        let secrets = secrets.into_iter().map(|(id, secret)| (id, Arc::new(secret))).collect();
        Self(Arc::new(ArcSwap::from_pointee(secrets)))
    }
}

/// The secrets that a frame has been granted, and where their values are.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    ids: SecretIds,
    store: SecretStore,
}

impl Granted {
    pub(crate) fn of(frame: &Frame, app: &App) -> Option<Self> {
        let ids = frame.get(&SECRETS_KEY)?.clone();
        Some(Self { ids, store: app.get(&SECRET_STORE)?.clone() })
    }

    /// The secret `id` as it is at the moment.
    pub(crate) fn get(&self, id: &SecretId) -> Result<Arc<StoredSecret>, SecretError> {
        if !self.ids.contains(id) {
            return Err(SecretError::NotGranted { id: id.clone() });
        }
        self.store.get(id).ok_or_else(|| SecretError::NotFound { id: id.clone() })
    }
}
