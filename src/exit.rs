//! How the program ends, as a number.

use std::fmt::Write as _;
use std::process::ExitCode;

use frame_dispatch::ErrorKind;

/// What an exit code says. A call that failed has one for the kind of its error, so that a script can tell what is worth
/// another try from what is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// 0: it is done.
    Done = 0,
    /// 1: the program, or a function, failed in a way that is its own fault; or what it prints could not be written.
    Internal = 1,
    /// 2: the command line or the manifest is wrong. It is what clap ends with, too.
    Usage = 2,
    /// 3: the function does not take what it was given.
    Invalid = 3,
    /// 4: there is no such function.
    NotFound = 4,
    /// 5: the frame was refused, or whoever asks is not to be trusted.
    Denied = 5,
    /// 6: it was cancelled, such as by Ctrl-C.
    Cancelled = 6,
    /// 7: it was not done in time.
    Deadline = 7,
    /// 8: something that is needed is not there just now.
    Unavailable = 8,
    /// 9: a limit was reached.
    Exhausted = 9,
}

impl Exit {
    /// All there are, by their number.
    pub(crate) const ALL: [Self; 10] = [
        Self::Done,
        Self::Internal,
        Self::Usage,
        Self::Invalid,
        Self::NotFound,
        Self::Denied,
        Self::Cancelled,
        Self::Deadline,
        Self::Unavailable,
        Self::Exhausted,
    ];

    /// The number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// What it says, for `--help` and the manual.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Internal => {
                "internal: the program or the function failed, by its own fault, or the output could not be written"
            }
            Self::Usage => "the command line or the manifest is wrong",
            Self::Invalid => "invalid: the function does not take what it was given",
            Self::NotFound => "not_found: there is no such function",
            Self::Denied => "denied: the frame was refused, so nothing has run",
            Self::Cancelled => "cancelled, by Ctrl-C or otherwise",
            Self::Deadline => "deadline: not done in time",
            Self::Unavailable => "unavailable: something that is needed is not there just now",
            Self::Exhausted => "exhausted: a limit was reached",
        }
    }

    /// The list of all, as the end of a help text.
    pub(crate) fn help() -> String {
        let mut help = "Exit codes:".to_owned();
        for exit in Self::ALL {
            // Writing to a string cannot fail.
            let _ = write!(help, "\n  {}  {}", exit.code(), exit.meaning());
        }
        help
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::Deadline => Self::Deadline,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Exhausted => Self::Exhausted,
            // What a later kind is, nobody has said yet; that it is no success is certain.
            _ => Self::Internal,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_the_code_whose_meaning_names_it() {
        let kinds = [
            "invalid",
            "not_found",
            "denied",
            "cancelled",
            "deadline",
            "unavailable",
            "exhausted",
            "internal",
        ];
        for name in kinds {
            let exit = Exit::from(ErrorKind::from_name(name).unwrap());
            assert!(exit.meaning().starts_with(name), "{name}: {exit:?}");
        }
    }

    #[test]
    fn codes_are_numbered_as_they_are_listed() {
        for (number, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), number);
            assert!(Exit::help().contains(&format!("\n  {number}  {}", exit.meaning())));
        }
    }
}
