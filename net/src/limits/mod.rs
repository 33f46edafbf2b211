//! Limits of connections and lookups, which units share.

mod config;
mod counted;
mod limiter;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use frame_registry::{App, Frame};
use tokio::net::TcpStream;

use self::limiter::Limiter;
use crate::audit::Recording;
use crate::endpoint::Endpoint;
use crate::registry::NETWORKS;

pub use self::config::LimitsConfig;
pub(crate) use self::counted::{Counted, CountedDatagrams, CountedListener};
pub(crate) use self::limiter::Permit;
pub use self::limiter::{LimitReached, LimitScope, LimitedResource, UNIT_OF, Unit};

/// The limits of an app's networks.
pub(crate) struct Limits {
    connections: Arc<Limiter>,
    lookups: Arc<Limiter>,
    /// The pools of idle connections.
    pools: Mutex<Vec<Weak<dyn IdlePool>>>,
}

/// A pool of idle connections, which can close them to make room.
pub(crate) trait IdlePool: Send + Sync {
    /// Closes the oldest of the unit, or of all, and returns whether there was one. Its permit is returned by then.
    fn close_oldest(&self, unit: Option<&Unit>) -> bool;

    /// Returns how many there are.
    fn len(&self) -> usize;
}

impl Limits {
    pub(crate) fn new(config: &LimitsConfig) -> Arc<Self> {
        let limiter = |resource, total: usize, per_unit: Option<_>| {
            Arc::new(Limiter::new(resource, total, per_unit.map_or(usize::MAX, std::num::NonZero::get)))
        };
        Arc::new(Self {
            connections: limiter(
                LimitedResource::Connections,
                config.connections(),
                config.connections_per_unit,
            ),
            lookups: limiter(LimitedResource::Lookups, config.lookups(), config.lookups_per_unit),
            pools: Mutex::default(),
        })
    }

    /// Returns how many connections all units together may have.
    #[cfg(feature = "http")]
    pub(crate) fn connections(&self) -> usize {
        self.connections.total()
    }

    /// Has `pool` close connections where others need room.
    #[cfg(feature = "http")]
    pub(crate) fn attach(&self, pool: &Arc<impl IdlePool + 'static>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |known: &Weak<dyn IdlePool>| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(pool));
        if !pools.iter().any(is_same) {
            pools.retain(|known| known.strong_count() > 0);
            let pool: Weak<dyn IdlePool> = Arc::downgrade(pool) as _;
            pools.push(pool);
        }
    }

    /// Takes room for a connection of `unit`. If there is no room, idle connections are closed: the oldest of the
    /// unit first, then, if that makes room, the oldest of all.
    pub(crate) fn connection(&self, unit: &Unit) -> Result<Permit, LimitReached> {
        let refused = match self.connections.acquire(unit) {
            Ok(permit) => return Ok(permit),
            Err(refused) => refused,
        };
        let pools: Vec<_> = {
            let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.iter().filter_map(Weak::upgrade).collect()
        };
        while pools.iter().any(|pool| pool.close_oldest(Some(unit))) {
            if let Ok(permit) = self.connections.acquire(unit) {
                return Ok(permit);
            }
        }
        let missing = self.connections.missing(unit);
        if missing.is_some_and(|missing| missing <= pools.iter().map(|pool| pool.len()).sum()) {
            while pools.iter().any(|pool| pool.close_oldest(None)) {
                if let Ok(permit) = self.connections.acquire(unit) {
                    return Ok(permit);
                }
            }
        }
        Err(refused)
    }
}

/// Takes room for something that `frame`'s unit keeps open and that is not a connection, such as a file. It counts as one.
///
/// # Errors
///
/// [`LimitReached`] if there is no room. An app without networks has no limits.
pub fn reserve(frame: &Frame, app: &App) -> Result<Reserved, LimitReached> {
    let Some(networks) = app.get(&NETWORKS) else { return Ok(Reserved { _permit: None }) };
    let permit = networks.limits().connection(&Unit::of(frame, app))?;
    Ok(Reserved { _permit: Some(permit) })
}

/// Room for something that is open, from [`reserve`]. It is returned on drop.
pub struct Reserved {
    _permit: Option<Permit>,
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reserved")
    }
}

/// The unit that work is done for.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) limits: Arc<Limits>,
    pub(crate) unit: Unit,
    /// The record of the work.
    pub(crate) recording: Recording,
}

tokio::task_local! {
    static ACCOUNT: Account;
}

/// Runs `work`. Its lookups and further connections count for `account`. Networks pass nothing on for that: a network that
/// uses another one does so in the same task.
pub(crate) fn account<F: Future>(account: Account, work: F) -> impl Future<Output = F::Output> + use<F> {
    ACCOUNT.scope(account, work)
}

/// Records that this host has connected `stream` to `to`.
pub(crate) fn connected(to: &Endpoint, stream: &TcpStream) {
    // Connections that are made for no unit are not recorded.
    let _ = ACCOUNT.try_with(|account| account.recording.connected(to, || stream.peer_addr().ok()));
}

/// Takes room for a lookup. Lookups without a unit are not limited: networks make them for themselves.
pub(crate) fn lookup_permit() -> Result<Option<Permit>, LimitReached> {
    let acquired = ACCOUNT.try_with(|account| account.limits.lookups.acquire(&account.unit));
    acquired.ok().transpose()
}

/// Takes room for an attempt to connect that is made beside others for one connection.
pub(crate) fn attempt_permit() -> Result<Option<Permit>, LimitReached> {
    let acquired = ACCOUNT.try_with(|account| account.limits.connections.acquire(&account.unit));
    acquired.ok().transpose()
}
