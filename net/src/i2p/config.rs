//! The settings of an I2P network.

use std::time::Duration;

use serde::de::Error;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::i2p::{PrivateKey, SamCredentials, SessionOptions};
use crate::network::NetworkId;
use crate::secret::Secret;
use crate::{deadline, settings};

/// The settings of an [`I2p`](super::I2p) network. In text: `sam`, `user` and `password`, `destination`, `options`,
/// `via`, `deadline`, `session_deadline`, `first_byte_timeout`.
///
/// ```
/// use frame_net::i2p::{I2pConfig, LocalDestination};
///
/// let json = r#"{
///     "sam": "127.0.0.1:7656",
///     "destination": { "signature_type": 7 },
///     "options": { "inbound.quantity": 3, "outbound.quantity": 3, "i2cp.leaseSetEncType": "4,0" },
///     "first_byte_timeout": "1m"
/// }"#;
/// let config: I2pConfig = serde_json::from_str(json)?;
/// assert_eq!(config.destination, LocalDestination::Transient { signature_type: 7 });
/// assert_eq!(config.first_byte_timeout.unwrap().as_secs(), 60);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "Written")]
#[non_exhaustive]
pub struct I2pConfig {
    /// Where the bridge is, most often `127.0.0.1:7656`. If this is a name, then it is looked up by this host, or by
    /// the network that it is reached [`via`](Self::via); names to connect to never are.
    pub sam: Endpoint,
    /// Who the bridge is told that this is.
    pub credentials: Option<SamCredentials>,
    /// Where this network is on I2P.
    pub destination: LocalDestination,
    /// What the session is asked for beyond that.
    pub options: SessionOptions,
    /// The network that the bridge is reached through, if it is not by this host.
    pub via: Option<NetworkId>,
    /// How long a connection may take once the session stands, and the beginning of listening: 90 seconds unless
    /// given. A router may take a minute to find out that it cannot reach a destination.
    pub deadline: Duration,
    /// How long the session may take: 5 minutes unless given. With all tunnels to be built this is most often 20
    /// seconds, but may be minutes where the router has just started, and then it is wrong to give up and begin
    /// again. Who does not want to wait for it as long drops the future; the session is still made.
    pub session_deadline: Duration,
    /// How long it may take from a connection until its first byte is received, if that is limited.
    ///
    /// A router may answer that it has connected before the destination has said anything: i2pd always does. With
    /// this the first read fails (`ErrorKind::TimedOut`) if nothing has arrived by then, and so does every one after
    /// it; writing goes on, for where the client speaks first. Not for protocols where the other end may be silent.
    pub first_byte_timeout: Option<Duration>,
}

/// Where a network is on I2P.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalDestination {
    /// Somewhere new, for as long as this network is there: a session after the first is at the same destination. It is
    /// somewhere new again once the network that it goes [`via`](I2pConfig::via) is another, unless somebody listens:
    /// the bridge is not to know that both ways are those of one client.
    Transient {
        /// The type of its signatures, as I2P numbers them. Number 7, Ed25519, is what everyone uses.
        signature_type: u16,
    },
    /// Always at the same place.
    PrivateKey(PrivateKey),
}

/// Ed25519.
const SIGNATURE_TYPE: u16 = 7;
const DEADLINE: Duration = Duration::from_secs(90);
const SESSION_DEADLINE: Duration = Duration::from_mins(5);

impl Default for LocalDestination {
    fn default() -> Self {
        Self::Transient { signature_type: SIGNATURE_TYPE }
    }
}

impl I2pConfig {
    /// The settings for a transient destination, with what the router takes for tunnels if it is not told.
    #[must_use]
    pub fn new(sam: Endpoint) -> Self {
        Self {
            sam,
            credentials: None,
            destination: LocalDestination::default(),
            options: SessionOptions::default(),
            via: None,
            deadline: DEADLINE,
            session_deadline: SESSION_DEADLINE,
            first_byte_timeout: None,
        }
    }
}

/// The settings as they are written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    sam: Endpoint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<Secret>,
    #[serde(default)]
    destination: LocalDestination,
    #[serde(default)]
    options: SessionOptions,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    via: Option<NetworkId>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "deadline::optional",
        serialize_with = "deadline::optional_to_text"
    )]
    deadline: Option<Duration>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "deadline::optional",
        serialize_with = "deadline::optional_to_text"
    )]
    session_deadline: Option<Duration>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "deadline::optional",
        serialize_with = "deadline::optional_to_text"
    )]
    first_byte_timeout: Option<Duration>,
}

