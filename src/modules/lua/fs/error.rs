//! What a script is told of a file that it does not get.

use std::io;

use frame_dispatch::{CallError, ErrorKind};

use super::path::BeneathRoot;
use crate::files::OpenError;

/// The failure of something that was done to `path`.
pub(super) fn failed(path: &BeneathRoot, error: impl Into<OpenError>) -> CallError {
    let shown = path.shown();
    match error.into() {
        OpenError::Outside => CallError::new(
            ErrorKind::Denied,
            format!("{shown} leads out of the root, by a symbolic link; nothing outside can be reached"),
        ),
        refused @ (OpenError::Special | OpenError::Kernel) => {
            CallError::new(ErrorKind::Denied, format!("{shown} cannot be used: {refused}"))
        }
        OpenError::System(error) => system(&shown, error),
    }
}

fn system(shown: &str, error: io::Error) -> CallError {
    use io::ErrorKind as Io;

    let (kind, what) = match error.kind() {
        Io::NotFound => (ErrorKind::NotFound, "does not exist"),
        Io::PermissionDenied => (ErrorKind::Denied, "is not open to the user that this program runs as"),
        Io::ReadOnlyFilesystem => (ErrorKind::Denied, "is in a file system that is read-only"),
        Io::NotADirectory => (ErrorKind::Invalid, "is no directory, or is in what is none"),
        Io::IsADirectory => (ErrorKind::Invalid, "is a directory"),
        Io::DirectoryNotEmpty => {
            (ErrorKind::Invalid, "is a directory that is not empty; remove what is in it first")
        }
        Io::AlreadyExists => (ErrorKind::Invalid, "exists already"),
        Io::InvalidFilename => {
            (ErrorKind::Invalid, "has a name that is too long, or none that this file system takes")
        }
        Io::CrossesDevices => (ErrorKind::Invalid, "cannot be moved into another file system; copy it"),
        Io::InvalidInput => (ErrorKind::Invalid, "cannot be used for this"),
        Io::StorageFull | Io::QuotaExceeded => {
            (ErrorKind::Exhausted, "cannot be written: the file system is full")
        }
        Io::FileTooLarge => {
            (ErrorKind::Exhausted, "cannot be written: it would be larger than a file may be")
        }
        Io::ResourceBusy | Io::WouldBlock => (ErrorKind::Unavailable, "is in use"),
        _ if is_loop(&error) => (
            ErrorKind::Denied,
            "has more symbolic links on its way than are followed, or one of the kernel's",
        ),
        _ if is_out_of_handles(&error) => {
            (ErrorKind::Unavailable, "cannot be opened: too many files are open")
        }
        _ => (ErrorKind::Internal, "cannot be used"),
    };
    let is_retryable = kind == ErrorKind::Unavailable;
    CallError::new(kind, format!("{shown} {what}")).with_retryable(is_retryable).with_source(error)
}

#[cfg(unix)]
fn is_loop(error: &io::Error) -> bool {
    crate::files::errno(error) == Some(rustix::io::Errno::LOOP)
}

#[cfg(unix)]
fn is_out_of_handles(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(crate::files::errno(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(not(unix))]
fn is_loop(_: &io::Error) -> bool {
    false
}

#[cfg(not(unix))]
fn is_out_of_handles(_: &io::Error) -> bool {
    false
}
