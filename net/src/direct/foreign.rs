//! Names that are not of the DNS.

use std::fmt;

use super::pattern::bare;
use crate::host::HostName;

/// A name that another network knows, and that whoever asks a name server for shows where they wanted to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignName {
    top: &'static str,
    whose: &'static str,
}

/// By the last label. RFC 7686 says of `onion`, and RFC 9476 of `alt`, that they are not to be looked up in the DNS.
const FOREIGN: [ForeignName; 3] = [
    ForeignName { top: "onion", whose: "Tor's" },
    ForeignName { top: "i2p", whose: "I2P's" },
    ForeignName { top: "alt", whose: "not the DNS's" },
];

impl ForeignName {
    /// The last label of such names, such as `onion`.
    pub const fn top(&self) -> &'static str {
        self.top
    }

    /// What `name` is, if it is such a name.
    pub(super) fn of(name: &HostName) -> Option<Self> {
        let last = bare(name).rsplit('.').next()?;
        FOREIGN.into_iter().find(|foreign| last.eq_ignore_ascii_case(foreign.top))
    }
}

impl fmt::Display for ForeignName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (.{})", self.whose, self.top)
    }
}
