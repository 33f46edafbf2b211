//! Networks as text.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error;
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::direct::DirectConfig;
use crate::limits::LimitsConfig;
use crate::network::NetworkId;
use crate::secret;

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
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct NetConfig {
    /// The network of frames that nothing else decides for. Without one these are on clearnet.
    #[serde(skip_serializing_if = "Option::is_none")]
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

/// Writes the network as it is read. A secret in plain text is an error: a string in a setting whose name is that of a
/// password, a key, a token or another secret, or a URL with a password in it. Such settings have to name an environment
/// variable with `env` to be written.
impl Serialize for NetworkConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        for (name, value) in &self.settings {
            if has_secret(name, value) {
                return Err(S::Error::custom(format_args!("`{name}`: {}", secret::NOT_WRITTEN)));
            }
        }
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("kind", &self.kind)?;
        if self.is_selectable {
            members.serialize_entry("selectable", &true)?;
        }
        for (name, value) in &self.settings {
            members.serialize_entry(name, value)?;
        }
        members.end()
    }
}

/// Returns whether there is a secret in plain text in the setting `name`.
fn has_secret(name: &str, value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| has_secret(name, value)),
        Value::Array(values) => values.iter().any(|value| has_secret(name, value)),
        Value::String(text) => secret::is_secret_name(name) || (text.contains("://") && text.contains('@')),
        Value::Number(_) => secret::is_secret_name(name),
        Value::Null | Value::Bool(_) => false,
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
        assert!(!error.is_retryable() && networks.ids().is_empty());
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

    /// Reads settings, writes them and reads them again.
    fn round_trip<C>(settings: &Value)
    where
        C: serde::de::DeserializeOwned + Serialize + std::fmt::Debug,
    {
        let config: C = serde_json::from_value(settings.clone()).unwrap();
        let written = serde_json::to_value(&config).unwrap();
        let read: C = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{config:?}"));
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
    }

    #[test]
    fn what_is_read_is_written_back() {
        let rules = json!({
            "allow": ["10.0.8.0/24:5432", "[fd00:8::/64]:5432", "*.example"], "deny": ["*:25"], "default": "deny",
            "deadline": "1m 30s",
        });
        let with = |further: Value| {
            let mut settings = rules.clone();
            settings.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
            settings
        };
        round_trip::<crate::DirectConfig>(&json!({}));
        round_trip::<crate::DirectConfig>(&with(json!({ "listen": ["127.0.0.1:8000-8999"] })));
        round_trip::<crate::socks5::Socks5Config>(&json!({ "proxy": "h:1" }));
        let credentials = json!({ "username": "u", "password": { "env": "PATH" } });
        for further in [json!({ "isolate": true, "via": "app:b" }), json!({ "credentials": credentials })] {
            let mut further = further;
            further["proxy"] = json!("[::1]:1080");
            round_trip::<crate::socks5::Socks5Config>(&with(further));
        }
        let networks = json!({
            "default": "app:tor",
            "clearnet": rules,
            "networks": {
                "app:tor": { "kind": "socks5", "selectable": true, "proxy": "h:1", "credentials": credentials },
                "app:lan": { "kind": "direct", "allow": ["10.0.0.0/8"] },
            },
            "limits": { "connections": 7 },
        });
        round_trip::<NetConfig>(&networks);
        assert_eq!(serde_json::to_value(NetConfig::default()).unwrap()["networks"], json!({}));
    }

    #[test]
    #[cfg(feature = "http-connect")]
    fn an_http_proxy_is_written_back() {
        use crate::http_connect::{HttpConnectConfig, Trust};

        let settings = json!({
            "proxy": "h:1", "tls": true, "credentials": { "username": "u", "password": { "env": "PATH" } },
        });
        round_trip::<HttpConnectConfig>(&settings);
        let config: HttpConnectConfig = serde_json::from_value(settings).unwrap();
        let error = serde_json::to_value(config.with_tls(Trust::Only(Vec::new()))).unwrap_err();
        assert!(error.to_string().contains("`tls` was set in code"), "{error}");
    }

    #[test]
    #[cfg(feature = "i2p")]
    fn an_i2p_network_is_written_back() {
        use crate::i2p::I2pConfig;

        round_trip::<I2pConfig>(&json!({ "sam": "127.0.0.1:7656" }));
        round_trip::<I2pConfig>(&json!({
            "sam": "127.0.0.1:7656", "user": "u", "password": { "env": "PATH" }, "via": "app:b",
            "destination": { "signature_type": 7 }, "options": { "inbound.length": 2 }, "first_byte_timeout": "1m",
        }));
        let options = json!({ "i2cp.leaseSetPrivKey": "31337" });
        let config: I2pConfig = serde_json::from_value(json!({ "sam": "h:1", "options": options })).unwrap();
        let error = serde_json::to_value(config).unwrap_err().to_string();
        assert!(error.contains("in plain text") && !error.contains("31337"), "{error}");
    }

    #[test]
    #[cfg(feature = "wireguard")]
    fn a_wireguard_network_is_written_back() {
        round_trip::<crate::wireguard::WireGuardConfig>(&json!({
            "private_key": { "env": "PATH" }, "addresses": ["10.8.0.2/24", "fd00::2"], "dns": ["10.8.0.1"],
            "bind": "127.0.0.1", "stack": "user", "deadline": "1s",
            "peers": [{
                "public_key": "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=", "endpoint": "vpn.example.com:51820",
                "allowed_ips": ["10.8.0.0/24", "fd00::/64"], "keepalive": "25s",
                "preshared_key": { "env": "PATH" },
            }, { "public_key": "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=", "allowed_ips": [] }],
        }));
    }

    #[test]
    fn a_secret_in_plain_text_is_not_written() {
        let credentials = json!({ "username": "u", "password": "31337" });
        let socks5: crate::socks5::Socks5Config =
            serde_json::from_value(json!({ "proxy": "h:1", "credentials": credentials })).unwrap();
        let error = serde_json::to_value(socks5).unwrap_err().to_string();
        assert!(error.contains("name that with `env`") && !error.contains("31337"), "{error}");
        let secrets = [
            json!({ "kind": "a", "credentials": credentials }),
            json!({ "kind": "a", "credentials": "u:31337" }),
            json!({ "kind": "a", "peers": [{ "preshared_key": "31337" }] }),
            json!({ "kind": "a", "private_key": "31337" }),
            json!({ "kind": "a", "token": 31337 }),
            json!({ "kind": "a", "proxy": "socks5://u:31337@h" }),
        ];
        for settings in secrets {
            let config: NetworkConfig = serde_json::from_value(settings).unwrap();
            let error = serde_json::to_value(config).unwrap_err().to_string();
            assert!(error.contains("in plain text") && !error.contains("31337"), "{error}");
        }
    }
}
