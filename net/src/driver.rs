//! Networks from their configurations.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use frame_registry::BoxError;
use serde::de::DeserializeOwned;

use crate::config::NetworkConfig;
use crate::direct::DirectDriver;
use crate::network::Network;
use crate::registry::NetworkRegistry;
use crate::settings::{SettingErrors, read_settings};
use crate::shield::{Held, Panicked};
use crate::socks5::Socks5Driver;

/// Makes networks of one kind.
///
/// ```
/// use frame_net::{BoxFuture, BoxStream, Direct, DriverError, Driver, Drivers, Endpoint, Network};
/// use frame_net::{NetworkConfig, NetworkRegistry, SettingError};
/// use frame_registry::BoxError;
/// use serde::Deserialize;
/// use serde_json::json;
/// use std::sync::Arc;
///
/// #[derive(Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct LoopConfig {
///     size: usize,
/// }
///
/// struct LoopDriver;
///
/// impl Driver for LoopDriver {
///     type Config = LoopConfig;
///     const KIND: &'static str = "loop";
///
///     fn create(&self, config: LoopConfig, _: &NetworkRegistry) -> Result<Arc<dyn Network>, BoxError> {
///         if config.size == 0 {
///             return Err(SettingError::new("size", "a loop of no bytes carries none").into());
///         }
///         Ok(Arc::new(Loop { size: config.size }))
///     }
/// }
/// # use frame_net::IsolationKey;
/// # struct Loop { size: usize }
/// # impl Network for Loop {
/// #     fn kind(&self) -> &'static str { LoopDriver::KIND }
/// #     fn connect<'a>(&'a self, _: &'a Endpoint, _: Option<&'a IsolationKey>)
/// #         -> BoxFuture<'a, Result<BoxStream, DriverError>> {
/// #         Box::pin(async { Ok(Box::new(tokio::io::duplex(self.size).0) as BoxStream) })
/// #     }
/// # }
///
/// let clearnet = Arc::new(Direct::default());
/// let networks = NetworkRegistry::with_drivers(clearnet, Drivers::standard().with(LoopDriver));
/// let config: NetworkConfig = serde_json::from_value(json!({ "kind": "loop", "size": 64 }))?;
/// networks.create("test:loop".parse()?, &config)?;
/// assert_eq!(networks.kind(&"test:loop".parse()?), Some("loop"));
///
/// let empty: NetworkConfig = serde_json::from_value(json!({ "kind": "loop", "size": 0 }))?;
/// let error = networks.create("test:empty".parse()?, &empty).unwrap_err();
/// # use std::error::Error;
/// let settings = error.source().and_then(|error| error.source()).unwrap();
/// assert_eq!(settings.to_string(), "`size`: a loop of no bytes carries none");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Driver: Send + Sync + 'static {
    /// The settings. They refuse what they do not know (`deny_unknown_fields`), and hold passwords and keys as
    /// [`Secret`](crate::Secret)s.
    type Config: DeserializeOwned;

    /// What the kind is called in a configuration.
    const KIND: &'static str;

    /// What other programs call a setting, and what it is called here: for errors, where the names are too far apart
    /// for a slip. A setting inside of another is given with a dot, such as `("password", "credentials.password")`.
    const SYNONYMS: &'static [(&'static str, &'static str)] = &[];

    /// Makes a network with these settings, which is to be registered in `networks`. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If settings that can be read make no sense together. A [`SettingError`](crate::SettingError) says which of them it is about, and
    /// [`SettingErrors`] is several of these.
    fn create(&self, config: Self::Config, networks: &NetworkRegistry) -> Result<Arc<dyn Network>, BoxError>;
}

type Create = dyn Fn(&NetworkConfig, &NetworkRegistry) -> Result<Result<Arc<dyn Network>, SettingErrors>, Panicked>
    + Send
    + Sync;

/// A [`Driver`] for each kind.
#[derive(Clone, Default)]
pub struct Drivers {
    by_kind: BTreeMap<&'static str, Arc<Create>>,
}

impl Drivers {
    /// No driver.
    pub fn none() -> Self {
        Self::default()
    }

    /// The drivers of this crate, as far as its cargo features have them.
    pub fn standard() -> Self {
        let drivers = Self::none().with(DirectDriver).with(Socks5Driver);
        #[cfg(feature = "http-connect")]
        let drivers = drivers.with(crate::http_connect::HttpConnectDriver);
        #[cfg(feature = "i2p")]
        let drivers = drivers.with(crate::i2p::I2pDriver);
        #[cfg(feature = "wireguard")]
        let drivers = drivers.with(crate::wireguard::WireGuardDriver);
        drivers
    }

    /// With this driver, in the place of an earlier one of its kind.
    #[must_use]
    pub fn with<D: Driver>(mut self, driver: D) -> Self {
        let driver = Held::new(driver);
        let create = move |config: &NetworkConfig, networks: &NetworkRegistry| {
            let settings = match read_settings::<D::Config>(config.settings(), D::SYNONYMS) {
                Ok(settings) => settings,
                Err(errors) => return Ok(Err(errors)),
            };
            driver.call(|driver| driver.create(settings, networks).map_err(SettingErrors::from))
        };
        self.by_kind.insert(D::KIND, Arc::new(create));
        self
    }

    /// The kinds that there are drivers for, in alphabetical order.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.by_kind.keys().copied()
    }

    pub(crate) fn create(
        &self,
        config: &NetworkConfig,
        networks: &NetworkRegistry,
    ) -> Result<Arc<dyn Network>, ConfigError> {
        let Some(create) = self.by_kind.get(config.kind()) else {
            let (kind, known) = (config.kind().to_owned(), self.kinds().collect());
            return Err(ConfigError::UnknownKind { kind, known });
        };
        let kind = || config.kind().to_owned();
        let created = create(config, networks).map_err(|Panicked| ConfigError::Panicked { kind: kind() })?;
        created.map_err(|source| ConfigError::Invalid { kind: kind(), source })
    }
}

impl fmt::Debug for Drivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drivers ")?;
        f.debug_set().entries(self.kinds()).finish()
    }
}

/// A configuration makes no network. It stays so until somebody changes it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no driver for the kind.
    #[error("there is no kind of network `{kind}`{}; there are {}", feature(.kind), known.join(", "))]
    UnknownKind {
        /// The kind.
        kind: String,
        /// The kinds that there are drivers for.
        known: Vec<&'static str>,
    },
    /// The driver panicked. The panic hook has reported how.
    #[error("the driver of {kind} networks panicked")]
    Panicked {
        /// The kind.
        kind: String,
    },
    /// The driver refuses the settings.
    #[error("the settings of a {kind} network are wrong")]
    Invalid {
        /// The kind.
        kind: String,
        /// What is wrong, setting by setting. It does not show secrets.
        source: SettingErrors,
    },
}

/// What to do about a kind that this crate has, and this build of it does not.
fn feature(kind: &str) -> String {
    let has_feature = ["http-connect", "i2p", "wireguard"].contains(&kind);
    if has_feature {
        format!(" in this build, for want of the cargo feature `{kind}`")
    } else {
        String::new()
    }
}
