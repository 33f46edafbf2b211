//! The lock of a manifest, so that it is run once.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, major, minor};

use super::address::{BindError, ControlAddress, is_at};
use super::server::is_trusted;

/// The lock that a run has on its manifest: on the file itself, so that no other user can take it away. It ends with the
/// process.
///
/// Most editors replace a file by another. The new file is locked at the next [renewal](Self::renew); before that a second
/// run is prevented by the control socket only.
#[derive(Debug)]
pub(crate) struct ManifestLock {
    path: PathBuf,
    /// `None` where the file system has no locks, and where the path leads to no file.
    file: Option<File>,
}

impl ManifestLock {
    /// Locks the manifest at `path`.
    ///
    /// A file that is not there, or is not a regular file, is left to what reads it.
    ///
    /// # Errors
    ///
    /// [`BindError::AlreadyRunning`] if another process has the lock, and [`BindError::LockedByOther`] if that is one of a user
    /// who is not trusted.
    pub(crate) fn take(path: &Path) -> Result<Self, BindError> {
        let mut lock = Self { path: path.to_owned(), file: None };
        lock.renew()?;
        Ok(lock)
    }

    /// Locks the file that is at the path now, and then releases the one that was there before.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take). The earlier lock stays.
    pub(crate) fn renew(&mut self) -> Result<(), BindError> {
        while !self.is_current() {
            let Some(file) = open(&self.path) else { return Ok(()) };
            match file.try_lock() {
                Ok(()) => self.file = Some(file),
                Err(TryLockError::WouldBlock) => return Err(self.held_by_another(&file)),
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(
                        %error,
                        "the manifest cannot be locked; a second run of it is prevented by the control socket only"
                    );
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn is_current(&self) -> bool {
        let path = fs::canonicalize(&self.path);
        path.is_ok_and(|path| self.file.as_ref().is_some_and(|file| is_at(file, &path)))
    }

    fn held_by_another(&self, file: &File) -> BindError {
        let Some(pid) = holder(file) else {
            // The other one has noted it beside its socket.
            return BindError::AlreadyRunning {
                pid: ControlAddress::of_manifest(&self.path).ok().and_then(|it| it.runner()),
            };
        };
        match fs::metadata(format!("/proc/{pid}")) {
            Ok(process) if !is_trusted(process.uid()) => {
                BindError::LockedByOther { manifest: self.path.clone(), pid, user: process.uid() }
            }
            _ => BindError::AlreadyRunning { pid: Some(pid) },
        }
    }
}

/// Opens what can be locked. It does not wait for the other end of a pipe.
fn open(path: &Path) -> Option<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().is_ok_and(|found| found.is_file()).then_some(file)
}

/// Returns which process has a lock on a file, if the system can tell.
fn holder(file: &File) -> Option<u32> {
    let found = file.metadata().ok()?;
    let wanted = format!("{:02x}:{:02x}:{}", major(found.dev()), minor(found.dev()), found.ino());
    holder_in(&fs::read_to_string("/proc/locks").ok()?, &wanted)
}

/// Reads `/proc/locks`, as in `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`.
fn holder_in(locks: &str, wanted: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_wanted = words.next() == Some("FLOCK") && words.clone().nth(3) == Some(wanted);
        // 0 stands for a process of another namespace.
        words.nth(2).filter(|_| is_wanted)?.parse().ok().filter(|pid| *pid > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.toml");
        fs::write(&path, "").unwrap();
        (directory, path)
    }

    #[test]
    fn a_manifest_is_locked_once_and_that_names_the_process() {
        let (_directory, path) = manifest();
        let first = ManifestLock::take(&path).unwrap();
        let Err(BindError::AlreadyRunning { pid }) = ManifestLock::take(&path) else { panic!("two have it") };
        if cfg!(target_os = "linux") {
            assert_eq!(pid, Some(std::process::id()));
        }
        drop(first);
        ManifestLock::take(&path).unwrap();
    }

    #[test]
    fn a_file_that_replaced_the_manifest_is_locked_by_a_renewal() {
        let (directory, path) = manifest();
        let mut lock = ManifestLock::take(&path).unwrap();
        let replace = || {
            let new = directory.path().join("new");
            fs::write(&new, "").unwrap();
            fs::rename(new, &path).unwrap();
        };
        replace();
        lock.renew().unwrap();
        assert!(ManifestLock::take(&path).is_err());
        replace();
        let second = ManifestLock::take(&path).unwrap();
        assert!(lock.renew().is_err());
        drop(second);
        lock.renew().unwrap();
    }

    #[test]
    fn what_is_no_file_is_not_locked() {
        let (directory, path) = manifest();
        fs::remove_file(&path).unwrap();
        ManifestLock::take(&path).unwrap();
        ManifestLock::take(directory.path()).unwrap();
    }

    #[test]
    fn locks_are_read_as_the_kernel_lists_them() {
        let locks = "1: POSIX  ADVISORY  WRITE 1 fe:00:12 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 fe:00:12 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 8 fe:00:12 0 EOF\n3: FLOCK  ADVISORY  READ 0 fe:00:13 0 EOF\n";
        assert_eq!(holder_in(locks, "fe:00:12"), Some(4711));
        assert_eq!((holder_in(locks, "fe:00:13"), holder_in(locks, "fe:01:12")), (None, None));
    }
}
