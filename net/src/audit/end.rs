//! How an attempt ended.

use std::error::Error;
use std::{fmt, io};

use super::attempt::Verdict;
use crate::error::{Cause, NetworkError};
#[cfg(feature = "http")]
use crate::secrets::SecretError;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum End {
    /// It was given up before it was connected or answered: the call ended, or its time was up.
    Cancelled,
    /// It succeeded, and this end or the peer closed it.
    Closed,
    /// The peer reset the connection, or closed it in the middle of something.
    Reset,
    /// A time limit passed.
    TimedOut,
    /// There is no such host, or it does not answer there.
    Unreachable,
    /// It was refused: by a rule, a limit or a network that does not do such things.
    Refused,
    /// It failed in another way.
    Failed,
    /// It was sent, and what was answered is not passed on: the value of a secret is in it, or would not be found in it.
    Withheld,
}

impl End {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Withheld => "withheld",
        }
    }

    pub(super) const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Cancelled,
            1 => Self::Closed,
            2 => Self::Reset,
            3 => Self::TimedOut,
            4 => Self::Unreachable,
            5 => Self::Refused,
            7 => Self::Withheld,
            _ => Self::Failed,
        }
    }

    /// That of an error of the operating system.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind::{
            AddrNotAvailable, BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset,
            HostUnreachable, NetworkUnreachable, NotConnected, NotFound, TimedOut, UnexpectedEof,
        };

        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof => Self::Reset,
            AddrNotAvailable | ConnectionRefused | HostUnreachable | NetworkUnreachable | NotFound => {
                Self::Unreachable
            }
            TimedOut => Self::TimedOut,
            _ => Self::Failed,
        }
    }

    /// That of an error, which may have another as its cause, and the verdict if it is one.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> (Self, Option<Verdict>) {
        let refused = |rule: String| (Self::Refused, Some(Verdict::refused(rule)));
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(NetworkError::NotFound { .. }) = error.downcast_ref() {
                return refused("the network is not registered".to_owned());
            }
            #[cfg(feature = "http")]
            match error.downcast_ref() {
                // By then it was sent.
                Some(SecretError::Echoed { .. } | SecretError::Encoded { .. }) => {
                    return (Self::Withheld, None);
                }
                Some(error) => return refused(format!("secrets: {error}")),
                None => {}
            }
            match error.downcast_ref() {
                // Their cause is the cause.
                None | Some(Cause::Via(_) | Cause::Transient(_) | Cause::Permanent(_)) => {}
                Some(Cause::Io(error)) => return (Self::of_io(error), None),
                Some(Cause::TimedOut { .. }) => return (Self::TimedOut, None),
                Some(Cause::Closed) => return (Self::Reset, None),
                Some(Cause::Egress(refusal)) => return refused(format!("egress: {}", refusal.list())),
                Some(Cause::Denied(denied)) => return refused(denied.rule()),
                Some(Cause::Limit(reached)) => return refused(format!("limit: {}", reached.resource)),
                Some(cause @ Cause::NotSupported { .. }) => return refused(cause.to_string()),
                Some(_) => return (Self::Failed, None),
            }
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return (Self::of_io(error), None);
            }
            next = error.source();
        }
        (Self::Failed, None)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{DriverError, DriverStep};
    use crate::network::Route;

    #[test]
    fn an_error_behind_another_network_is_the_end_of_the_attempt() {
        let error = |cause| {
            let source = DriverError::new(DriverStep::Connect, "a:1", cause);
            NetworkError::Connect { to: "a:1".parse().unwrap(), route: Route::Clearnet, source }
        };
        let refused = || Cause::Io(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(End::of(&error(refused())).0, End::Unreachable);
        assert_eq!(End::of(&error(Cause::Via(Box::new(error(refused()))))).0, End::Unreachable);
        let (end, verdict) = End::of(&error(Cause::NotSupported { kind: "socks5", what: "listening" }));
        assert_eq!(end, End::Refused);
        assert_eq!(verdict.unwrap().rule.as_deref(), Some("listening is not supported by a socks5 network"));
    }

    #[test]
    fn each_end_is_read_back() {
        for value in 0..=7 {
            assert_eq!(End::from_u8(value) as u8, value);
        }
    }
}
