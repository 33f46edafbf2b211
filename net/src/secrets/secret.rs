//! A secret with its value, and where it may go.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use super::echo::Needle;
use super::host::SecretHost;
use super::template::{HeaderTemplate, TemplateError};
use crate::endpoint::Endpoint;

/// A secret: its value, the header that carries it, and the servers that it may be sent to.
///
/// The value is shown nowhere, and there is no way to read it. Its memory is overwritten when the last request with it has
/// ended. That does not reach what HTTP and TLS copy it to while they send it, the environment, and the file.
///
/// ```
/// use frame_net::secrets::StoredSecret;
///
/// let secret = StoredSecret::new("sk_live_31337", ["api.example".parse()?])?;
/// assert_eq!(secret.header(), "authorization");
/// assert!(!format!("{secret:?}").contains("31337"));
///
/// let secret = StoredSecret::new("sk_live_31337", ["api.example".parse()?])?.in_header("x-api-key", "{}")?;
/// assert_eq!(secret.header(), "x-api-key");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StoredSecret {
    hosts: Box<[SecretHost]>,
    header: HeaderName,
    /// What is sent. It is marked as sensitive, so that HTTP/2 keeps it out of its tables.
    line: HeaderValue,
    /// Where the value is in it.
    value: Range<usize>,
    needle: Needle,
    remark: Option<String>,
}

impl StoredSecret {
    /// The fewest bytes that a value can have. A shorter one could be guessed, and is found in responses by chance.
    pub const MIN_LEN: usize = 8;

    /// The most bytes that a value can have.
    pub const MAX_LEN: usize = 16 << 10;

    /// A secret that is sent to `hosts` as `Authorization: Bearer …`.
    ///
    /// # Errors
    ///
    /// [`SecretValueError`] if no header can have the value. The error does not show it.
    pub fn new(
        value: impl AsRef<[u8]>,
        hosts: impl IntoIterator<Item = SecretHost>,
    ) -> Result<Self, SecretValueError> {
        let value = value.as_ref();
        check_value(value)?;
        Ok(Self::made(value, hosts.into_iter().collect(), header::AUTHORIZATION, &HeaderTemplate::bearer()))
    }

    /// Sends it in another header, as `template` says: with the value in the place of `{}`.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] if requests cannot be given the header, or no header can be written so.
    pub fn in_header(
        self,
        name: impl TryInto<HeaderName>,
        template: impl AsRef<str>,
    ) -> Result<Self, TemplateError> {
        let name = name.try_into().map_err(|_| TemplateError::Name)?;
        Ok(self.with(super::template::check_name(name)?, &template.as_ref().parse()?))
    }

    pub(super) fn with(self, header: HeaderName, template: &HeaderTemplate) -> Self {
        let value = Zeroizing::new(self.value().to_vec());
        Self { remark: self.remark, ..Self::made(&value, self.hosts, header, template) }
    }

    pub(super) fn with_remark(self, remark: Option<String>) -> Self {
        Self { remark, ..self }
    }

    fn made(value: &[u8], hosts: Box<[SecretHost]>, header: HeaderName, template: &HeaderTemplate) -> Self {
        let (before, after) = template.around();
        // As long as it gets, so that no part of it is left behind in a smaller allocation.
        let mut line = Zeroizing::new(Vec::with_capacity(before.len() + value.len() + after.len()));
        for part in [before.as_bytes(), value, after.as_bytes()] {
            line.extend_from_slice(part);
        }
        let range = before.len()..before.len() + value.len();
        let mut line = HeaderValue::from_maybe_shared(Bytes::from_owner(line))
            .expect("the template and the value were checked to be of visible ASCII and spaces");
        line.set_sensitive(true);
        Self { hosts, header, line, value: range, needle: Needle::new(value), remark: None }
    }

    /// The servers that it may be sent to.
    pub fn hosts(&self) -> &[SecretHost] {
        &self.hosts
    }

    /// The header that carries it.
    pub const fn header(&self) -> &HeaderName {
        &self.header
    }

    /// What its operator should know about where it is kept, if there is something.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// Whether it may be sent to `to`, which must be spoken to over TLS.
    pub(crate) fn is_for(&self, to: &Endpoint) -> bool {
        self.hosts.iter().any(|host| host.covers(to))
    }

    /// What the header carries.
    pub(crate) const fn line(&self) -> &HeaderValue {
        &self.line
    }

