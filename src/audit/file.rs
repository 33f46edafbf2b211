//! The file of the audit log: appended to, never truncated, and opened anew when it was rotated.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The file that records are appended to.
pub(super) struct LogFile {
    path: PathBuf,
    /// None if it could not be opened again.
    file: Option<File>,
    /// Whether it is held, as by each program that writes to it.
    is_held: bool,
    is_alone: bool,
}

impl LogFile {
    /// Opens the file, or creates it for its owner alone.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or is not a regular file. A symbolic link is not followed: who may write to the directory
    /// could lead the program to append to any file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let is_alone = hold_alone(&file);
        let is_held = hold(&file);
        Ok(Self { path: path.to_owned(), file: Some(file), is_held, is_alone })
    }

    /// Whether no other program was about to write to the file when it was opened.
    pub(super) const fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Appends whole lines. What is returned with an error is how many of their bytes are in the file.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        self.reopen_if_moved().map_err(|error| (0, error))?;
        let Some(mut file) = self.file.as_ref() else {
            return Err((0, io::ErrorKind::NotFound.into()));
        };
        // Another program, which looked whether it is alone, may have kept it from that.
        self.is_held = self.is_held || hold(file);
        // The last line has no end if a write failed, or a program was killed in the middle of one: this one, or another that
        // writes to the file. The next begins on a line of its own. Readers skip what is left of the one before.
        if is_torn(file).map_err(|error| (0, error))? {
            file.write_all(b"\n").map_err(|error| (0, error))?;
        }
        let mut written = 0;
        while written < lines.len() {
            match file.write(&lines[written..]) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    /// Waits until what was appended is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    /// Opens the file anew if another, or none, has its path by now.
    pub(super) fn reopen_if_moved(&mut self) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|file| is_at(file, &self.path)) {
            return Ok(());
        }
        // What was rotated away may be compressed or removed by now: nothing more is written there.
        self.file = None;
        let file = open(&self.path)?;
        self.is_held = hold(&file);
        self.file = Some(file);
        Ok(())
    }
}

/// Returns an error if something is at `path` that is not a regular file.
pub(super) fn check_kind(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => Err(symbolic_link()),
        Ok(metadata) if !metadata.is_file() => Err(special()),
        // Whether it can be opened is seen when it is.
        _ => Ok(()),
    }
}

fn special() -> io::Error {
    io::Error::other("it is not a regular file")
}

fn symbolic_link() -> io::Error {
    io::Error::other("it is a symbolic link; name the file itself")
}

/// Opens a file to append to.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    use rustix::fs::OFlags;
    use rustix::io::Errno;

    // Nothing here waits for the reader of a pipe, or makes a terminal that of the program.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(flags.bits().cast_signed());
    let file = options.open(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => symbolic_link(),
        Some(Errno::NXIO | Errno::ISDIR) => special(),
        _ => error,
    })?;
    if !file.metadata()?.is_file() {
        return Err(special());
    }
    Ok(file)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(special());
    }
    Ok(file)
}

/// Takes a lock that excludes other programs, if none has one, and returns whether it did. It lasts until the file is
/// [held](hold).
///
/// The lock is a record lock of POSIX, which keeps none from writing, and which readers that lock the file with `flock` do not
/// wait for.
#[cfg(unix)]
fn hold_alone(file: &File) -> bool {
    rustix::fs::fcntl_lock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Takes a lock that is shared with other programs, in the place of one that is not, and returns whether it did. The operating
/// system releases it when the program ends, or closes the file.
#[cfg(unix)]
fn hold(file: &File) -> bool {
    rustix::fs::fcntl_lock(file, rustix::fs::FlockOperation::NonBlockingLockShared).is_ok()
}

/// Locks of other systems keep others from writing.
#[cfg(not(unix))]
fn hold_alone(_: &File) -> bool {
    false
}

#[cfg(not(unix))]
fn hold(_: &File) -> bool {
    false
}

/// Whether the last line has no end.
#[cfg(unix)]
fn is_torn(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;

    let Some(at) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut last = [b'\n'];
    // Nothing is read if it was truncated since.
    file.read_at(&mut last, at)?;
    Ok(last != *b"\n")
}

#[cfg(not(unix))]
fn is_torn(mut file: &File) -> io::Result<bool> {
    use std::io::{Read as _, Seek as _, SeekFrom};

    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [b'\n'];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Whether `file` is what is at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(open), Ok(there)) => identity(open) == identity(there),
        _ => false,
    }
}

/// An open file cannot be moved away.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn append(file: &mut LogFile, line: &str) {
        file.append(format!("{line}\n").as_bytes()).unwrap();
    }

    #[test]
    fn a_line_without_an_end_is_ended_by_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        fs::write(&path, "{\"v\":1}\n{\"v\":1,\"ev").unwrap();
        append(&mut LogFile::open(&path).unwrap(), "{}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"v\":1}\n{\"v\":1,\"ev\n{}\n");
    }

    #[test]
    fn a_line_that_another_program_could_not_end_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let mut file = LogFile::open(&path).unwrap();
        append(&mut file, "{}");
        let mut other = OpenOptions::new().append(true).open(&path).unwrap();
        other.write_all(b"{\"v\":1,\"ev").unwrap();
        append(&mut file, "{}");
        append(&mut file, "{}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n{\"v\":1,\"ev\n{}\n{}\n");
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_is_moved_away_truncated_or_removed_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("audit.log"), directory.path().join("audit.log.1"));
        let mut file = LogFile::open(&path).unwrap();
        append(&mut file, "one");
        fs::rename(&path, &moved).unwrap();
        append(&mut file, "two");
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        fs::write(&path, "").unwrap();
        append(&mut file, "three");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        fs::remove_file(&path).unwrap();
        append(&mut file, "four");
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
    }

    #[test]
    #[cfg(unix)]
    fn a_new_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        LogFile::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_regular_file_is_refused_without_waiting_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |path: &Path| {
            let why = LogFile::open(path).map(drop).unwrap_err().to_string();
            assert_eq!(check_kind(path).unwrap_err().to_string(), why);
            why
        };
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &link).unwrap();
        assert_eq!(refused(&link), "it is a symbolic link; name the file itself");
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(refused(&pipe), "it is not a regular file");
        assert_eq!(refused(directory.path()), "it is not a regular file");
        assert_eq!(refused(Path::new("/dev/full")), "it is not a regular file");
    }
}
