//! Who a bridge is told that its client is.

use zeroize::Zeroizing;

use crate::i2p::message::quoted;
use crate::secret::Secret;

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
    pub(super) fn into_parts(self) -> (String, Secret) {
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
