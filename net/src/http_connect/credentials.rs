//! What a client proves to an HTTP proxy who it is with.

use std::fmt;

use data_encoding::BASE64;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use zeroize::Zeroizing;

use crate::proxy::GivenCredentials;
use crate::secret::Secret;

/// A user name and a password for basic authentication (RFC 7617), sent as UTF-8. There is no colon in the user name and no
/// control character in either; one of them may be empty. The password is never shown. In text it may be an environment
/// variable's, as any [`Secret`].
///
/// ```
/// use frame_net::http_connect::BasicCredentials;
///
/// let credentials = BasicCredentials::new("app", "xyzzy")?;
/// assert_eq!(format!("{credentials:?}"), r#"BasicCredentials { username: "app", password: <secret> }"#);
/// assert!(BasicCredentials::new("app:x", "yzzy").is_err());
/// # Ok::<(), frame_net::http_connect::BasicCredentialsError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct BasicCredentials {
    username: Box<str>,
    password: Secret,
}

impl BasicCredentials {
    /// The longest that either can be, in bytes: proxies limit the size of a header.
    pub const MAX_LEN: usize = 1024;

    /// A user name and a password.
    ///
    /// # Errors
    ///
    /// [`BasicCredentialsError`] if one of them is too long or has a character in it that it cannot have, or if both are
    /// empty.
    pub fn new(
        username: impl Into<Box<str>>,
        password: impl Into<String>,
    ) -> Result<Self, BasicCredentialsError> {
        Self::with_secret(username.into(), Secret::new(password))
    }

    fn with_secret(username: Box<str>, password: Secret) -> Result<Self, BasicCredentialsError> {
        if username.is_empty() && password.expose().is_empty() {
            return Err(BasicCredentialsError::Empty);
        }
        if username.contains(':') {
            return Err(BasicCredentialsError::Colon);
        }
        for (text, part) in [(&*username, "user name"), (password.expose(), "password")] {
            if text.len() > Self::MAX_LEN {
                return Err(BasicCredentialsError::Length { part, len: text.len() });
            }
            if text.contains(char::is_control) {
                return Err(BasicCredentialsError::Control { part });
            }
        }
        Ok(Self { username, password })
    }

    /// The user name.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The two in the form that they are sent in.
    pub(super) fn encoded(&self) -> Zeroizing<String> {
        let parts = [&*self.username, ":", self.password.expose()];
        // Allocated in full: a buffer that grows leaves copies that are not overwritten.
        let joined = Zeroizing::new(parts.concat());
        Zeroizing::new(BASE64.encode(joined.as_bytes()))
    }
}

impl fmt::Debug for BasicCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicCredentials")
            .field("username", &self.username)
            .field("password", &self.password)
            .finish()
    }
}

impl<'de> Deserialize<'de> for BasicCredentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let GivenCredentials { username, password } = GivenCredentials::deserialize(deserializer)?;
        Self::with_secret(username.into(), password).map_err(D::Error::custom)
    }
}

/// A user name and a password cannot be sent to an HTTP proxy. Neither is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BasicCredentialsError {
    /// Both are empty.
    #[error("the user name and the password for the HTTP proxy are both empty; leave `credentials` out")]
    Empty,
    /// There is a colon in the user name, which ends it on the wire.
    #[error("the user name for the HTTP proxy cannot have a colon in it")]
    Colon,
    /// One of them is too long.
    #[error("the {part} for the HTTP proxy has {len} bytes; it can have {}", BasicCredentials::MAX_LEN)]
    Length {
        /// Which one.
        part: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// There is a control character in one of them, such as a line break.
    #[error("the {part} for the HTTP proxy cannot have control characters in it")]
    Control {
        /// Which one.
        part: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let new = |username: &str, password: &str| BasicCredentials::new(username, password);
        let longest = "x".repeat(BasicCredentials::MAX_LEN);
        for (username, password) in [("u", ""), ("", "p"), (&longest, &longest), ("ü", "p:p ä"), ("u", ":")]
        {
            assert!(new(username, password).is_ok(), "{username} {password}");
        }
        assert_eq!(new("", ""), Err(BasicCredentialsError::Empty));
        assert_eq!(new("u:", "p"), Err(BasicCredentialsError::Colon));
        assert_eq!(new("u\r\nX", "p"), Err(BasicCredentialsError::Control { part: "user name" }));
        assert_eq!(new("u", "p\u{85}"), Err(BasicCredentialsError::Control { part: "password" }));
        assert_eq!(
            new("u", &(longest + "x")),
            Err(BasicCredentialsError::Length { part: "password", len: 1025 })
        );
    }

    #[test]
    fn they_are_encoded_as_the_rfc_has_it() {
        // RFC 7617, section 2 and 2.1.
        let encoded = |username, password| BasicCredentials::new(username, password).unwrap().encoded();
        assert_eq!(*encoded("Aladdin", "open sesame"), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(*encoded("test", "123£"), "dGVzdDoxMjPCow==");
    }
}
