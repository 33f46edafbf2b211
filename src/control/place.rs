//! Where a run has its socket, and that it is the only one there.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::directory;
use crate::exit::Exit;

/// Where the socket of a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The socket of whoever runs this manifest, whose path is absolute and without links.
    OfManifest(PathBuf),
    /// A path that the user chose. Who may enter its directory is the user's concern.
    At(PathBuf),
}

impl Place {
    /// The place of the manifest that is at `path`.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    pub(crate) fn of_manifest(path: &Path) -> io::Result<Self> {
        path.canonicalize().map(Self::OfManifest)
    }

    /// The paths that the socket can have, best first.
    pub(super) fn sockets(&self) -> Vec<PathBuf> {
        match self {
            Self::OfManifest(manifest) => {
                let name = format!("{}.sock", digest(manifest));
                directory::candidates().into_iter().map(|directory| directory.join(&name)).collect()
            }
            Self::At(path) => vec![path.clone()],
        }
    }

    /// Looks whether what is at one of the paths can be trusted to be as it was left.
    pub(super) fn check(&self, socket: &Path) -> io::Result<()> {
        match (self, socket.parent()) {
            (Self::OfManifest(_), Some(parent)) => directory::check(parent),
            _ => Ok(()),
        }
    }

    /// Takes the place, for as long as the claim lives.
    pub(super) fn claim(&self) -> Result<Claim, BindError> {
        let mut sockets = self.sockets().into_iter();
        let Some(socket) = sockets.next() else { unreachable!("a place has a path at least") };
        if let (Self::OfManifest(_), Some(parent)) = (self, socket.parent()) {
            directory::make(parent).map_err(|source| BindError::new(&socket, source))?;
        }
        // One that was started with another environment is in another directory.
        for other in sockets.filter(|other| self.check(other).is_ok()) {
            if let Some(pid) = holder(&beside(&other)) {
                return Err(BindError::AlreadyRunning { socket: other, pid: pid.ok() });
            }
        }
        Claim::new(socket)
    }
}

/// The name of a manifest's socket: short, since the path of a socket cannot be long.
fn digest(manifest: &Path) -> String {
    let digest = Sha256::digest(manifest.as_os_str().as_encoded_bytes());
    HEXLOWER.encode(&digest[..16])
}

fn beside(socket: &Path) -> PathBuf {
    let mut path = OsString::from(socket);
    path.push(".lock");
    path.into()
}

/// Who holds a lock, if anybody does: its PID, where that can be read.
fn holder(lock: &Path) -> Option<io::Result<u32>> {
    let mut file = OpenOptions::new().read(true).custom_flags(nofollow()).open(lock).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_pid(&mut file)),
        _ => None,
    }
}

fn read_pid(lock: &mut File) -> io::Result<u32> {
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text)?;
    text.trim().parse().map_err(io::Error::other)
}

fn nofollow() -> i32 {
    // The flags are few and small.
    OFlags::NOFOLLOW.bits().cast_signed()
}

/// A place that is taken: by a lock, which ends with the process whatever becomes of it. What is at the socket's path is
/// then of somebody who ended, and can be replaced.
#[derive(Debug)]
pub(super) struct Claim {
    socket: PathBuf,
    lock: PathBuf,
    file: File,
}

impl Claim {
    fn new(socket: PathBuf) -> Result<Self, BindError> {
        let lock = beside(&socket);
        let failed = |source| BindError::new(&socket, source);
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow());
            let mut file = options.open(&lock).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => (),
                Err(TryLockError::WouldBlock) => {
                    return Err(BindError::AlreadyRunning { pid: read_pid(&mut file).ok(), socket });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Whoever ends removes the file that it has locked. One that was opened before that is no lock any more.
            if !is_at(&file, &lock) {
                continue;
            }
            write_pid(&mut file).map_err(failed)?;
            let claim = Self { socket, lock, file };
            remove_socket(&claim.socket).map_err(|source| BindError::new(&claim.socket, source))?;
            return Ok(claim);
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Claim {
    /// Removes the socket, and the lock last, if they are still this run's: who removed the lock's file in between has
    /// let others in.
    fn drop(&mut self) {
        if is_at(&self.file, &self.lock) {
            // Whatever is left is found stale by the next run.
            let _ = remove_socket(&self.socket);
            let _ = fs::remove_file(&self.lock);
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(found)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (held.dev(), held.ino()) == (found.dev(), found.ino())
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Removes a socket, if there is one, and nothing else than a socket.
fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is something else than a socket; remove it",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A run has no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Another run has it.
    #[error(
        "already running{}; `frame ps` shows what it does, and SIGHUP makes it read its manifest again",
        .pid.map_or_else(String::new, |pid| format!(" as process {pid}"))
    )]
    AlreadyRunning {
        /// The socket that the other has.
        socket: PathBuf,
        /// The other's PID, if that is known.
        pid: Option<u32>,
    },
    /// The place cannot be used.
    #[error("the control socket {} cannot be used", .socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl BindError {
    /// What the program ends with for it.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::AlreadyRunning { .. } => Exit::Unavailable,
            Self::Io { .. } => Exit::Internal,
        }
    }

    pub(super) fn new(socket: &Path, source: io::Error) -> Self {
        Self::Io { socket: socket.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_place_has_one_holder_and_is_free_when_that_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::At(directory.path().join("control.sock"));
        let claim = place.claim().unwrap();
        let Err(BindError::AlreadyRunning { pid, .. }) = place.claim() else { panic!("two hold it") };
        assert_eq!(pid, Some(std::process::id()));
        drop(claim);
        drop(place.claim().unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn the_socket_of_a_run_that_was_killed_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        // Neither removes what it leaves, as a process that is killed.
        drop(UnixListener::bind(&socket).unwrap());
        fs::write(beside(&socket), "4711\n").unwrap();
        let claim = Place::At(socket.clone()).claim().unwrap();
        assert!(!socket.exists());
        drop(claim);
    }

    #[test]
    fn nothing_else_than_a_socket_is_ever_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(Place::At(path.clone()).claim(), Err(BindError::Io { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, target) = (directory.path().join("control.sock"), directory.path().join("target"));
        fs::write(&target, "mine").unwrap();
        std::os::unix::fs::symlink(&target, beside(&socket)).unwrap();
        assert!(matches!(Place::At(socket).claim(), Err(BindError::Io { .. })));
        assert_eq!(fs::read(&target).unwrap(), b"mine");
    }

    #[test]
    fn who_lost_its_lock_removes_nothing_of_who_has_it_now() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::At(directory.path().join("control.sock"));
        let first = place.claim().unwrap();
        fs::remove_file(&first.lock).unwrap();
        let second = place.claim().unwrap();
        let _listener = UnixListener::bind(second.socket()).unwrap();
        drop(first);
        assert!(second.socket().exists() && second.lock.exists());
    }

    #[test]
    fn each_manifest_has_a_socket_of_its_own_whose_path_is_short() {
        let one = Place::OfManifest("/srv/one/app.toml".into());
        let other = Place::OfManifest("/srv/other/app.toml".into());
        assert_ne!(one.sockets(), other.sockets());
        assert_eq!(one.sockets(), one.clone().sockets());
        assert!(one.sockets().last().unwrap().as_os_str().len() < 90);
    }
}
