//! Where the value of a secret is kept.

use std::env;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::secret::{SecretValueError, StoredSecret};

/// Where the value of a secret is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretSource {
    /// An environment variable. One byte of it is one byte of the value.
    Env(String),
    /// A file. One line break at its end is not part of the value.
    File(PathBuf),
}

/// What was read, and what its operator should know of where it is.
pub(super) struct Read {
    pub(super) value: Zeroizing<Vec<u8>>,
    pub(super) remark: Option<String>,
}

impl SecretSource {
    /// The setting that names it.
    pub(super) const fn setting(&self) -> &'static str {
        match self {
            Self::Env(_) => "env",
            Self::File(_) => "file",
        }
    }

    /// Reads the value. A path begins at `directory`.
    pub(super) fn read(&self, directory: &Path) -> Result<Read, SecretSourceError> {
        match self {
            Self::Env(name) => from_environment(name),
            Self::File(path) => {
                let path = directory.join(path);
                from_file(&path).map_err(|source| match source {
                    NotRead::Io(source) => SecretSourceError::File { path, source },
                    NotRead::NotRegular => SecretSourceError::NotRegular { path },
                })
            }
        }
    }
}

/// Whether an environment variable can be called so.
pub(super) fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn from_environment(name: &str) -> Result<Read, SecretSourceError> {
    let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) else {
        // The name of a variable is in capitals. Anything else may be the secret itself, which stands in its place.
        let is_shown = !name.bytes().any(|byte| byte.is_ascii_lowercase());
        return Err(SecretSourceError::NotSet { name: is_shown.then(|| name.to_owned()) });
    };
    Ok(Read { value: Zeroizing::new(value.into_encoded_bytes()), remark: None })
}

enum NotRead {
    Io(io::Error),
    NotRegular,
}

impl From<io::Error> for NotRead {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn from_file(path: &Path) -> Result<Read, NotRead> {
    // Two more for a line break, and one to see that there are too many.
    const MOST: usize = StoredSecret::MAX_LEN + 3;
    let file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(NotRead::NotRegular);
    }
    let mut value = Zeroizing::new(Vec::with_capacity(MOST));
    file.take(MOST as u64).read_to_end(&mut value)?;
    if value.ends_with(b"\n") {
        value.pop();
        if value.ends_with(b"\r") {
            value.pop();
        }
    }
    Ok(Read { value, remark: remark(path, &metadata) })
}

/// Opens a file without waiting for what may be at the other end: it may be a pipe.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

#[cfg(unix)]
fn remark(path: &Path, metadata: &Metadata) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = metadata.permissions().mode();
    let who = match (mode & 0o004 != 0, mode & 0o002 != 0) {
        (_, true) => "write",
        (true, false) => "read",
        (false, false) => return None,
    };
    let path = path.display();
    Some(format!(
        "every user of this machine can {who} `{path}`, which has a secret in it; run `chmod o= {path}`"
    ))
}

#[cfg(not(unix))]
fn remark(_: &Path, _: &Metadata) -> Option<String> {
    None
}

/// The value of a secret was not read. No error shows anything of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretSourceError {
    /// The environment variable is not set, or empty.
    #[error("{}", not_set(name.as_deref()))]
    NotSet {
        /// The variable, unless the secret itself seems to stand in its place.
        name: Option<String>,
    },
    /// The file cannot be read.
    #[error("`{}`, which is to have the secret in it, cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("`{}`, which is to have the secret in it, is not a regular file", path.display())]
    NotRegular {
        /// What is at the path.
        path: PathBuf,
    },
    /// No header can carry what was read.
    #[error("`{setting}` leads to a secret that cannot be sent")]
    Value {
        /// The setting that names the source: `env` or `file`.
        setting: &'static str,
        /// Why not.
        source: SecretValueError,
    },
}

impl SecretSourceError {
    /// The setting that it is about: `env` or `file`.
    pub const fn setting(&self) -> &'static str {
        match self {
            Self::NotSet { .. } => "env",
            Self::File { .. } | Self::NotRegular { .. } => "file",
            Self::Value { setting, .. } => setting,
        }
    }
}

fn not_set(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("the environment variable `{name}` is not set, or empty; set it to the secret"),
        None => {
            "the environment variable that `env` names is not set, or empty; set it to the secret".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(directory: &Path, name: &str) -> Result<Read, SecretSourceError> {
        SecretSource::File(name.into()).read(directory)
    }

    #[test]
    fn one_line_break_at_the_end_is_not_part_of_the_value() {
        let directory = tempfile::tempdir().unwrap();
        for (text, value) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("", "")]
        {
            fs::write(directory.path().join("key"), text).unwrap();
            assert_eq!(*read(directory.path(), "key").ok().unwrap().value, value.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn no_more_of_a_file_is_read_than_a_value_can_have() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("key"), "31337".repeat(100_000)).unwrap();
        let value = read(directory.path(), "key").ok().unwrap().value;
        assert!(value.len() > StoredSecret::MAX_LEN && value.len() < 2 * StoredSecret::MAX_LEN);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = read(directory.path(), "key").err().unwrap();
        assert!(error.to_string().contains("key") && error.setting() == "file", "{error}");
        let error = read(directory.path(), ".").err().unwrap();
        assert!(matches!(error, SecretSourceError::NotRegular { .. }), "{error:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_is_refused_without_waiting_for_its_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let error = read(directory.path(), "pipe").err().unwrap();
        assert!(matches!(error, SecretSourceError::NotRegular { .. }), "{error:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_every_user_can_read_has_a_remark() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "31337abc").unwrap();
        for (mode, expected) in
            [(0o600, None), (0o640, None), (0o644, Some("can read")), (0o666, Some("can write"))]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let remark = read(directory.path(), "key").ok().unwrap().remark;
            assert_eq!(remark.is_some(), expected.is_some(), "{mode:o}");
            assert!(remark.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_unless_it_may_be_the_secret() {
        let error =
            |name: &str| SecretSource::Env(name.to_owned()).read(Path::new(".")).err().unwrap().to_string();
        assert!(error("NOT_SET_ANYWHERE").contains("`NOT_SET_ANYWHERE` is not set"));
        let error = error("sk_live_31337");
        assert!(error.contains("that `env` names") && !error.contains("31337"), "{error}");
    }
}