    /// Whether the value is in `text`.
    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        self.needle.is_in(self.value(), text)
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.line.as_bytes()[self.value.clone()]
    }

    pub(super) const fn needle(&self) -> &Needle {
        &self.needle
    }
}

/// Equal where the same is sent to the same servers.
impl PartialEq for StoredSecret {
    fn eq(&self, other: &Self) -> bool {
        self.hosts == other.hosts && self.header == other.header && self.line == other.line
    }
}

impl Eq for StoredSecret {}

/// Without the value.
impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSecret")
            .field("hosts", &self.hosts)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

fn check_value(value: &[u8]) -> Result<(), SecretValueError> {
    if value.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return Err(SecretValueError::LineBreak);
    }
    if !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(SecretValueError::Character);
    }
    if value.starts_with(b" ") || value.ends_with(b" ") {
        return Err(SecretValueError::Space);
    }
    if value.len() < StoredSecret::MIN_LEN {
        return Err(SecretValueError::TooShort);
    }
    if value.len() > StoredSecret::MAX_LEN {
        return Err(SecretValueError::TooLong);
    }
    Ok(())
}

/// No header can carry a value. It is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretValueError {
    /// There is a carriage return or a line feed in it.
    #[error(
        "the value has a line break in it; a header has one line, so remove all but one line break at the end"
    )]
    LineBreak,
    /// It has a byte that is not visible ASCII or a space.
    #[error("the value has a byte that is not visible ASCII; encode the value, such as in Base64")]
    Character,
    /// It begins or ends with a space, which servers drop.
    #[error("the value begins or ends with a space; remove it")]
    Space,
    /// It is shorter than [`StoredSecret::MIN_LEN`].
    #[error(
        "the value is shorter than {} bytes; use a longer one, which cannot be guessed",
        StoredSecret::MIN_LEN
    )]
    TooShort,
    /// It is longer than [`StoredSecret::MAX_LEN`].
    #[error("the value is longer than {} bytes, the most that a header is sent with", StoredSecret::MAX_LEN)]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str) -> Result<StoredSecret, SecretValueError> {
        StoredSecret::new(value, ["api.example".parse().unwrap()])
    }

    #[test]
    fn a_secret_is_sent_as_its_template_says() {
        let bearer = secret("sk_live_31337").unwrap();
        assert_eq!(bearer.line(), "Bearer sk_live_31337");
        assert!(bearer.line().is_sensitive());
        let token = bearer.in_header("X-Api-Key", "key={};v=1").unwrap();
        assert_eq!(
            (token.header().as_str(), token.line()),
            ("x-api-key", &"key=sk_live_31337;v=1".parse().unwrap())
        );
        assert_eq!(token.value(), b"sk_live_31337");
    }

    #[test]
    fn a_value_that_no_header_can_have_is_refused_and_not_shown() {
        let long = "31337".repeat(4000);
        for (value, expected) in [
            ("31337abc\n", SecretValueError::LineBreak),
            ("31337\r\nx: y", SecretValueError::LineBreak),
            ("31337abc\0", SecretValueError::Character),
            ("31337abc\t1", SecretValueError::Character),
            ("31337abcé", SecretValueError::Character),
            ("31337abc\u{7f}", SecretValueError::Character),
            (" 31337abc", SecretValueError::Space),
            ("31337abc ", SecretValueError::Space),
            ("", SecretValueError::TooShort),
            ("31337ab", SecretValueError::TooShort),
            (&long, SecretValueError::TooLong),
        ] {
            let error = secret(value).unwrap_err();
            assert_eq!(error, expected, "{value:?}");
            assert!(!format!("{error} {error:?}").contains("31337"));
        }
        assert!(secret("31337 abc").is_ok());
    }

    #[test]
    fn a_value_is_found_in_text() {
        let secret = secret("aabaaabaaa").unwrap();
        assert!(secret.is_in(b"aabaaabaabaaabaaa") && secret.is_in(b"aabaaabaaa"));
        assert!(!secret.is_in(b"") && !secret.is_in(b"aabaaabaab"));
    }

    #[test]
    fn a_secret_is_for_its_hosts() {
        let secret = secret("sk_live_31337").unwrap();
        assert!(secret.is_for(&"api.example:443".parse().unwrap()));
        assert!(!secret.is_for(&"a.api.example:443".parse().unwrap()));
        assert!(!StoredSecret::new("sk_live_31337", []).unwrap().is_for(&"api.example:443".parse().unwrap()));
    }
}
