//! What a client proves to a SOCKS5 proxy who it is with.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::proxy::GivenCredentials;
use crate::secret::Secret;

/// A user name and a password (RFC 1929), each of 1 to 255 bytes. The password is never shown: not in `Debug`, and
/// not in an error about a configuration that has it in the wrong place. In text it may be an environment variable's,
/// as any [`Secret`].
///
/// ```
/// use frame_net::socks5::Credentials;
///
/// let credentials = Credentials::new("app", "xyzzy")?;
/// assert_eq!(format!("{credentials:?}"), r#"Credentials { username: "app", password: <secret> }"#);
/// assert!(Credentials::new("app", "").is_err());
/// # Ok::<(), frame_net::socks5::CredentialsError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: Box<str>,
    password: Secret,
}

impl Credentials {
    /// The longest that either can be, in bytes.
    pub const MAX_LEN: usize = 255;

    /// A user name and a password.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] if one of them is empty or too long.
    pub fn new(username: impl Into<Box<str>>, password: impl Into<String>) -> Result<Self, CredentialsError> {
        Self::with_secret(username.into(), Secret::new(password))
    }

    fn with_secret(username: Box<str>, password: Secret) -> Result<Self, CredentialsError> {
        for (part, called) in [(&*username, "username"), (password.expose(), "password")] {
            if part.is_empty() || part.len() > Self::MAX_LEN {
                return Err(CredentialsError { part: called, len: part.len() });
            }
        }
        Ok(Self { username, password })
    }

    /// The user name.
    pub fn username(&self) -> &str {
        &self.username
    }

    pub(super) fn password(&self) -> &str {
        self.password.expose()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &self.password)
            .finish()
    }
}

/// A user name or a password is empty, or too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the SOCKS5 `{part}` has {len} bytes; it must have 1 to {}", Credentials::MAX_LEN)]
pub struct CredentialsError {
    part: &'static str,
    len: usize,
}

impl<'de> Deserialize<'de> for Credentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let GivenCredentials { username, password } = GivenCredentials::deserialize(deserializer)?;
        Self::with_secret(username.into(), password).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_1_to_255_bytes() {
        let longest = "x".repeat(Credentials::MAX_LEN);
        assert!(Credentials::new(longest.clone(), longest.clone()).is_ok());
        for (username, password) in [("", "p"), ("u", "")] {
            assert!(Credentials::new(username, password).is_err());
        }
        let error = Credentials::new("u", longest + "x").unwrap_err();
        assert_eq!(error.to_string(), "the SOCKS5 `password` has 256 bytes; it must have 1 to 255");
    }
}
