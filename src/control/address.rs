//! Where a run has its socket, and that it is the only one there.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use sha2::{Digest, Sha256};

use crate::exit::Exit;

/// Where the socket of a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ControlAddress {
    /// The socket of whoever runs this manifest, whose path is absolute and without links.
    OfManifest(PathBuf),
    /// A path that the user chose. Who may enter its directory is the user's concern.
    At(PathBuf),
}

impl ControlAddress {
    /// The place of the manifest that is at `path`.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    pub(crate) fn of_manifest(path: &Path) -> io::Result<Self> {
        path.canonicalize().map(Self::OfManifest)
    }

    /// The paths that the socket can have, best first. The last one may be in no directory: an abstract name of Linux, which
    /// begins with a zero byte. It needs neither a file system nor the consent of another user, but anyone may take it first.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        match self {
            Self::OfManifest(manifest) => {
                let digest = digest(manifest);
                let name = format!("{digest}{SUFFIX}");
                let mut sockets: Vec<_> =
                    socket_directories().into_iter().map(|directory| directory.join(&name)).collect();
                if cfg!(target_os = "linux") {
                    sockets.push(format!("\0frame-{}-{digest}", geteuid().as_raw()).into());
                }
                sockets
            }
            Self::At(path) => vec![path.clone()],
        }
    }

    /// Looks whether what is at one of the paths can be trusted to be as it was left.
    pub(crate) fn check(&self, socket: &Path) -> io::Result<()> {
        match (self, socket.parent()) {
            (Self::OfManifest(_), Some(parent)) if !is_abstract(socket) => check_directory(parent),
            _ => Ok(()),
        }
    }

    /// Takes the first of the paths that can be used, and listens there for as long as the claim lives. Also returns what
    /// was wrong with the first path if it is another.
    ///
    /// Leftovers of killed runs beside the socket are removed.
    pub(crate) fn listen(&self) -> Result<(Claim, UnixListener, Option<BindError>), BindError> {
        let sockets = self.sockets();
        // A run that was started with another environment is in another directory.
        for socket in sockets.iter().filter(|socket| !is_abstract(socket) && self.check(socket).is_ok()) {
            if let Some(pid) = holder(&beside(socket)) {
                return Err(BindError::AlreadyRunning { pid: pid.ok() });
            }
        }
        let mut first = None;
        for socket in sockets {
            match self.listen_at(socket) {
                Ok((claim, listener)) => return Ok((claim, listener, first)),
                Err(running @ BindError::AlreadyRunning { .. }) => return Err(running),
                Err(error) => _ = first.get_or_insert(error),
            }
        }
        let Some(first) = first else { unreachable!("an address has at least one path") };
        Err(first)
    }

    fn listen_at(&self, socket: PathBuf) -> Result<(Claim, UnixListener), BindError> {
        if is_abstract(&socket) {
            let listener = bind(&socket).map_err(|source| BindError::new(&socket, source))?;
            return Ok((Claim { socket, lock: None }, listener));
        }
        if let (Self::OfManifest(_), Some(parent)) = (self, socket.parent()) {
            make_directory(parent).map_err(|source| BindError::new(&socket, source))?;
            remove_leftovers(parent);
        }
        let claim = Claim::new(socket)?;
        let failed = |source| BindError::new(claim.socket(), source);
        let listener = bind(claim.socket()).map_err(failed)?;
        // Until then others could connect, where they can enter the directory; but not be served.
        fs::set_permissions(claim.socket(), fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok((claim, listener))
    }

    /// Returns the PID in the lock of the run that has this address, if there is one.
    pub(crate) fn runner(&self) -> Option<u32> {
        let trusted =
            self.sockets().into_iter().filter(|socket| !is_abstract(socket) && self.check(socket).is_ok());
        trusted.filter_map(|socket| holder(&beside(&socket))).find_map(Result::ok)
    }
}

/// How the names of sockets in a directory of the program's own end.
const SUFFIX: &str = ".sock";
/// How many names in a directory are looked at for leftovers.
const MOST_LEFTOVERS: usize = 1000;

fn is_abstract(socket: &Path) -> bool {
    socket.as_os_str().as_encoded_bytes().starts_with(b"\0")
}

/// A socket, for people. An abstract name is shown as `ss` shows it.
pub(crate) fn shown(socket: &Path) -> String {
    socket.display().to_string().replace('\0', "@")
}

fn bind(socket: &Path) -> io::Result<UnixListener> {
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.as_os_str().as_encoded_bytes().strip_prefix(b"\0") {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;
        return UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?);
    }
    UnixListener::bind(socket)
}

