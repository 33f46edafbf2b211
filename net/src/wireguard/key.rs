//! Keys, as WireGuard writes them.

use std::fmt;
use std::str::FromStr;

use boringtun::x25519;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret::Secret;

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
        bytes(text).map(|bytes| Self(*bytes))
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
pub(super) fn bytes(text: &str) -> Result<Zeroizing<[u8; LEN]>, KeyError> {
    let decoded = Zeroizing::new(BASE64.decode(text.as_bytes()).map_err(|_| KeyError::NotBase64)?);
    let bytes =
        <[u8; LEN]>::try_from(decoded.as_slice()).map_err(|_| KeyError::Len { len: decoded.len() })?;
    let bytes = Zeroizing::new(bytes);
    if *bytes == [0; LEN] { Err(KeyError::Zero) } else { Ok(bytes) }
}

/// The private key in a secret.
pub(super) fn private(secret: &Secret) -> Result<x25519::StaticSecret, KeyError> {
    bytes(secret.expose()).map(|bytes| x25519::StaticSecret::from(*bytes))
}
