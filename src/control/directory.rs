//! The directory of the sockets, which is to be nobody else's.

use std::env;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Where sockets can be, best first: in `$XDG_RUNTIME_DIR`, or where that is by custom, if it is a directory of this user;
/// and in `/tmp`. The user who asks a run may have another environment than it has, as with `ssh` or in a timer, so all of
/// them are looked into.
pub(super) fn candidates() -> Vec<PathBuf> {
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
pub(super) fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => check(path),
    }
}

/// Looks whether a directory is really one, and no link to one, is this user's, and closed to all others. It cannot be
/// replaced by another's after that: what it is in is this user's, too, or is sticky, as `/tmp` is.
pub(super) fn check(path: &Path) -> io::Result<()> {
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
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_is_made_closed_and_found_safe_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("frame");
        make(&path).unwrap();
        make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_others_can_enter_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("frame");
        make(&path).unwrap();
        for mode in [0o701, 0o710, 0o777, 0o1777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = make(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{mode:o}");
            assert!(error.to_string().contains("open to others"), "{error}");
        }
    }

    #[test]
    fn links_and_files_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let (real, link, file) =
            (parent.path().join("real"), parent.path().join("link"), parent.path().join("file"));
        make(&real).unwrap();
        symlink(&real, &link).unwrap();
        fs::write(&file, "").unwrap();
        for path in [link, file] {
            assert!(make(&path).unwrap_err().to_string().contains("is no directory"), "{path:?}");
        }
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("frame");
        make(&path).unwrap();
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!(objection(&found, found.uid()), None);
        assert!(objection(&found, found.uid() + 1).unwrap().contains("belongs to the user"));
    }
}
