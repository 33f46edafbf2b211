//! Where a secret may be sent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::endpoint::{Endpoint, EndpointError, Host, HostError, HostName};

/// A server that a secret may be sent to, over TLS: a host and a port.
///
/// | written as | matches |
/// |---|---|
/// | `api.example` | this name, port 443 |
/// | `api.example:8443` | this name, port 8443 |
/// | `*.api.example` | every name below it, however deep, and not the name itself; port 443 |
/// | `192.0.2.1`, `[2001:db8::1]:8443` | this address |
///
/// Names are compared without case, and without the dot that may end them. An address is not compared with what a name
/// resolves to. `*` alone, and `*.` before a name of one label, are refused.
///
/// ```
/// use frame_net::secrets::SecretHost;
///
/// let host: SecretHost = "API.Example.".parse()?;
/// assert!(host.covers(&"api.example:443".parse()?));
/// assert!(!host.covers(&"api.example:8443".parse()?));
/// assert!(!host.covers(&"a.api.example:443".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretHost {
    /// A name is in lower case and without a dot at its end.
    host: Host,
    is_below: bool,
    port: u16,
}

/// The port of `https`.
const HTTPS: u16 = 443;

impl SecretHost {
    /// Returns whether a secret may be sent to `to`.
    pub fn covers(&self, to: &Endpoint) -> bool {
        if to.port() != self.port {
            return false;
        }
        let (own, name) = match (&self.host, to.host()) {
            (Host::Address(own), Host::Address(address)) => return own == address,
            (Host::Name(own), Host::Name(name)) => (own.as_str(), bare(name)),
            _ => return false,
        };
        if !self.is_below {
            return name.eq_ignore_ascii_case(own);
        }
        // Names are ASCII, so every index is the boundary of a character.
        name.len().checked_sub(own.len()).map(|start| name.split_at(start)).is_some_and(|(front, end)| {
            front.len() > 1 && front.ends_with('.') && end.eq_ignore_ascii_case(own)
        })
    }

    /// The endpoint, if it is one alone.
    pub fn endpoint(&self) -> Option<Endpoint> {
        if self.is_below { None } else { Endpoint::new(self.host.clone(), self.port).ok() }
    }
}

/// The name without the dot that says that it is complete.
fn bare(name: &HostName) -> &str {
    name.as_str().strip_suffix('.').unwrap_or(name.as_str())
}

impl FromStr for SecretHost {
    type Err = SecretHostError;

    fn from_str(text: &str) -> Result<Self, SecretHostError> {
        if text == "*" {
            return Err(SecretHostError::All);
        }
        if text.contains("://") {
            return Err(SecretHostError::Url);
        }
        let below = text.strip_prefix("*.");
        let target = below.unwrap_or(text);
        if target.contains('*') || below == Some("") {
            return Err(SecretHostError::Star);
        }
        let (host, port) = match target.parse::<Endpoint>() {
            Ok(endpoint) => (endpoint.host().clone(), endpoint.port()),
            Err(EndpointError::Host(error)) => return Err(error.into()),
            // An IPv6 address without brackets has colons and no port.
            Err(error) => match target.parse::<Host>() {
                Ok(host) => (host, HTTPS),
                Err(error) if !target.contains(':') => return Err(error.into()),
                Err(_) => return Err(SecretHostError::Endpoint(error)),
            },
        };
        let host = match host {
            Host::Address(_) if below.is_some() => return Err(SecretHostError::Star),
            Host::Address(address) => Host::Address(address),
            Host::Name(name) => {
                let name = bare(&name).to_ascii_lowercase();
                if below.is_some() && !name.contains('.') {
                    return Err(SecretHostError::TopLevel { name });
                }
                Host::Name(name.parse()?)
            }
        };
        Ok(Self { host, is_below: below.is_some(), port })
    }
}

impl fmt::Display for SecretHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_below {
            f.write_str("*.")?;
        }
        match (&self.host, self.port) {
            (host, HTTPS) => host.fmt(f),
            (Host::Address(address), port) => std::net::SocketAddr::new(*address, port).fmt(f),
            (Host::Name(name), port) => write!(f, "{name}:{port}"),
        }
    }
}

