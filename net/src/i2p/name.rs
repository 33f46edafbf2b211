//! Names on I2P.

use std::fmt;

use crate::endpoint::{Host, HostName};
use crate::i2p::error::SamError;

/// A name that ends in `.i2p`, in lower case: from an address book, or a `.b32.i2p` made of the destination itself.
/// As any [`HostName`] it has nothing in it that a line of the protocol could end with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct I2pName(Box<str>);

impl I2pName {
    pub(super) fn new(name: &HostName) -> Result<Self, SamError> {
        let name = name.as_str().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        match name.rsplit_once('.') {
            Some((_, "i2p")) => Ok(Self(name.into())),
            _ => Err(SamError::NotI2p),
        }
    }

    pub(super) fn of(host: &Host) -> Result<Self, SamError> {
        match host {
            Host::Name(name) => Self::new(name),
            Host::Address(_) => Err(SamError::NotI2p),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for I2pName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_i2p_are() {
        for text in ["stats.i2p", "Stats.I2P", "stats.i2p."] {
            assert_eq!(I2pName::of(&text.parse().unwrap()).unwrap().as_str(), "stats.i2p");
        }
        for text in ["i2p", "example.com", "example.i2p.com", "stats.xi2p", "127.0.0.1", "::1"] {
            assert!(matches!(I2pName::of(&text.parse().unwrap()), Err(SamError::NotI2p)), "{text}");
        }
    }
}
