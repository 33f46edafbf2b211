//! The settings of an I2P network: of the bridge, its credentials, and the session.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::Error;
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::endpoint::Endpoint;
use crate::i2p::PrivateKey;
use crate::i2p::message::quoted;
use crate::network::NetworkId;
use crate::secret::Secret;
use crate::{deadline, secret, settings};

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
                members.serialize_entry("signature_type", signature_type)?;
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

/// A user name and a password for the bridge (SAM 3.2). Neither can be empty or have a control character in it, a
/// line break above all. The password is never shown.
///
/// Older bridges, that of i2pd among them, ask nobody who they are, and take no notice of this.
///
/// ```
/// use frame_net::Secret;
/// use frame_net::i2p::SamCredentials;
///
/// let credentials = SamCredentials::new("app", Secret::new("xyzzy"))?;
/// assert_eq!(format!("{credentials:?}"), r#"SamCredentials { user: "app", password: <secret> }"#);
/// assert!(SamCredentials::new("app\nQUIT", Secret::new("xyzzy")).is_err());
/// # Ok::<(), frame_net::i2p::SamCredentialsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamCredentials {
    user: Box<str>,
    password: Secret,
}

impl SamCredentials {
    /// The longest that either can be, in bytes.
    pub const MAX_LEN: usize = 255;

    /// A user name and a password.
    ///
    /// # Errors
    ///
    /// [`SamCredentialsError`] if one of them is empty, too long, or has a control character in it.
    pub fn new(user: impl Into<Box<str>>, password: Secret) -> Result<Self, SamCredentialsError> {
        let user = user.into();
        for (text, part) in [(&*user, "user"), (password.expose(), "password")] {
            if text.is_empty() || text.len() > Self::MAX_LEN || text.contains(char::is_control) {
                return Err(SamCredentialsError { part });
            }
        }
        Ok(Self { user, password })
    }

    /// Returns the user name and the password.
    fn into_parts(self) -> (String, Secret) {
        (self.user.into(), self.password)
    }

    /// As they stand in the greeting, each with a space before it.
    pub(super) fn pairs(&self) -> Zeroizing<String> {
        let (user, password) = (quoted(&self.user), quoted(self.password.expose()));
        Zeroizing::new([" USER=", &user, " PASSWORD=", &password].concat())
    }
}

/// A user name or a password cannot be sent to a bridge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the SAM `{part}` must have 1 to {} bytes, and no control character among them",
    SamCredentials::MAX_LEN
)]
pub struct SamCredentialsError {
    part: &'static str,
}

/// Options of a session, such as how long its tunnels are, which the bridge hands on to the router. In text an object
/// of strings, numbers and booleans.
///
/// A name consists of ASCII letters, digits, `.`, `-` and `_`; names without a lower-case letter are SAM's own
/// (`STYLE`, `ID`, …) and refused. A value consists of printable ASCII without spaces, quotes and backslashes. So
/// nothing in here can be read as another part of the request. A router ignores what it does not know.
///
/// Values are not shown: there may be keys among them.
///
/// ```
/// use frame_net::i2p::SessionOptions;
///
/// let json = r#"{ "inbound.length": 2, "i2cp.leaseSetEncType": "4,0", "i2p.streaming.profile": "bulk" }"#;
/// let options: SessionOptions = serde_json::from_str(json)?;
/// assert_eq!(options.get("inbound.length"), Some("2"));
///
/// assert!(serde_json::from_str::<SessionOptions>(r#"{ "inbound.length": "2 ID=other" }"#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SessionOptions(BTreeMap<Box<str>, Box<str>>);

impl SessionOptions {
    /// How long all names and values can be together, in bytes: bridges do not read lines of any length.
    pub const MAX_LEN: usize = 4096;

    /// With this option, in the place of an earlier one of its name.
    ///
    /// # Errors
    ///
    /// [`SessionOptionError`] if it could be read as something else.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, SessionOptionError> {
        check_name(name)?;
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\".contains(&byte);
        if value.is_empty() || !value.bytes().all(allowed) {
            return Err(SessionOptionError::Value { name: name.into() });
        }
        self.0.insert(name.into(), value.into());
        let len: usize = self.0.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        if len > Self::MAX_LEN { Err(SessionOptionError::TooLong { len }) } else { Ok(self) }
    }

    /// The value of an option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| &**value)
    }

    /// As they stand in a request, each with a space before it.
    pub(super) fn pairs(&self) -> Zeroizing<String> {
        let parts = self.0.iter().flat_map(|(name, value)| [" ", name, "=", value]);
        Zeroizing::new(parts.collect::<Vec<_>>().concat())
    }
}

fn check_name(name: &str) -> Result<(), SessionOptionError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(SessionOptionError::Name);
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(SessionOptionError::Reserved { name: name.into() });
    }
    Ok(())
}

