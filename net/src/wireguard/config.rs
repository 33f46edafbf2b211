//! The settings of a WireGuard network, and the keys in them.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use boringtun::x25519;
use data_encoding::BASE64;
use ipnet::IpNet;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::deadline;
use crate::endpoint::Endpoint;
use crate::secret::Secret;
use crate::wireguard::StackChoice;

/// The settings of a [`WireGuard`](super::WireGuard) network. In text: `private_key`, `addresses`, `peers`, `bind`,
/// `listen_port`, `mtu`, `dns`, `stack`, `max_connections`, `deadline`.
///
/// ```
/// use frame_net::wireguard::WireGuardConfig;
/// use serde_json::json;
///
/// let config: WireGuardConfig = serde_json::from_value(json!({
///     "private_key": "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=",
///     "addresses": ["10.8.0.2/24", "fd00::2"],
///     "dns": ["10.8.0.1"],
///     "peers": [{
///         "public_key": "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=",
///         "endpoint": "vpn.example.com:51820",
///         "allowed_ips": ["10.8.0.0/24", "fd00::/64"],
///         "keepalive": "25s",
///     }],
/// }))?;
/// assert_eq!((config.mtu, config.peers.len()), (1420, 1));
/// assert!(!format!("{config:?}").contains("dwdt"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WireGuardConfig {
    /// The key of this end: 32 bytes in base64.
    pub private_key: Secret,
    /// The addresses of this end, inside the tunnel. An address without a prefix is as good as one with the longest.
    /// From which of them a connection comes is decided by its destination: the one with the longest prefix
    /// around the destination, else the first of that family.
    #[serde(deserialize_with = "networks", serialize_with = "networks_to_text")]
    pub addresses: Vec<IpNet>,
    /// Who is at the other ends.
    pub peers: Vec<PeerConfig>,
    /// The address of this host that the tunnel's UDP socket is bound to: all of them unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<IpAddr>,
    /// The port of that socket. 0 lets the system choose, which is what happens unless it is given.
    #[serde(default)]
    pub listen_port: u16,
    /// The longest IP packet that the tunnel carries, in bytes: 1420 unless given, and at least 1280 where there are
    /// IPv6 addresses. The packets around them are up to 80 bytes longer, and are not sent in fragments.
    #[serde(default = "mtu")]
    pub mtu: usize,
    /// The name servers, at addresses that a peer owns: names are asked for inside the tunnel, or not at all.
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    /// Whose TCP and UDP is used inside the tunnel: the kernel's where it can be unless given.
    #[serde(default)]
    pub stack: StackChoice,
    /// How many TCP connections there may be through the tunnel at once: 512 unless given. Each may hold up to 2 MiB of
    /// the host's memory. Beyond that, connecting fails and incoming connections wait.
    #[serde(default = "max_connections")]
    pub max_connections: NonZeroU16,
    /// How long a connection may take, from the question for a name to the answer of the far end, with a handshake of
    /// the tunnel in between if that is due: 30 seconds unless given.
    #[serde(
        default = "deadline::default",
        deserialize_with = "deadline::from_text",
        serialize_with = "deadline::to_text"
    )]
    pub deadline: Duration,
}

/// The settings of one peer. In text: `public_key`, `preshared_key`, `endpoint`, `allowed_ips`, `keepalive`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PeerConfig {
    /// Who the peer is.
    pub public_key: PublicKey,
    /// A secret that both ends have beside their keys: 32 bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preshared_key: Option<Secret>,
    /// Where it is at first: it may be elsewhere later, and is then answered there. Without this it has to come first.
    ///
    /// This is the only name that this host looks up, when there is something to be sent there, and again when the
    /// peer does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// What addresses inside the tunnel are its own: what goes there is sent to this peer, and what comes from there
    /// is taken from this peer only. An address that is in several prefixes belongs to the peer with the longest.
    #[serde(deserialize_with = "networks", serialize_with = "networks_to_text")]
    pub allowed_ips: Vec<IpNet>,
    /// The time without a packet after which one is sent, so that a NAT in between does not forget this end: whole
    /// seconds, up to 65535. Never unless given, and if it is zero.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "keepalive",
        serialize_with = "deadline::optional_to_text"
    )]
    pub keepalive: Option<Duration>,
}

impl WireGuardConfig {
    /// The settings of a tunnel's end with these addresses, and without peers.
    #[must_use]
    pub const fn new(private_key: Secret, addresses: Vec<IpNet>) -> Self {
        Self {
            private_key,
            addresses,
            peers: Vec::new(),
            bind: None,
            listen_port: 0,
            mtu: mtu(),
            dns: Vec::new(),
            stack: StackChoice::Auto,
            max_connections: max_connections(),
            deadline: deadline::DEFAULT,
        }
    }

