//! What goes wrong between this end and a SAM bridge.

use std::fmt;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use frame_registry::text;

use crate::error::{Cause, DriverError, DriverStep};
use crate::i2p::destination::DestinationError;
use crate::i2p::message::MalformedError;

/// A SAM bridge refused or does not keep to the protocol, or it was not asked in the first place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SamError {
    /// The bridge does not do what it was asked.
    #[error("{refusal}{}", said(.message.as_deref()))]
    Refused {
        /// Why.
        refusal: SamRefusal,
        /// What it says about that, as far as it can be shown.
        message: Option<Box<str>>,
    },
    /// The bridge does not want to talk to who has the credentials that are configured: most likely it asks for others. If
    /// none are configured it is [`Refused`](Self::Refused), which may pass.
    #[error("the router refused the greeting, most likely the user name and the password{}", said(.message.as_deref()))]
    GreetingRefused {
        /// What it says about that, as far as it can be shown.
        message: Option<Box<str>>,
    },
    /// The bridge does not take the private key of the destination that was configured.
    #[error("the router refused the private key of the destination{}", said(.message.as_deref()))]
    PrivateKeyRefused {
        /// What it says about that, as far as it can be shown.
        message: Option<Box<str>>,
    },
    /// The bridge created a session at another destination than the one whose private key it was given.
    #[error(
        "the router created the session at another destination than that of the private key it was given"
    )]
    OtherDestination,
    /// The bridge chose a version that was not offered.
    #[error("the router chose version `{version}` of SAM, and was offered 3.1 to 3.3")]
    Version {
        /// The version, as far as it can be shown.
        version: Box<str>,
    },
    /// The bridge answers something else.
    #[error(
        "the answer begins with `{received}`, not with `{expected}`: this is no SAM bridge, or out of step"
    )]
    Unexpected {
        /// With what the answer begins that is due.
        expected: &'static str,
        /// With what it begins, as far as it can be shown.
        received: Box<str>,
    },
    /// An answer cannot be read.
    #[error("the answer of the bridge cannot be read: {0}")]
    Malformed(&'static str),
    /// A line does not end.
    #[error("the bridge sent more than {max} bytes without a line break")]
    LineTooLong {
        /// How long a line may be.
        max: usize,
    },
    /// What the bridge gives as a destination, or as the key of one, is none.
    #[error("what the bridge sent as a destination is none")]
    Destination(#[from] DestinationError),
    /// What is to be connected to is not on I2P. Nobody was asked.
    #[error(
        "I2P reaches no address and no name but those that end in `.i2p`; this network has no way to clearnet"
    )]
    NotI2p,
    /// The session that all connections share could not be created.
    #[error(transparent)]
    Session(Arc<DriverError>),
    /// The session that all connections share could not be created, and it is too early to try that again.
    #[error("there is no session with the router, and the next attempt is due in {left:?}")]
    Backoff {
        /// How long it is until then.
        left: Duration,
        /// Why the last attempt failed.
        source: Arc<DriverError>,
    },
    /// The session ended, which the router does not explain.
    #[error("the session with the router ended")]
    SessionEnded,
    /// There is a listener already, and a destination has one.
    #[error("the destination has a listener already; drop that one first")]
    AlreadyListening,
}

impl SamError {
    pub(super) fn unexpected(expected: &'static str, received: impl Display) -> Self {
        /// Long enough for two words of the protocol.
        const MAX_SHOWN: usize = 40;
        Self::Unexpected { expected, received: text::excerpt(&received.to_string(), MAX_SHOWN).into() }
    }

    /// Whether the same may succeed later with nobody changing the configuration. A bridge that breaks the protocol
    /// may be on its way up or down.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => refusal.is_retryable(),
            Self::Session(source) | Self::Backoff { source, .. } => source.is_retryable(),
            Self::GreetingRefused { .. }
            | Self::PrivateKeyRefused { .. }
            | Self::OtherDestination
            | Self::Version { .. }
            | Self::NotI2p => false,
            Self::Unexpected { .. }
            | Self::Malformed(_)
            | Self::LineTooLong { .. }
            | Self::Destination(_)
            | Self::SessionEnded
            | Self::AlreadyListening => true,
        }
    }

    /// Whether the bridge refused for this reason.
    pub(super) fn is_refusal(&self, of: &SamRefusal) -> bool {
        matches!(self, Self::Refused { refusal, .. } if refusal == of)
    }
}

/// The error of `step`, done with `peer`. If the deadline passed while the session was created, then it is an error of
/// that, and of the kind that passed deadlines have everywhere.
pub(super) fn failed(step: DriverStep, peer: impl Display, error: SamError) -> DriverError {
    if let SamError::Session(source) = &error
        && let Cause::TimedOut { limit } = *source.cause()
    {
        return DriverError::new(source.step(), source.peer(), Cause::TimedOut { limit });
    }
    DriverError::new(step, peer, Cause::from(error))
}

impl From<SamError> for Cause {
    fn from(error: SamError) -> Self {
        Self::Sam(Box::new(error))
    }
}

impl From<MalformedError> for SamError {
    fn from(MalformedError(what): MalformedError) -> Self {
        Self::Malformed(what)
    }
}

fn said(message: Option<&str>) -> String {
    message.map(|message| format!("; it says: {message}")).unwrap_or_default()
}

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
