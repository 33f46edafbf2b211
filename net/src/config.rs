//! Networks as text.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::direct::DirectConfig;
use crate::limits::LimitsConfig;
use crate::network::NetworkId;

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
///             "deadline": "1m",
///         },
///         "host:lan": { "kind": "direct" },
///     },
/// }))?;
/// assert_eq!(config.networks.len(), 2);
/// assert!(!format!("{config:?}").contains("\"secret\""));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct NetConfig {
    /// The network of frames that nothing else decides for. Without one these are on clearnet.
    pub default: Option<NetworkId>,
    /// What may be reached over clearnet, and how.
    pub clearnet: DirectConfig,
    /// The overlay networks.
    pub networks: BTreeMap<NetworkId, NetworkConfig>,
    /// How many connections and lookups there may be.
    pub limits: LimitsConfig,
}

impl NetConfig {
    /// With other settings of clearnet.
    #[must_use]
    pub fn with_clearnet(self, clearnet: DirectConfig) -> Self {
        Self { clearnet, ..self }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: LimitsConfig) -> Self {
        Self { limits, ..self }
    }
}

/// One network: its `kind`, whether it is `selectable`, and the settings of the kind beside these. The settings are
/// read by the [`Driver`](crate::Driver) of the kind, when the network is made.
///
/// What the settings are is not shown in `Debug`: there may be passwords among them.
///
/// ```
/// use frame_net::NetworkConfig;
///
/// let json = r#"{ "kind": "socks5", "selectable": true, "proxy": "127.0.0.1:9050" }"#;
/// assert!(serde_json::from_str::<NetworkConfig>(json)?.is_selectable());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct NetworkConfig {
    kind: String,
    is_selectable: bool,
    settings: Map<String, Value>,
}

impl NetworkConfig {
    /// A network of this kind, with these settings, that is not selectable.
    pub fn new(kind: impl Into<String>, settings: Map<String, Value>) -> Self {
        Self { kind: kind.into(), is_selectable: false, settings }
    }

    /// The same, selectable or not.
    #[must_use]
    pub fn with_selectable(self, is_selectable: bool) -> Self {
        Self { is_selectable, ..self }
    }

    /// The kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether code that is not trusted may [choose](crate#who-may-choose) the network.
    pub const fn is_selectable(&self) -> bool {
        self.is_selectable
    }

    /// The settings as a driver has them.
    pub(crate) fn settings(&self) -> &Map<String, Value> {
        &self.settings
    }
}

impl<'de> Deserialize<'de> for NetworkConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Ok(Value::Object(mut settings)) = Value::deserialize(deserializer) else {
            return Err(D::Error::custom(
                "a network is an object with `kind`, and the settings of that kind",
            ));
        };
        let is_selectable = match settings.remove("selectable") {
            None => false,
            Some(Value::Bool(is_selectable)) => is_selectable,
            Some(_) => return Err(D::Error::custom("`selectable` is `true` or `false`")),
        };
        match settings.remove("kind") {
            Some(Value::String(kind)) => Ok(Self { kind, is_selectable, settings }),
            Some(_) => Err(D::Error::custom("the `kind` of a network is a string, such as \"socks5\"")),
            None => Err(D::Error::missing_field("kind")),
        }
    }
}

impl fmt::Debug for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.settings.keys().collect();
        f.debug_struct("NetworkConfig")
            .field("kind", &self.kind)
            .field("is_selectable", &self.is_selectable)
            .field("settings", &names)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::direct::Direct;
    use crate::registry::NetworkRegistry;

    /// The error and all its causes, of a network that is configured wrongly.
    fn error(network: &Value) -> String {
        let config = match serde_json::from_value::<NetworkConfig>(network.clone()) {
            Ok(config) => config,
            Err(error) => return error.to_string(),
        };
        assert!(!format!("{config:?}").contains("31337"), "{config:?}");
        let networks = NetworkRegistry::new(Arc::new(Direct::default()));
        let error = networks.create("app:tor".parse().unwrap(), &config).unwrap_err();
        assert!(!error.is_retryable() && networks.list().is_empty());
        assert!(!format!("{error:?}").contains("31337"), "{error:?}");
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(serde_json::from_value::<NetConfig>(json!({ "defualt": "app:tor" })).is_err());
        assert!(serde_json::from_value::<NetConfig>(json!({ "default": "tor" })).is_err());
        assert!(serde_json::from_value::<NetConfig>(json!({ "networks": { "tor": {} } })).is_err());
        assert!(serde_json::from_value::<NetConfig>(json!({ "clearnet": { "alow": [] } })).is_err());
        assert!(error(&json!({})).contains("missing field `kind`"));
        assert!(error(&json!({ "kind": 5 })).contains("is a string"));
        assert!(error(&json!("31337")).contains("is an object"));
        for selectable in [json!(1), json!("true"), json!(null), json!(["31337"])] {
            let error = error(&json!({ "kind": "direct", "selectable": selectable }));
            assert_eq!(error, "`selectable` is `true` or `false`");
        }
        let unknown = error(&json!({ "kind": "sock5" }));
        assert!(unknown.contains("no kind of network `sock5`; there are direct, "), "{unknown}");
        assert!(error(&json!({ "kind": "direct", "proxy": "h:1" })).contains("unknown key `proxy`"));
        assert!(
            error(&json!({ "kind": "socks5", "proxy": "h:1", "user": "" }))
                .contains("unknown key `user`; did you mean `credentials.username`?")
        );
        assert!(error(&json!({ "kind": "socks5" })).contains("missing key `proxy`"));
        assert!(error(&json!({ "kind": "direct", "deadline": "0s" })).contains("longer than zero"));
    }

    #[test]
    fn an_error_says_where_in_the_settings_it_is() {
        let error = error(&json!({ "kind": "socks5", "proxy": "h:1", "credentials": { "username": 5 } }));
        assert!(error.contains("`app:tor`") && error.contains("credentials.username"), "{error}");
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
            socks5("credentials", json!({ "username": "u", "password": { "env": "not a name 31337" } })),
            socks5("credentials", json!("u:31337")),
            socks5("credentials", json!(31337)),
            socks5("isolate", json!("31337")),
            socks5("deadline", json!("31337")),
            socks5("via", json!(31337)),
            socks5("proxy", json!("socks5://u:31337@h:1")),
            socks5("proxy", json!("u:31337@h")),
        ];
        for error in errors {
            assert!(!error.contains("31337"), "{error}");
        }
    }
}