impl<'de> Deserialize<'de> for SecretHost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text is not a valid [`SecretHost`]. It is not shown: what is put in the place of a host by mistake may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretHostError {
    /// It stands for all hosts.
    #[error("`*` would send the secret to every host; name the hosts that it is for, such as `api.example`")]
    All,
    /// A `*` is in the wrong place.
    #[error("`*` can only stand for the first labels of a name; write `*.api.example`")]
    Star,
    /// It stands for all names below a top-level domain.
    #[error(
        "`*.{name}` would send the secret to every name below `{name}`; write more labels, such as `*.api.{name}`"
    )]
    TopLevel {
        /// The top-level domain.
        name: String,
    },
    /// It is a URL.
    #[error("a host is written without scheme and path, such as `api.example` or `api.example:8443`")]
    Url,
    /// It is not a host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// It is not a host with a port.
    #[error(transparent)]
    Endpoint(EndpointError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> SecretHost {
        text.parse().unwrap()
    }

    fn covers(host: &str, to: &str) -> bool {
        self::host(host).covers(&to.parse().unwrap())
    }

    #[test]
    fn a_host_is_one_name_and_one_port() {
        assert!(covers("api.example", "API.EXAMPLE.:443"));
        assert!(covers("Api.Example.:8443", "api.example:8443"));
        for other in [
            "api.example:80",
            "api.example:8443",
            "a.api.example:443",
            "example:443",
            "xapi.example:443",
            "api.example.evil:443",
            "192.0.2.1:443",
        ] {
            assert!(!covers("api.example", other), "{other}");
        }
    }

    #[test]
    fn a_wildcard_covers_what_is_below_a_name() {
        for below in ["a.api.example:443", "b.a.API.example.:443"] {
            assert!(covers("*.api.example", below), "{below}");
        }
        for other in ["api.example:443", "a.api.example:444", "aapi.example:443", "a.api.example.evil:443"] {
            assert!(!covers("*.api.example", other), "{other}");
        }
    }

    #[test]
    fn an_address_is_compared_as_it_is() {
        assert!(covers("192.0.2.1", "192.0.2.1:443"));
        assert!(covers("[2001:db8::1]:8443", "[2001:db8:0::1]:8443"));
        assert!(covers("2001:db8::1", "[2001:db8::1]:443"));
        assert!(!covers("192.0.2.1", "[::ffff:192.0.2.1]:443"));
        assert!(!covers("192.0.2.1", "192.0.2.1:444"));
    }

    #[test]
    fn what_is_not_a_host_says_what_one_is() {
        for (text, expected) in [
            ("*", "every host"),
            ("*.", "first labels"),
            ("**", "first labels"),
            ("a.*.example", "first labels"),
            ("*.192.0.2.1", "first labels"),
            ("*.com", "every name below `com`"),
            ("https://api.example", "without scheme"),
            ("", "empty"),
            ("bücher.example", "ASCII form"),
            ("api.example:0", "from 1 to 65535"),
            ("api.example:70000", "from 1 to 65535"),
            ("0x7f.1", "four decimal numbers"),
            ("017700000001", "four decimal numbers"),
            ("[fe80::1%eth0]:443", "zone"),
            ("192.0.2.0/24", "'/'"),
            ("user@api.example", "'@'"),
            ("a..example", "empty label"),
        ] {
            let error = text.parse::<SecretHost>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn shows_itself_as_it_is_read() {
        for text in ["api.example", "api.example:8443", "*.api.example", "192.0.2.1", "[2001:db8::1]:8443"] {
            assert_eq!(host(text).to_string(), text);
        }
        assert_eq!(host("*.api.example").endpoint(), None);
        assert_eq!(host("api.example").endpoint(), Some("api.example:443".parse().unwrap()));
    }

    /// Labels of letters that are few, so that names are often alike.
    fn labels() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[abAB]{1,2}", 1..5)
    }

    proptest! {
        /// A model: label by label from the end, without case.
        #[test]
        fn matches_as_a_comparison_of_labels_does(
            own in labels(), name in labels(), is_below: bool, port in 1_u16..4, own_port in 1_u16..4, dot: bool
        ) {
            let text = format!("{}{}:{own_port}", if is_below { "*." } else { "" }, own.join("."));
            let Ok(host) = text.parse::<SecretHost>() else {
                prop_assert!(is_below && own.len() == 1);
                return Ok(());
            };
            let to = format!("{}{}:{port}", name.join("."), if dot { "." } else { "" });
            let lower = |labels: &[String]| {
                labels.iter().rev().map(|label| label.to_ascii_lowercase()).collect::<Vec<_>>()
            };
            let (own, name) = (lower(&own), lower(&name));
            let is_alike = if is_below { name.len() > own.len() && name.starts_with(&own) } else { name == own };
            prop_assert_eq!(host.covers(&to.parse().unwrap()), is_alike && port == own_port);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            if let Ok(host) = text.parse::<SecretHost>() {
                prop_assert_eq!(host.to_string().parse::<SecretHost>(), Ok(host));
            }
        }
    }
}
