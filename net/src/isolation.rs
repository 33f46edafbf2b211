//! Keeping connections of one network apart from each other.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use frame_registry::{Context, FrameOption, Key, Options, Pair, frame_option, frame_resolver};
use serde::Deserialize;

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

/// Puts the isolation key on the frame: the option's, or else the parent's.
///
/// # Errors
///
/// None. Whether the network can keep connections apart is found out when it connects.
#[frame_resolver(order = 210, covers(ISOLATION))]
pub fn isolation(ctx: &Context<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    let given = options.pair(&ISOLATION, &ISOLATION_KEY);
    Ok(given.or_else(|| ctx.parent()?.pair(&ISOLATION_KEY).cloned()))
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
/// [`MAX_LEN`](IsolationKey::MAX_LEN) bytes.
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

impl IsolationKey {
    /// The longest that a key can be, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IsolationKey {
    type Err = IsolationKeyError;

    fn from_str(text: &str) -> Result<Self, IsolationKeyError> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(IsolationKeyError { len: text.len() });
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
        f.write_str(&self.0)
    }
}

/// A text is no [`IsolationKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an isolation key has 1 to {} bytes, not {len}", IsolationKey::MAX_LEN)]
pub struct IsolationKeyError {
    len: usize,
}