/// Removes the sockets and locks of runs that were killed. Only for a directory of the program's own.
fn remove_leftovers(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.take(MOST_LEFTOVERS).flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_digest = |name: &str| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let Some(socket) =
            name.strip_suffix(".lock").filter(|socket| socket.strip_suffix(SUFFIX).is_some_and(is_digest))
        else {
            continue;
        };
        // Where another run has the lock, or takes it just now, the claim fails or the next run cleans up.
        if let Ok(claim) = Claim::existing(directory.join(socket)) {
            drop(claim);
        }
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
/// then of a run that has ended, and can be replaced. An abstract name has no lock: it ends with the process itself.
#[derive(Debug)]
pub(crate) struct Claim {
    socket: PathBuf,
    lock: Option<Lock>,
}

#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Claim {
    fn new(socket: PathBuf) -> Result<Self, BindError> {
        Self::with(socket, true)
    }

    /// Takes a place only if there is a lock that is not held: a run has left it.
    fn existing(socket: PathBuf) -> Result<Self, BindError> {
        Self::with(socket, false)
    }

    fn with(socket: PathBuf, create: bool) -> Result<Self, BindError> {
        let path = beside(&socket);
        let failed = |source| BindError::new(&socket, source);
        loop {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create(create)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nofollow());
            let mut file = options.open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => (),
                Err(TryLockError::WouldBlock) => {
                    return Err(BindError::AlreadyRunning { pid: read_pid(&mut file).ok() });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // A run that ends removes the file that it has locked. A file that was opened before that does not lock anything.
            if !is_at(&file, &path) {
                continue;
            }
            // It is for people, and a full disk has no room for it.
            let _ = write_pid(&mut file);
            let claim = Self { socket, lock: Some(Lock { path, file }) };
            remove_socket(&claim.socket).map_err(|source| BindError::new(&claim.socket, source))?;
            return Ok(claim);
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the files that a process leaves which ends without dropping this.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let lock = self.lock.as_ref();
        lock.map(|lock| vec![self.socket.clone(), lock.path.clone()]).unwrap_or_default()
    }

    /// Returns whether the socket and its lock are where they were made.
    pub(crate) fn is_in_place(&self, socket: &fs::Metadata) -> bool {
        self.lock.as_ref().is_none_or(|lock| is_at(&lock.file, &lock.path))
            && fs::symlink_metadata(&self.socket).is_ok_and(|found| is_same(&found, socket))
    }

    /// Returns whether the name is not one of a file.
    pub(crate) fn is_abstract(&self) -> bool {
        self.lock.is_none()
    }
}

impl Drop for Claim {
    /// Removes the socket, and the lock last, if they are still this run's: once the lock's file was removed, others may have
    /// the place.
    fn drop(&mut self) {
        if let Some(lock) = &self.lock
            && is_at(&lock.file, &lock.path)
        {
            // Whatever is left is found stale by the next run.
            let _ = remove_socket(&self.socket);
            let _ = fs::remove_file(&lock.path);
        }
    }
}

fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(found)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    is_same(&held, &found)
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
        /// The other's PID, if that is known.
        pid: Option<u32>,
    },
    /// A user who is not trusted holds the lock of the manifest.
    #[error(
        "the manifest {} is locked by process {pid} of the user {user}; end that process, and let only trusted users read \
         the manifest", .manifest.display()
    )]
    LockedByOther {
        /// The manifest.
        manifest: PathBuf,
        /// The process.
        pid: u32,
        /// Its user.
        user: u32,
    },
    /// The place cannot be used.
    #[error("the control socket {} cannot be used", shown(.socket))]
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
            Self::AlreadyRunning { .. } | Self::LockedByOther { .. } => Exit::Unavailable,
            Self::Io { .. } => Exit::Internal,
        }
    }

    pub(crate) fn new(socket: &Path, source: io::Error) -> Self {
        Self::Io { socket: socket.to_owned(), source }
    }
}

/// Where sockets can be, best first: in `$XDG_RUNTIME_DIR`, or where that is by custom, if it is a directory of this user;
/// and in `/tmp`. The user who asks a run may have another environment than it has, as with `ssh` or in a timer, so all of
/// them are looked into.
fn socket_directories() -> Vec<PathBuf> {
    let user = geteuid().as_raw();
    // That of another user, as `sudo` may leave it, could be changed by that one at any time.
    let is_own = |path: &PathBuf| {
        path.is_absolute() && fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user)
    };
    let of_session = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(is_own);
    let by_custom = Some(PathBuf::from(format!("/run/user/{user}")))
        .filter(is_own)
        .filter(|path| Some(path) != of_session.as_ref());
    let private = of_session.into_iter().chain(by_custom).map(|path| path.join("frame"));
    private.chain([PathBuf::from(format!("/tmp/frame-{user}"))]).collect()
}

/// Makes the directory if it is not there, and looks whether it is safe.
fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => check_directory(path),
    }
}

