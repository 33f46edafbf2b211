//! Credentials in the header `Authorization`.

use data_encoding::BASE64;
use http::HeaderValue;

/// Credentials that no header can carry. They are not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A colon ends the user name: RFC 7617, section 2.
    #[error("a user name cannot contain `:`, where the password begins")]
    Colon,
    /// A user name or a password has a control character: RFC 7617, section 2.
    #[error("a user name or a password cannot contain control characters")]
    Control,
    /// A token has characters that end it, or that no header has.
    #[error("a token consists of visible ASCII characters, without spaces")]
    Token,
}

/// RFC 7617, with UTF-8.
pub(super) fn basic(username: &str, password: &str) -> Result<HeaderValue, CredentialsError> {
    if username.contains(':') {
        return Err(CredentialsError::Colon);
    }
    if username.contains(char::is_control) || password.contains(char::is_control) {
        return Err(CredentialsError::Control);
    }
    let value = format!("Basic {}", BASE64.encode(format!("{username}:{password}").as_bytes()));
    // Base64 is valid in a header.
    HeaderValue::try_from(value).map_err(|_| CredentialsError::Control)
}

/// RFC 6750, for tokens with any visible characters: issuers use more than the RFC has.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, CredentialsError> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CredentialsError::Token);
    }
    HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| CredentialsError::Token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_as_in_the_examples_of_the_rfc() {
        assert_eq!(basic("Aladdin", "open sesame").unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("test", "123£").unwrap(), "Basic dGVzdDoxMjPCow==");
        assert_eq!(basic("", "").unwrap(), "Basic Og==");
        assert_eq!(basic("a", "b:c").unwrap(), "Basic YTpiOmM=");
    }

    #[test]
    fn credentials_that_would_be_read_as_others_are_refused() {
        assert_eq!(basic("a:b", "c"), Err(CredentialsError::Colon));
        assert_eq!(basic("a\n", "c"), Err(CredentialsError::Control));
        assert_eq!(basic("a", "c\u{7f}"), Err(CredentialsError::Control));
        assert_eq!(bearer("mF_9.B5f-4.1JqM").unwrap(), "Bearer mF_9.B5f-4.1JqM");
        assert_eq!(bearer("7|abc:/+=~").unwrap(), "Bearer 7|abc:/+=~");
        for token in ["", "a b", "a\r\nx: y", "é"] {
            assert_eq!(bearer(token), Err(CredentialsError::Token), "{token}");
        }
    }
}
