//! Keeping connections of one network apart from each other.

use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use data_encoding::HEXLOWER;
use frame_registry::{FrameOption, Key, Options, Pair, ResolveContext, frame_option, frame_resolver};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// The isolation key of the frame's connections: where it is given, no connection of another key, or of none, is
/// carried by what carries these. A network that cannot keep connections apart refuses them, and none listens, carries
/// datagrams or looks names up with a key, since what does that is the same for all.
///
/// ```
/// use frame_net::ISOLATION;
/// use frame_registry::Options;
/// use serde_json::json;
///
/// let options = Options::from_json(&json!({ "network": "app:tor", "isolation": "tenant-7" }))?;
/// assert_eq!(options.get(&ISOLATION).unwrap().as_str(), "tenant-7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[frame_option(name = "isolation", empty_is_unset)]
pub static ISOLATION: FrameOption<IsolationKey>;

/// The isolation key of a frame; forks inherit it.
pub static ISOLATION_KEY: Key<IsolationKey> = Key::new("net.isolation").inherit();

/// Puts the isolation key on the frame: the option's, or else the parent's. A key of code that is not trusted is one
/// [within](IsolationKey::within) the parent's.
///
/// Whether the network can keep connections apart is found out when it connects.
///
/// # Errors
///
/// [`IsolationError`], for keys of code that is not trusted only.
#[frame_resolver(order = 210, covers(ISOLATION))]
fn isolation(ctx: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, IsolationError> {
    let carried = ctx.parent().and_then(|parent| parent.pair(&ISOLATION_KEY));
    match options.get(&ISOLATION) {
        None => Ok(carried.cloned()),
        Some(_) if options.is_trusted(&ISOLATION) => Ok(options.pair(&ISOLATION, &ISOLATION_KEY)),
        Some(_) if options.replaces_trusted(&ISOLATION) => Err(IsolationError::Preset),
        Some(key) => {
            let carried = carried.and_then(|pair| pair.get(&ISOLATION_KEY));
            Ok(Some(ISOLATION_KEY.pair(key.within(carried)?)))
        }
    }
}

/// Code that is not trusted gave an isolation key that it cannot give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsolationError {
    /// There is a preset.
    #[error(
        "an isolation key is preset for what was called, and is not for scripts and components to replace; leave the \
         option `isolation` out"
    )]
    Preset,
    /// With the one that it is within, it is none.
    #[error("the isolation key is within that of the caller, and {0}")]
    Within(#[from] IsolationKeyError),
}

/// How far a network keeps connections apart, so that who sees two of them at the far end cannot tell that they
/// belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Not at all.
    None,
    /// Connections of one [`IsolationKey`] may share what carries them, those of two never do, and a connection
    /// without a key shares it with no other.
    ByKey,
}

/// What connections have in common that may be seen to belong together: the tenant, the identity, the site. Of 1 to
/// [`MAX_LEN`](IsolationKey::MAX_LEN) bytes, without control characters.
///
/// It does not leave this host: a network makes something of it that tells nobody what the key was.
///
/// ```
/// use frame_net::IsolationKey;
///
/// let key: IsolationKey = "tenant-7".parse()?;
/// assert_eq!(key.as_str(), "tenant-7");
/// assert!("".parse::<IsolationKey>().is_err());
/// # Ok::<(), frame_net::IsolationKeyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct IsolationKey(Arc<str>);

/// Stands before what untrusted code gave, and is in no key that can be read.
const WITHIN: &str = "\u{1f}";

impl IsolationKey {
    /// The longest that a key can be, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// The key. Two keys are the same where this is.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This key, as code has it that is not trusted: one below that which it carries. It equals the key that the same
    /// code gets for the same name, and no other: neither one that trusted code gives, nor one below another.
    ///
    /// ```
    /// # use frame_net::IsolationKey;
    /// let (one, other): (IsolationKey, IsolationKey) = ("tenant-1".parse()?, "tenant-2".parse()?);
    /// assert_ne!(other.within(Some(&one))?, other);
    /// assert_ne!(other.within(None)?, other);
    /// assert_eq!(other.within(Some(&one))?.to_string(), "tenant-1/tenant-2");
    /// # Ok::<(), frame_net::IsolationKeyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`IsolationKeyError::Length`] if both together are too long.
    pub fn within(&self, carried: Option<&Self>) -> Result<Self, IsolationKeyError> {
        let carried = carried.map_or("", Self::as_str);
        let text = [carried, &self.0].join(WITHIN);
        check_length(&text)?;
        Ok(Self(text.into()))
    }
}

fn check_length(text: &str) -> Result<(), IsolationKeyError> {
    let len = text.len();
    if text.is_empty() || len > IsolationKey::MAX_LEN {
        return Err(IsolationKeyError::Length { len });
    }
    Ok(())
}

impl FromStr for IsolationKey {
    type Err = IsolationKeyError;

    fn from_str(text: &str) -> Result<Self, IsolationKeyError> {
        check_length(text)?;
        if text.contains(char::is_control) {
            return Err(IsolationKeyError::Control);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for IsolationKey {
    type Error = IsolationKeyError;

    fn try_from(text: String) -> Result<Self, IsolationKeyError> {
        text.parse()
    }
}

impl fmt::Display for IsolationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.replace(WITHIN, "/"))
    }
}

/// A text is no [`IsolationKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsolationKeyError {
    /// It is empty, or too long.
    #[error("an isolation key has 1 to {} bytes, not {len}", IsolationKey::MAX_LEN)]
    Length {
        /// How many bytes it has.
        len: usize,
    },
    /// There is a control character in it.
    #[error("an isolation key has no control characters")]
    Control,
}

/// Makes up credentials: new ones each time, or the same for the same key. Neither the key, nor that two networks
/// were given the same one, can be told from them.
#[derive(Default)]
pub(crate) struct Isolator {
    /// What makes the credentials of a key differ from those of the same key elsewhere.
    salt: OnceLock<[u8; 32]>,
}

impl Isolator {
    /// A user name and a password, of hexadecimal digits.
    ///
    /// # Errors
    ///
    /// If the operating system has no random bytes.
    pub(crate) fn credentials(&self, key: Option<&IsolationKey>) -> io::Result<[String; 2]> {
        let bytes = match key {
            None => random()?,
            Some(key) => {
                Sha256::new().chain_update(self.salt()?).chain_update(key.as_str()).finalize().into()
            }
        };
        let (username, password) = bytes.split_at(bytes.len() / 2);
        // Tor gives a meaning to user names that begin with `<torS0X>`; these never do.
        Ok([username, password].map(|half| HEXLOWER.encode(half)))
    }

    fn salt(&self) -> io::Result<&[u8; 32]> {
        if let Some(salt) = self.salt.get() {
            return Ok(salt);
        }
        let salt = random()?;
        Ok(self.salt.get_or_init(|| salt))
    }
}

impl fmt::Debug for Isolator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Isolator")
    }
}

fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