/// Looks whether a directory is really one, and no link to one, is this user's, and closed to all others. It cannot be
/// replaced by another's after that: what it is in is this user's, too, or is sticky, as `/tmp` is.
fn check_directory(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    objection(&found, geteuid().as_raw()).map_or(Ok(()), |objection| {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} {objection}; remove it, or give the socket another place", path.display()),
        ))
    })
}

fn objection(found: &Metadata, user: u32) -> Option<String> {
    let mode = found.permissions().mode() & 0o777;
    match () {
        () if !found.is_dir() => Some("is no directory".to_owned()),
        () if found.uid() != user => Some(format!("belongs to the user {}, not to {user}", found.uid())),
        () if mode & 0o077 != 0 => Some(format!("is open to others (mode {mode:o}, not 700)")),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(address: &ControlAddress) -> Result<Claim, BindError> {
        address.listen().map(|(claim, ..)| claim)
    }

    #[test]
    fn an_address_has_one_holder_and_is_free_when_that_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let address = ControlAddress::At(directory.path().join("control.sock"));
        let first = claim(&address).unwrap();
        let Err(BindError::AlreadyRunning { pid }) = claim(&address) else { panic!("two hold it") };
        assert_eq!(pid, Some(std::process::id()));
        drop(first);
        drop(claim(&address).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn the_socket_of_a_run_that_was_killed_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        // Neither removes what it leaves, as a process that is killed.
        drop(UnixListener::bind(&socket).unwrap());
        fs::write(beside(&socket), "4711\n").unwrap();
        drop(claim(&ControlAddress::At(socket.clone())).unwrap());
        assert!(!socket.exists());
    }

    #[test]
    fn what_killed_runs_left_is_removed_and_nothing_of_those_that_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let [dead, alive, other] =
            ["a", "b", "c"].map(|digit| directory.path().join(format!("{}.sock", digit.repeat(32))));
        drop(UnixListener::bind(&dead).unwrap());
        fs::write(beside(&dead), "4711\n").unwrap();
        let alive = claim(&ControlAddress::At(alive)).unwrap();
        fs::write(directory.path().join("notes.lock"), "mine").unwrap();
        fs::write(&other, "no socket").unwrap();
        fs::write(beside(&other), "4711\n").unwrap();
        remove_leftovers(directory.path());
        assert!(!dead.exists() && !beside(&dead).exists());
        assert!(alive.socket().exists() && beside(alive.socket()).exists());
        assert!(directory.path().join("notes.lock").exists() && other.exists());
    }

    #[test]
    fn nothing_else_than_a_socket_is_ever_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(claim(&ControlAddress::At(path.clone())), Err(BindError::Io { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, target) = (directory.path().join("control.sock"), directory.path().join("target"));
        fs::write(&target, "mine").unwrap();
        std::os::unix::fs::symlink(&target, beside(&socket)).unwrap();
        assert!(matches!(claim(&ControlAddress::At(socket)), Err(BindError::Io { .. })));
        assert_eq!(fs::read(&target).unwrap(), b"mine");
    }

    #[test]
    fn a_run_that_lost_its_lock_removes_nothing_of_the_run_that_has_it_now() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let address = ControlAddress::At(socket.clone());
        let first = claim(&address).unwrap();
        fs::remove_file(beside(&socket)).unwrap();
        let second = claim(&address).unwrap();
        drop(first);
        assert!(second.socket().exists() && beside(second.socket()).exists());
    }

    #[test]
    fn each_manifest_has_a_socket_of_its_own_whose_path_is_short() {
        let one = ControlAddress::OfManifest("/srv/one/app.toml".into());
        let other = ControlAddress::OfManifest("/srv/other/app.toml".into());
        assert_ne!(one.sockets(), other.sockets());
        assert_eq!(one.sockets(), one.clone().sockets());
        assert!(one.sockets().last().unwrap().as_os_str().len() < 90);
    }
}

#[cfg(test)]
mod directory_tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_is_made_closed_and_found_safe_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("frame");
        make_directory(&path).unwrap();
        make_directory(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_others_can_enter_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("frame");
        make_directory(&path).unwrap();
        for mode in [0o701, 0o710, 0o777, 0o1777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = make_directory(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{mode:o}");
            assert!(error.to_string().contains("open to others"), "{error}");
        }
    }

    #[test]
    fn links_and_files_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let (real, link, file) =
            (parent.path().join("real"), parent.path().join("link"), parent.path().join("file"));
        make_directory(&real).unwrap();
        symlink(&real, &link).unwrap();
        fs::write(&file, "").unwrap();
        for path in [link, file] {
            assert!(make_directory(&path).unwrap_err().to_string().contains("is no directory"), "{path:?}");
        }
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("frame");
        make_directory(&path).unwrap();
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!(objection(&found, found.uid()), None);
        assert!(objection(&found, found.uid() + 1).unwrap().contains("belongs to the user"));
    }
}
