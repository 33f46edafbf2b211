//! Why a SAM bridge does not do what it is asked.

use std::fmt;

use frame_registry::text;

/// The results other than `OK` with which a bridge answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SamRefusal {
    /// `CANT_REACH_PEER`.
    CantReachPeer,
    /// `DUPLICATED_DEST`.
    DuplicatedDestination,
    /// `DUPLICATED_ID`.
    DuplicatedId,
    /// `I2P_ERROR`.
    I2pError,
    /// `INVALID_KEY`. i2pd says this, too, of a name that it does not know, and of one of which it did not find in time
    /// where it is.
    InvalidKey,
    /// `INVALID_ID`.
    InvalidId,
    /// `KEY_NOT_FOUND`.
    KeyNotFound,
    /// `PEER_NOT_FOUND`.
    PeerNotFound,
    /// `TIMEOUT`.
    Timeout,
    /// `LEASESET_NOT_FOUND`.
    LeaseSetNotFound,
    /// `NOVERSION`.
    NoVersion,
    /// `ALREADY_ACCEPTING`.
    AlreadyAccepting,
    /// One that the specification does not know, as far as it can be shown.
    Other(Box<str>),
}

/// The longest result that is shown whole.
const MAX_SHOWN: usize = 40;

impl SamRefusal {
    /// The refusal that `result` stands for; none for that of success.
    pub(super) fn from_result(result: &str) -> Option<Self> {
        Some(match result {
            "OK" => return None,
            "CANT_REACH_PEER" => Self::CantReachPeer,
            "DUPLICATED_DEST" => Self::DuplicatedDestination,
            "DUPLICATED_ID" => Self::DuplicatedId,
            "I2P_ERROR" => Self::I2pError,
            "INVALID_KEY" => Self::InvalidKey,
            "INVALID_ID" => Self::InvalidId,
            "KEY_NOT_FOUND" => Self::KeyNotFound,
            "PEER_NOT_FOUND" => Self::PeerNotFound,
            "TIMEOUT" => Self::Timeout,
            "LEASESET_NOT_FOUND" => Self::LeaseSetNotFound,
            "NOVERSION" => Self::NoVersion,
            "ALREADY_ACCEPTING" => Self::AlreadyAccepting,
            other => Self::Other(text::excerpt(other, MAX_SHOWN).into()),
        })
    }

    /// What the protocol calls it.
    pub fn result(&self) -> &str {
        match self {
            Self::CantReachPeer => "CANT_REACH_PEER",
            Self::DuplicatedDestination => "DUPLICATED_DEST",
            Self::DuplicatedId => "DUPLICATED_ID",
            Self::I2pError => "I2P_ERROR",
            Self::InvalidKey => "INVALID_KEY",
            Self::InvalidId => "INVALID_ID",
            Self::KeyNotFound => "KEY_NOT_FOUND",
            Self::PeerNotFound => "PEER_NOT_FOUND",
            Self::Timeout => "TIMEOUT",
            Self::LeaseSetNotFound => "LEASESET_NOT_FOUND",
            Self::NoVersion => "NOVERSION",
            Self::AlreadyAccepting => "ALREADY_ACCEPTING",
            Self::Other(result) => result,
        }
    }

    /// Whether the same request may be granted later with nobody changing the configuration.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::NoVersion => false,
            Self::CantReachPeer
            | Self::DuplicatedDestination
            | Self::DuplicatedId
            | Self::I2pError
            | Self::InvalidKey
            | Self::InvalidId
            | Self::KeyNotFound
            | Self::PeerNotFound
            | Self::Timeout
            | Self::LeaseSetNotFound
            | Self::AlreadyAccepting
            | Self::Other(_) => true,
        }
    }
}

impl fmt::Display for SamRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self {
            Self::CantReachPeer => "the destination cannot be reached",
            Self::DuplicatedDestination => "the router has a session with this private key already",
            Self::DuplicatedId => "the router has a session of this name already",
            Self::I2pError => "the router failed",
            Self::InvalidKey => "the router takes this for no destination, or did not find the name",
            Self::InvalidId => "the router does not know the session any more",
            Self::KeyNotFound => "the router does not know the name",
            Self::PeerNotFound => "the destination is not to be found on the network",
            Self::Timeout => "the destination did not answer in time",
            Self::LeaseSetNotFound => "the destination has no way to it published",
            Self::NoVersion => "the router speaks none of the versions 3.1 to 3.3 of SAM",
            Self::AlreadyAccepting => "the session waits for a connection already",
            Self::Other(_) => "the router refused with a result that SAM does not know",
        };
        write!(f, "{meaning} ({})", self.result())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_but_ok_is_a_refusal_of_its_own() {
        assert_eq!(SamRefusal::from_result("OK"), None);
        let known = [
            ("CANT_REACH_PEER", true),
            ("DUPLICATED_DEST", true),
            ("DUPLICATED_ID", true),
            ("I2P_ERROR", true),
            ("INVALID_KEY", true),
            ("INVALID_ID", true),
            ("KEY_NOT_FOUND", true),
            ("PEER_NOT_FOUND", true),
            ("TIMEOUT", true),
            ("LEASESET_NOT_FOUND", true),
            ("NOVERSION", false),
            ("ALREADY_ACCEPTING", true),
        ];
        for (result, is_retryable) in known {
            let refusal = SamRefusal::from_result(result).unwrap();
            assert!(!matches!(refusal, SamRefusal::Other(_)), "{result}");
            assert_eq!((refusal.result(), refusal.is_retryable()), (result, is_retryable));
            assert!(refusal.to_string().ends_with(&format!("({result})")));
        }
        for (result, shown) in [("ok", "ok"), ("", ""), ("NO\x07PE", "NO\\u{7}PE")] {
            let refusal = SamRefusal::from_result(result).unwrap();
            assert_eq!(refusal, SamRefusal::Other(shown.into()));
            assert!(refusal.is_retryable());
        }
    }
}
