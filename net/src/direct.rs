//! Clearnet: connections made by this host, names looked up by it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use frame_registry::BoxError;
use serde::Deserialize;

use crate::deadline::{self, Deadline};
use crate::driver::Driver;
use crate::endpoint::Endpoint;
use crate::error::DriverError;
use crate::host::HostName;
use crate::isolation::IsolationKey;
use crate::network::{BoxFuture, BoxStream, Network};
use crate::registry::NetworkRegistry;
use crate::tcp;

/// The settings of a [`Direct`] network. In text: `deadline_ms`.
///
/// ```
/// let config: frame_net::DirectConfig = serde_json::from_str(r#"{ "deadline_ms": 500 }"#)?;
/// assert_eq!(config.deadline.as_millis(), 500);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct DirectConfig {
    /// How long a connection may take, looking the name up included: 30 seconds unless given.
    #[serde(rename = "deadline_ms", deserialize_with = "deadline::from_millis")]
    pub deadline: Duration,
}

impl Default for DirectConfig {
    fn default() -> Self {
        Self { deadline: deadline::DEFAULT }
    }
}

/// A network that is none: it dials from this host, all addresses of a name in turn.
#[derive(Debug, Clone, Default)]
pub struct Direct {
    config: DirectConfig,
}

impl Direct {
    /// A network with these settings.
    #[must_use]
    pub const fn new(config: DirectConfig) -> Self {
        Self { config }
    }
}

/// Makes [`Direct`] networks.
#[derive(Debug, Clone, Copy)]
pub struct DirectDriver;

impl Driver for DirectDriver {
    type Config = DirectConfig;
    const KIND: &'static str = "direct";

    fn create(&self, config: DirectConfig, _: &NetworkRegistry) -> Result<Arc<dyn Network>, BoxError> {
        Ok(Arc::new(Direct::new(config)))
    }
}

impl Network for Direct {
    fn kind(&self) -> &'static str {
        DirectDriver::KIND
    }

    fn connect<'a>(
        &'a self,
        to: &'a Endpoint,
        _: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        Box::pin(async move {
            let stream = tcp::connect(to, Deadline::after(self.config.deadline)).await?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn lookup<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DriverError>> {
        Box::pin(async move {
            let found = tcp::addresses(name, 0, Deadline::after(self.config.deadline)).await?;
            Ok(found.iter().map(std::net::SocketAddr::ip).collect())
        })
    }
}
