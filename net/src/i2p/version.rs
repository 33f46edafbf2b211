//! Versions of the protocol.

use std::fmt;

/// A version of SAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u8,
    minor: u8,
}

impl Version {
    /// The oldest that is spoken here: 3.0 knows no types of signatures, and its destinations are weak for it.
    pub(super) const MIN: Self = Self { major: 3, minor: 1 };
    /// The newest that is spoken here.
    pub(super) const MAX: Self = Self { major: 3, minor: 3 };
    /// The first with ports.
    pub(super) const WITH_PORTS: Self = Self { major: 3, minor: 2 };

    /// The version, if it is one that is spoken here.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let number = |digits: &str| {
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { digits.parse().ok() } else { None }
        };
        let version = Self { major: number(major)?, minor: number(minor)? };
        (Self::MIN..=Self::MAX).contains(&version).then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_3_1_to_3_3_are_versions() {
        for text in ["3.1", "3.2", "3.3"] {
            assert_eq!(Version::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "3", "3.", ".1", "3.0", "3.4", "2.2", "4.0", "3.1.1", "+3.1", "3.+1", "3.257"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
