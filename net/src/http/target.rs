//! Where a request goes.

use std::fmt;

use rustls::pki_types::ServerName;
use url::Url;

use super::error::UrlError;
use crate::endpoint::{Endpoint, Host};
use crate::tls;

/// What a URL names before the path. Requests to one may share connections, and secrets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) endpoint: Endpoint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// A URL that a request can go to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) origin: Origin,
    /// Who the server must prove to be, if it is to.
    pub(crate) server_name: Option<ServerName<'static>>,
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        Url::parse(text)?.try_into()
    }

    /// The host, and the port unless it is the scheme's: what `Host` and `:authority` say.
    pub(crate) fn authority(&self) -> &str {
        // There is no userinfo, and no port that is the scheme's.
        &self.url[url::Position::BeforeHost..url::Position::AfterPort]
    }

    /// The path and the query: what the request line says.
    pub(crate) fn path(&self) -> &str {
        &self.url[url::Position::BeforePath..url::Position::AfterQuery]
    }
}

impl TryFrom<Url> for Target {
    type Error = UrlError;

    fn try_from(url: Url) -> Result<Self, UrlError> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(UrlError::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Userinfo);
        }
        // It is the crate `url` that reads addresses, as browsers do: `0x7f.1` is 127.0.0.1 from here on.
        let host = match url.host() {
            Some(url::Host::Domain(name)) => name.parse::<Host>()?,
            Some(url::Host::Ipv4(address)) => address.into(),
            Some(url::Host::Ipv6(address)) => address.into(),
            None => return Err(UrlError::NoHost),
        };
        let port = url.port_or_known_default().ok_or(UrlError::NoHost)?;
        let endpoint = Endpoint::new(host, port).map_err(|_| UrlError::Port)?;
        let server_name = match scheme {
            Scheme::Http => None,
            Scheme::Https => Some(tls::server_name(endpoint.host()).map_err(|_| UrlError::Certificate)?),
        };
        Ok(Self { url, origin: Origin { scheme, endpoint }, server_name })
    }
}

/// Without the path and the query, where secrets may be.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/…", self.url.scheme(), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::HostError;

    #[test]
    fn reads_urls() {
        let cases = [
            ("http://example.com", "example.com:80", "example.com", "/"),
            ("https://EXAMPLE.com:443/a?b#c", "example.com:443", "example.com", "/a?b"),
            ("http://example.com:443/", "example.com:443", "example.com:443", "/"),
            ("https://[2001:DB8::1]:8443/x y", "[2001:db8::1]:8443", "[2001:db8::1]:8443", "/x%20y"),
            ("http://[::1]", "[::1]:80", "[::1]", "/"),
            ("http://bücher.example/", "xn--bcher-kva.example:80", "xn--bcher-kva.example", "/"),
            ("http://duskgytldkxiuqc6.onion/", "duskgytldkxiuqc6.onion:80", "duskgytldkxiuqc6.onion", "/"),
            ("http://shop.i2p:81/", "shop.i2p:81", "shop.i2p:81", "/"),
            ("http://127.1/", "127.0.0.1:80", "127.0.0.1", "/"),
            ("http://0x7f000001/", "127.0.0.1:80", "127.0.0.1", "/"),
            ("http://a.example./", "a.example.:80", "a.example.", "/"),
        ];
        for (text, endpoint, authority, path) in cases {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.origin.endpoint, endpoint.parse().unwrap(), "{text}");
            assert_eq!((target.authority(), target.path()), (authority, path), "{text}");
        }
    }

    #[test]
    fn refuses_what_no_request_can_go_to() {
        let error = |text: &str| Target::parse(text).unwrap_err();
        assert!(matches!(error("example.com"), UrlError::Invalid(_)));
        assert!(matches!(error("http://"), UrlError::Invalid(_)));
        for text in ["ftp://h/", "file:///etc/passwd", "ws://h/", "javascript:alert(1)"] {
            assert_eq!(error(text), UrlError::Scheme, "{text}");
        }
        for text in ["http://u@h/", "http://u:p@h/", "http://:p@h/"] {
            assert_eq!(error(text), UrlError::Userinfo, "{text}");
        }
        assert_eq!(error("http://h:0/"), UrlError::Port);
        assert_eq!(error("http://a..b/"), UrlError::Host(HostError::EmptyLabel));
        assert!(matches!(error("http://a!b/"), UrlError::Host(HostError::Character { character: '!' })));
        let long = "a".repeat(64);
        assert_eq!(error(&format!("https://{long}.internal/")), UrlError::Certificate);
        Target::parse(&format!("http://{long}.internal/")).unwrap();
    }

    #[test]
    fn does_not_show_path_and_query() {
        let target = Target::parse("http://h:81/31337?31337#31337").unwrap();
        assert_eq!(format!("{target:?}"), "http://h:81/…");
    }
}
