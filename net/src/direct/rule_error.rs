//! What is wrong with a rule.

use std::fmt;

use crate::host::HostError;

/// A text is no [`Rule`](crate::Rule). It says what to write instead. The text is shown, unless it looks like a URL:
/// there may be a password in that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    text: Box<str>,
    problem: Problem,
}

impl RuleError {
    pub(super) fn new(text: &str, problem: Problem) -> Self {
        let text = if problem == Problem::Url { "" } else { text };
        Self { text: text.into(), problem }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.text {
            "" => write!(f, "a rule {}", self.problem),
            text => write!(f, "the rule `{text}` {}", self.problem),
        }
    }
}

impl std::error::Error for RuleError {}

/// What is wrong, as it is said of the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error(
        "cannot be empty; write an address, a range such as `10.0.0.0/8`, or a name such as `*.example.com`"
    )]
    Empty,
    #[error("is a host and not a URL; write it without scheme, password and path, such as `example.com:443`")]
    Url,
    #[error(
        "has no port from 1 to 65535 behind its colon; write one, such as `443`, or several, such as `8000-8999`"
    )]
    Port,
    #[error("has a range of ports that ends before it begins; write `{last}-{first}`")]
    PortOrder { first: u16, last: u16 },
    #[error(
        "has colons and is no IPv6 address; write brackets around such an address where a port follows, as in \
         `[fd00::/8]:443`"
    )]
    Colons,
    #[error(
        "has brackets that are not around an IPv6 address; write them around the address and its prefix length, and \
         only the port behind them, as in `[fd00::/8]:443`"
    )]
    Brackets,
    #[error("has a zone in its address; leave out the `%` and what follows it")]
    Zone,
    #[error(
        "has a `/` and no address in front of it; write an address in full, as in `10.0.0.0/8`, or a name without path"
    )]
    Slash,
    #[error("has no number from 0 to {most} behind its `/`")]
    Prefix { most: u8 },
    #[error(
        "has bits set behind its prefix; write `{range}` for the whole range, or `{address}` for the one address"
    )]
    HostBits { range: Box<str>, address: Box<str> },
    #[error(
        "has a `*` in the wrong place; write `*.example.com` for the names below `example.com`, or `*` for all"
    )]
    Star,
    #[error("is neither an address nor a name: {0}")]
    Name(HostError),
    #[error("is a name, and only addresses can be listened at; write an address, such as `127.0.0.1:8080`")]
    NoAddress,
    #[error("is an address, where a name is expected; write a name, such as `*.example.com`")]
    NoName,
}
