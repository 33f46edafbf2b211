//! How a secret is written in a header.

use std::str::FromStr;

use http::HeaderName;

use crate::http::headers::is_reserved;

/// The text of a header, with one `{}` where the value of a secret stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderTemplate {
    text: Box<str>,
    /// Where the `{}` is.
    at: usize,
}

const PLACE: &str = "{}";

impl HeaderTemplate {
    const MAX_LEN: usize = 1024;

    /// RFC 6750.
    pub(super) fn bearer() -> Self {
        Self { text: "Bearer {}".into(), at: "Bearer ".len() }
    }

    /// The value alone.
    pub(super) fn alone() -> Self {
        Self { text: PLACE.into(), at: 0 }
    }

    /// What stands before the value, and after it.
    pub(super) fn around(&self) -> (&str, &str) {
        let (before, rest) = self.text.split_at(self.at);
        (before, &rest[PLACE.len()..])
    }
}

impl FromStr for HeaderTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut places = text.match_indices(PLACE);
        let (Some((at, _)), None) = (places.next(), places.next()) else {
            return Err(TemplateError::Place);
        };
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(TemplateError::Character);
        }
        // Servers drop them, so the secret would not be sent as the template says.
        if text.starts_with(' ') || text.ends_with(' ') {
            return Err(TemplateError::Space);
        }
        if text.len() > Self::MAX_LEN {
            return Err(TemplateError::TooLong);
        }
        Ok(Self { text: text.into(), at })
    }
}

/// Refuses a header that the client or a handshake decides on.
pub(super) fn check_name(name: HeaderName) -> Result<HeaderName, TemplateError> {
    let is_of_client = is_reserved(&name) || name == http::header::ACCEPT_ENCODING;
    if is_of_client || name.as_str().starts_with("sec-websocket-") {
        return Err(TemplateError::ReservedHeader { name });
    }
    Ok(name)
}

/// A secret cannot be sent so. No error shows the template: the secret itself may be in it by mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// There is no `{}`, or several.
    #[error("`template` needs one `{{}}`, which stands for the value, such as \"Bearer {{}}\"")]
    Place,
    /// It has a character that is not visible ASCII or a space.
    #[error("`template` has a character that is not visible ASCII")]
    Character,
    /// It begins or ends with a space.
    #[error("`template` begins or ends with a space; remove it")]
    Space,
    /// It is too long.
    #[error("`template` has more than {} bytes", HeaderTemplate::MAX_LEN)]
    TooLong,
    /// There is no header of this name.
    #[error("`header` is not a valid name of a header, such as \"authorization\" or \"x-api-key\"")]
    Name,
    /// The client alone decides on this header.
    #[error(
        "`header` cannot be `{name}`, which the client sets itself; use another, such as \"authorization\""
    )]
    ReservedHeader {
        /// The header.
        name: HeaderName,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_template_has_one_place_for_the_value() {
        let around = |text: &str| {
            let template: HeaderTemplate = text.parse().unwrap();
            let (before, after) = template.around();
            (before.to_owned(), after.to_owned())
        };
        assert_eq!(around("Bearer {}"), ("Bearer ".to_owned(), String::new()));
        assert_eq!(around("{}"), (String::new(), String::new()));
        assert_eq!(around("{\"k\":\"{}\"}"), ("{\"k\":\"".to_owned(), "\"}".to_owned()));
        for text in ["", "Bearer", "{}{}", "{", "{ }"] {
            assert_eq!(text.parse::<HeaderTemplate>(), Err(TemplateError::Place), "{text}");
        }
        for text in ["a\r\n{}", "a\t{}", "ü {}", "{}\0"] {
            assert_eq!(text.parse::<HeaderTemplate>(), Err(TemplateError::Character), "{text:?}");
        }
        assert_eq!(" {}".parse::<HeaderTemplate>(), Err(TemplateError::Space));
        assert_eq!(
            format!("{{}}{}", "a".repeat(1024)).parse::<HeaderTemplate>(),
            Err(TemplateError::TooLong)
        );
        assert_eq!("Bearer {}".parse(), Ok(HeaderTemplate::bearer()));
        assert_eq!("{}".parse(), Ok(HeaderTemplate::alone()));
    }

    #[test]
    fn headers_of_the_client_are_refused() {
        for name in
            ["host", "content-length", "connection", "te", "accept-encoding", "sec-websocket-protocol"]
        {
            assert!(check_name(HeaderName::from_static(name)).is_err(), "{name}");
        }
        for name in ["authorization", "x-api-key", "cookie"] {
            assert!(check_name(HeaderName::from_static(name)).is_ok(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_valid_in_a_header(text in "[ -~]{0,8}(\\{\\}|\\PC){0,3}[ -~]{0,8}") {
            if let Ok(template) = text.parse::<HeaderTemplate>() {
                let (before, after) = template.around();
                prop_assert_eq!(format!("{before}{PLACE}{after}"), text);
                let line = format!("{before}value{after}");
                prop_assert!(http::HeaderValue::from_str(&line).is_ok());
            }
        }
    }
}
