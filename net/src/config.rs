//! Networks as text.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::direct::{Direct, DirectConfig};
use crate::id::NetworkId;
use crate::network::Network;
use crate::socks5::{Socks5, Socks5Config};

/// The networks of an app, as a configuration file gives them. What it does not know it refuses.
///
/// ```
/// use frame_net::NetConfig;
/// use serde_json::json;
///
/// let config: NetConfig = serde_json::from_value(json!({
///     "default": "app:tor",
///     "networks": {
///         "app:tor": {
///             "kind": "socks5",
///             "proxy": "127.0.0.1:9050",
///             "credentials": { "username": "app", "password": "secret" },
///             "deadline_ms": 60_000,
///         },
///         "host:lan": { "kind": "direct" },
///     },
/// }))?;
/// assert_eq!(config.networks.len(), 2);
/// assert!(!format!("{config:?}").contains("\"secret\""));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct NetConfig {
    /// The network of frames that nothing else decides for. Without one these are on clearnet.
    pub default: Option<NetworkId>,
    /// The overlay networks.
    pub networks: BTreeMap<NetworkId, NetworkConfig>,
}

/// One network: its kind, and the settings of that kind beside it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum NetworkConfig {
    /// From this host, without a proxy.
    Direct(DirectConfig),
    /// Through a SOCKS5 proxy, such as Tor's.
    Socks5(Socks5Config),
}

impl NetworkConfig {
    /// The network that is described. Nothing is connected yet.
    #[must_use]
    pub fn build(self) -> Arc<dyn Network> {
        match self {
            Self::Direct(config) => Arc::new(Direct::new(config)),
            Self::Socks5(config) => Arc::new(Socks5::new(config)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn error(network: &Value) -> String {
        let config = json!({ "networks": { "app:tor": network } });
        serde_json::from_value::<NetConfig>(config).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(serde_json::from_value::<NetConfig>(json!({ "defualt": "app:tor" })).is_err());
        assert!(serde_json::from_value::<NetConfig>(json!({ "default": "tor" })).is_err());
        assert!(serde_json::from_value::<NetConfig>(json!({ "networks": { "tor": {} } })).is_err());
        assert!(error(&json!({ "kind": "sock5" })).contains("unknown variant `sock5`"));
        assert!(error(&json!({ "kind": "direct", "proxy": "h:1" })).contains("unknown field `proxy`"));
        assert!(
            error(&json!({ "kind": "socks5", "proxy": "h:1", "user": "" })).contains("unknown field `user`")
        );
        assert!(error(&json!({ "kind": "socks5" })).contains("missing field `proxy`"));
        assert!(error(&json!({ "kind": "direct", "deadline_ms": 0 })).contains("nonzero"));
    }

    #[test]
    fn no_error_shows_a_password() {
        let socks5 = |member: &str, value: Value| {
            let mut config = json!({ "kind": "socks5", "proxy": "h:1" });
            config[member] = value;
            error(&config)
        };
        let errors = [
            socks5("credentials", json!({ "username": "u", "password": 31337 })),
            socks5("credentials", json!({ "username": "u", "password": ["31337"] })),
            socks5("credentials", json!({ "username": "", "password": "31337" })),
            socks5("credentials", json!({ "username": "u", "password": "31337".repeat(52) })),
            socks5("credentials", json!({ "username": "u", "password": "31337", "extra": 1 })),
            socks5("credentials", json!("u:31337")),
            socks5("proxy", json!("socks5://u:31337@h:1")),
            socks5("proxy", json!("u:31337@h")),
        ];
        for error in errors {
            assert!(!error.contains("31337"), "{error}");
        }
    }
}
