//! The way to the far end of a network: from this host, or through another network.

use std::fmt;
use std::sync::Weak;

use crate::deadline::Deadline;
use crate::dialer::Route;
use crate::endpoint::Endpoint;
use crate::error::{Cause, ChosenBy, DriverError, Missing, NetworkError, Step};
use crate::id::NetworkId;
use crate::network::BoxStream;
use crate::registry::{self, NetworkRegistry};
use crate::tcp;

/// How a network's own connections are made, such as those to a proxy.
///
/// Another network is named, not held, as by a [`Dialer`](crate::Dialer): if it is replaced the next connection goes
/// through the new one, and if it is unregistered there is none.
#[derive(Clone)]
pub(crate) enum Via {
    /// By this host.
    Host,
    /// Through another network.
    Network { id: NetworkId, networks: Weak<registry::Inner> },
}

impl Via {
    /// Through `id`, or by this host if there is none.
    pub(crate) fn new(id: Option<NetworkId>, networks: &NetworkRegistry) -> Self {
        match id {
            None => Self::Host,
            Some(id) => Self::Network { id, networks: networks.downgrade() },
        }
    }

    /// The other network.
    pub(crate) fn id(&self) -> Option<&NetworkId> {
        match self {
            Self::Host => None,
            Self::Network { id, .. } => Some(id),
        }
    }

    /// Connects to `to`, before `deadline`.
    pub(crate) async fn connect(&self, to: &Endpoint, deadline: Deadline) -> Result<BoxStream, DriverError> {
        let failed = |error| DriverError::new(Step::Connect, to, Cause::Via(Box::new(error)));
        let (id, registered) = match self {
            Self::Host => return Ok(Box::new(tcp::connect(to, deadline).await?)),
            Self::Network { id, networks } => {
                let networks = NetworkRegistry::upgrade(networks);
                (id, networks.and_then(|networks| networks.get(id)))
            }
        };
        let Some(registered) = registered else {
            let (id, missing) = (id.clone(), Missing::Network);
            return Err(failed(NetworkError::NotFound { id, chosen_by: ChosenBy::Chain, missing }));
        };
        let dialled = deadline.timeout(registered.network.dial(to, None)).await;
        let dialled = dialled.map_err(|cause| DriverError::new(Step::Connect, to, cause))?;
        dialled.map_err(|source| {
            failed(NetworkError::Connect { to: to.clone(), route: Route::Network(id.clone()), source })
        })
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("Host"),
            Self::Network { id, .. } => write!(f, "Network({id})"),
        }
    }
}