    /// With a further peer.
    #[must_use]
    pub fn with_peer(mut self, peer: PeerConfig) -> Self {
        self.peers.push(peer);
        self
    }
}

impl PeerConfig {
    /// The settings of a peer that owns these addresses, and has to be the first to say something.
    #[must_use]
    pub const fn new(public_key: PublicKey, allowed_ips: Vec<IpNet>) -> Self {
        Self { public_key, preshared_key: None, endpoint: None, allowed_ips, keepalive: None }
    }

    /// At this endpoint.
    #[must_use]
    pub fn with_endpoint(self, endpoint: Endpoint) -> Self {
        Self { endpoint: Some(endpoint), ..self }
    }
}

/// The usual MTU: of 1500 bytes a tunnel through IPv6 leaves as many.
const fn mtu() -> usize {
    1420
}

fn keepalive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    deadline::zero_or_more(deserializer).map(Some)
}

/// As many as a program with the usual limit of descriptors has room for beside others.
const fn max_connections() -> NonZeroU16 {
    match NonZeroU16::new(512) {
        Some(most) => most,
        None => NonZeroU16::MIN,
    }
}

/// Reads prefixes, and addresses in the place of prefixes.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    struct Networks;

    impl<'de> de::Visitor<'de> for Networks {
        type Value = Vec<IpNet>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of prefixes, such as [\"10.8.0.0/24\", \"fd00::1\"]")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut texts: A) -> Result<Vec<IpNet>, A::Error> {
            let mut networks = Vec::new();
            while let Some(Prefix(network)) = texts.next_element()? {
                networks.push(network);
            }
            Ok(networks)
        }
    }

    deserializer.deserialize_seq(Networks)
}

/// Writes prefixes as they are read.
fn networks_to_text<S: Serializer>(networks: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(networks.iter().map(ToString::to_string))
}

/// One of them, so that an error is at its index.
struct Prefix(IpNet);

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| address()).map(Self).map_err(|_| {
            D::Error::custom(format_args!(
                "`{text}` is not a valid prefix or address; write 10.8.0.0/24, or fd00::1"
            ))
        })
    }
}

/// How many bytes a key has.
const LEN: usize = 32;

/// The public key of a peer, in text 32 bytes in base64, as `wg pubkey` writes it.
///
/// ```
/// use frame_net::wireguard::PublicKey;
///
/// let text = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
/// let key: PublicKey = text.parse()?;
/// assert_eq!(key.to_string(), text);
/// assert!("HIgo9xNzJMWLKASShiTqIybxZ0U3wGLi".parse::<PublicKey>().is_err());
/// # Ok::<(), frame_net::wireguard::KeyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; LEN]);

impl PublicKey {
    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// The public key of the private key in `secret`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if there is no key in it.
    ///
    /// ```
    /// use frame_net::Secret;
    /// use frame_net::wireguard::PublicKey;
    ///
    /// let private = Secret::new("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=");
    /// let public = PublicKey::of(&private)?;
    /// assert_eq!(public.to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    /// # Ok::<(), frame_net::wireguard::KeyError>(())
    /// ```
    pub fn of(secret: &Secret) -> Result<Self, KeyError> {
        private(secret).map(|private| Self(x25519::PublicKey::from(&private).to_bytes()))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        key_bytes(text).map(|bytes| Self(*bytes))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<&PublicKey> for x25519::PublicKey {
    fn from(key: &PublicKey) -> Self {
        key.0.into()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A text is no key. The text is not shown: who mixes up keys may have put a private one here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It is not base64.
    #[error("a key is 32 bytes in base64, as `wg genkey` and `wg pubkey` write them; this is not base64")]
    NotBase64,
    /// It has more bytes, or fewer.
    #[error("a key is 32 bytes in base64, as `wg genkey` and `wg pubkey` write them; this is {len} bytes")]
    Len {
        /// How many it has.
        len: usize,
    },
    /// All of it is zero, which is nobody's key.
    #[error("a key of nothing but zeros is nobody's")]
    Zero,
}

/// The bytes of a key.
pub(super) fn key_bytes(text: &str) -> Result<Zeroizing<[u8; LEN]>, KeyError> {
    let decoded = Zeroizing::new(BASE64.decode(text.as_bytes()).map_err(|_| KeyError::NotBase64)?);
    let bytes =
        <[u8; LEN]>::try_from(decoded.as_slice()).map_err(|_| KeyError::Len { len: decoded.len() })?;
    let bytes = Zeroizing::new(bytes);
    if *bytes == [0; LEN] { Err(KeyError::Zero) } else { Ok(bytes) }
}

/// The private key in a secret.
pub(super) fn private(secret: &Secret) -> Result<x25519::StaticSecret, KeyError> {
    key_bytes(secret.expose()).map(|bytes| x25519::StaticSecret::from(*bytes))
}