/// An option whose name is that of a secret, such as `i2cp.leaseSetPrivKey`, is not written.
impl Serialize for SessionOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.keys().any(|name| secret::is_secret_name(name)) {
            return Err(S::Error::custom(secret::NOT_WRITTEN));
        }
        serializer.collect_map(&self.0)
    }
}

impl<'de> Deserialize<'de> for SessionOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An error of derived code would quote what stands in the wrong place.
        let Value::Object(given) = Value::deserialize(deserializer)? else {
            let error = "session options are an object of strings, numbers and booleans";
            return Err(serde::de::Error::custom(error));
        };
        let mut options = Self::default();
        for (name, value) in given {
            let value = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(is) => is.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    check_name(&name).map_err(serde::de::Error::custom)?;
                    let error = format!("the session option `{name}` is a string, a number or a boolean");
                    return Err(serde::de::Error::custom(error));
                }
            };
            options = options.with(&name, &value).map_err(serde::de::Error::custom)?;
        }
        Ok(options)
    }
}

impl fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A session cannot be asked for this. No value is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionOptionError {
    /// The name has something in it that no name has.
    #[error(
        "the name of a session option is of ASCII letters, digits, `.`, `-` and `_`, such as `inbound.length`"
    )]
    Name,
    /// The name is one of SAM's own.
    #[error("`{name}` is no session option but a part of SAM itself, which this network decides on")]
    Reserved {
        /// The name.
        name: Box<str>,
    },
    /// The value has something in it that no value has, or nothing.
    #[error(
        "the value of `{name}` is of printable ASCII without spaces, quotes and backslashes, and not empty"
    )]
    Value {
        /// The name.
        name: Box<str>,
    },
    /// All options together are too long.
    #[error("all session options together have {len} bytes; at most {} are allowed", SessionOptions::MAX_LEN)]
    TooLong {
        /// How long they are.
        len: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::i2p::message::Message;

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

    #[test]
    fn what_could_be_read_as_something_else_is_refused() {
        let with = |name: &str, value: &str| SessionOptions::default().with(name, value);
        for name in ["", "a b", "a=b", "a\nb", "a\0", "a\"", "ä"] {
            assert_eq!(with(name, "1"), Err(SessionOptionError::Name), "{name:?}");
        }
        for name in ["ID", "STYLE", "DESTINATION", "SIGNATURE_TYPE", "FROM_PORT", "0"] {
            assert_eq!(with(name, "1"), Err(SessionOptionError::Reserved { name: name.into() }));
        }
        for value in ["", "1 ID=x", "1\nQUIT", "1\r", "\0", "\"1\"", "'", "\\", "ä", "\u{7f}"] {
            let error = with("inbound.length", value).unwrap_err();
            assert_eq!(error, SessionOptionError::Value { name: "inbound.length".into() }, "{value:?}");
        }
        let longest = "x".repeat(SessionOptions::MAX_LEN - 3);
        assert!(with("a", &longest).is_ok());
        assert!(matches!(with("a", &(longest + "x")), Err(SessionOptionError::TooLong { .. })));
        // The keys of encrypted destinations are base 64.
        assert!(with("i2cp.leaseSetPrivKey", "ab-~==").is_ok());
    }

    #[test]
    fn values_are_not_shown() {
        let options = SessionOptions::default().with("i2cp.leaseSetSecret", "31337").unwrap();
        assert_eq!(format!("{options:?}"), r#"{"i2cp.leaseSetSecret"}"#);
        let json = r#"{ "i2cp.leaseSetSecret": ["31337"] }"#;
        let error = serde_json::from_str::<SessionOptions>(json).unwrap_err().to_string();
        assert!(error.contains("leaseSetSecret") && !error.contains("31337"), "{error}");
        for json in [r#""31337""#, "31337", r#"["31337"]"#, "null"] {
            let error = serde_json::from_str::<SessionOptions>(json).unwrap_err().to_string();
            assert!(error.contains("are an object") && !error.contains("31337"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_one_pair_of_a_line(
            name in prop_oneof!["[A-Za-z.=_ -]{1,20}", "\\PC{1,20}", ".{1,20}"],
            value in prop_oneof!["[A-Za-z0-9.=,\"' \\\\]{1,20}", "\\PC{1,20}", "(.|\n|\r|\0){1,20}"],
        ) {
            let Ok(options) = SessionOptions::default().with(&name, &value) else { return Ok(()) };
            let line = format!("A B{} LAST=1", *options.pairs());
            prop_assert!(!line.contains(['\n', '\r', '\0']));
            let message = Message::parse(line.as_bytes()).unwrap();
            prop_assert_eq!(message.get(&name), Ok(Some(&*value)));
            prop_assert_eq!(message.get("LAST"), Ok(Some("1")));
            prop_assert_eq!(line.matches(' ').count(), 3);
        }
    }
}