impl TryFrom<Written> for I2pConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let credentials = match (written.user, written.password) {
            (None, None) => None,
            (Some(user), Some(password)) => {
                Some(SamCredentials::new(user, password).map_err(|error| error.to_string())?)
            }
            _ => return Err("`user` and `password` belong together; give both or none".to_owned()),
        };
        Ok(Self {
            sam: written.sam,
            credentials,
            destination: written.destination,
            options: written.options,
            via: written.via,
            deadline: written.deadline.unwrap_or(DEADLINE),
            session_deadline: written.session_deadline.unwrap_or(SESSION_DEADLINE),
            first_byte_timeout: written.first_byte_timeout,
        })
    }
}

impl From<I2pConfig> for Written {
    fn from(config: I2pConfig) -> Self {
        let (user, password) = config.credentials.map(SamCredentials::into_parts).unzip();
        Self {
            sam: config.sam,
            user,
            password,
            destination: config.destination,
            options: config.options,
            via: config.via,
            deadline: Some(config.deadline),
            session_deadline: Some(config.session_deadline),
            first_byte_timeout: config.first_byte_timeout,
        }
    }
}

impl Serialize for LocalDestination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(1))?;
        match self {
            Self::Transient { signature_type } => {
                members.serialize_entry("signature_type", signature_type)?
            }
            Self::PrivateKey(key) => members.serialize_entry("private_key", key.text())?,
        }
        members.end()
    }
}

impl<'de> Deserialize<'de> for LocalDestination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Given {
            #[serde(default)]
            private_key: Option<Secret>,
            #[serde(default, deserialize_with = "signature_type")]
            signature_type: Option<u16>,
        }

        // Derived code would quote what stands where the object belongs: most likely the private key.
        let members @ Value::Object(_) = Value::deserialize(deserializer)? else {
            return Err(D::Error::custom(
                "a destination is an object with `private_key` or `signature_type`, and nothing else",
            ));
        };
        let given: Given = settings::nested(members)?;
        match (given.private_key, given.signature_type) {
            (Some(key), None) => PrivateKey::new(key).map(Self::PrivateKey).map_err(D::Error::custom),
            (None, given) => Ok(Self::Transient { signature_type: given.unwrap_or(SIGNATURE_TYPE) }),
            (Some(_), Some(_)) => Err(D::Error::custom(
                "a `private_key` has its type of signatures already; leave `signature_type` out",
            )),
        }
    }
}

/// Reads a type of signatures, and does not quote what else stands in its place.
fn signature_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let given = Value::deserialize(deserializer)?;
    if given.is_null() {
        return Ok(None);
    }
    let number = given.as_u64().and_then(|number| u16::try_from(number).ok());
    number.map(Some).ok_or_else(|| D::Error::custom("a `signature_type` is a number from 0 to 65535"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(mut settings: Value) -> Result<I2pConfig, String> {
        settings["sam"] = json!("127.0.0.1:7656");
        serde_json::from_value(settings).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_given_is_as_with_new() {
        assert_eq!(config(json!({})).unwrap(), I2pConfig::new("127.0.0.1:7656".parse().unwrap()));
        assert_eq!(config(json!({ "destination": {} })), config(json!({})));
    }

    #[test]
    fn what_is_wrong_is_refused_without_showing_it() {
        let wrong = [
            (json!({ "destination": "31337" }), "is an object"),
            (json!({ "destination": 31337 }), "is an object"),
            (json!({ "destination": -31337 }), "is an object"),
            (json!({ "destination": 31337.5 }), "is an object"),
            (json!({ "destination": true }), "is an object"),
            (json!({ "destination": ["31337"] }), "an object with"),
            (json!({ "destination": { "signature_type": "31337" } }), "is a number from 0"),
            (json!({ "destination": { "signature_type": -31337 } }), "is a number from 0"),
            (json!({ "options": "31337" }), "session options are"),
            (json!({ "destination": { "private_key": "31337" } }), "base 64"),
            (json!({ "destination": { "private_key": 31337 } }), "a secret is"),
            (json!({ "destination": { "key": "" } }), "unknown field"),
            (json!({ "destination": { "private_key": "31337", "signature_type": 7 } }), "leave `sign"),
            (json!({ "password": "31337" }), "belong together"),
            (json!({ "user": "u" }), "belong together"),
            (json!({ "user": "u", "password": "31337\n" }), "the SAM `password`"),
            (json!({ "user": "u\0", "password": "31337" }), "the SAM `user`"),
            (json!({ "options": { "a": "31337 b" } }), "the value of `a`"),
            (json!({ "options": { "a b": "31337" } }), "the name of a session option"),
            (json!({ "deadline": "0s" }), "longer than zero"),
            (json!({ "session_deadline": "0s" }), "longer than zero"),
            (json!({ "first_byte_timeout": "0s" }), "longer than zero"),
            (json!({ "first_byte_timeout": 31337 }), "write \"5s\""),
            (json!({ "sma": 1 }), "unknown field `sma`"),
        ];
        for (settings, expected) in wrong {
            let error = config(settings).unwrap_err();
            assert!(error.contains(expected) && !error.contains("31337"), "{error}");
        }
    }
}
