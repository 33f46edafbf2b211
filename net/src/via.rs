//! The way to the far end of a network: from this host, or through another network.

use std::fmt;
use std::sync::{Arc, Weak};

#[cfg(feature = "i2p")]
use tokio_util::sync::CancellationToken;

use crate::deadline::Deadline;
use crate::dialer::Route;
use crate::endpoint::Endpoint;
use crate::error::{Cause, ChosenBy, DriverError, Missing, NetworkError, Step};
use crate::id::NetworkId;
use crate::network::BoxStream;
use crate::registered::Registered;
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
        let (stream, _) = self.dial(to, deadline).await?;
        Ok(stream)
    }

    /// [`connect`](Self::connect), and a token that is cancelled once the way is another: for what is kept, and must
    /// not be continued on that one.
    #[cfg(feature = "i2p")]
    pub(crate) async fn connect_watched(
        &self,
        to: &Endpoint,
        deadline: Deadline,
    ) -> Result<(BoxStream, CancellationToken), DriverError> {
        let (stream, registered) = self.dial(to, deadline).await?;
        Ok((stream, registered.map(|registered| registered.retired.clone()).unwrap_or_default()))
    }

    /// Connects to `to`, through the network that is given back if it is not by this host.
    async fn dial(
        &self,
        to: &Endpoint,
        deadline: Deadline,
    ) -> Result<(BoxStream, Option<Arc<Registered>>), DriverError> {
        let failed = |error| DriverError::new(Step::Connect, to, Cause::Via(Box::new(error)));
        let (id, registered) = match self {
            Self::Host => {
                let stream = Box::new(tcp::connect(to, deadline).await?) as BoxStream;
                return Ok((stream, None));
            }
            Self::Network { id, networks } => {
                let networks = NetworkRegistry::upgrade(networks);
                (id, networks.and_then(|networks| networks.get(id)))
            }
        };
        let Some(registered) = registered else {
            let (id, missing) = (id.clone(), Missing::Network);
            return Err(failed(NetworkError::NotFound { id, chosen_by: ChosenBy::Chain, missing }));
        };
        let dialled = deadline.timeout(registered.carry(to)).await;
        let dialled = dialled.map_err(|cause| DriverError::new(Step::Connect, to, cause))?;
        match dialled {
            Ok(stream) => Ok((stream, Some(registered))),
            Err(source) => {
                let (to, route) = (to.clone(), Route::Network(id.clone()));
                Err(failed(NetworkError::Connect { to, route, source }))
            }
        }
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
