//! Opening what is data, and only that: regular files and directories.
//!
//! A path is acted on once, when it is opened; what is found is then judged, and used, by its handle. So nobody who
//! renames things meanwhile changes what was judged.

use std::io::{self, Read as _};
use std::path::Path;

use cap_fs_ext::OpenOptionsMaybeDirExt;
#[cfg(unix)]
use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::fs::{Dir, File, Metadata, OpenOptions};

/// Why something was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Its path goes up and out, or is absolute, itself or by a symbolic link on the way.
    #[error("it leads out of the root")]
    Outside,
    /// It is a device, a pipe or a socket: to open those does things.
    #[error("it is a device, a pipe or a socket, and only regular files and directories can be opened")]
    Special,
    /// It is in a file system that stores nothing.
    #[error(
        "it is in a file system of the kernel's own, such as /proc, which has no files but the machine's state"
    )]
    Kernel,
    /// What the system says.
    #[error(transparent)]
    System(io::Error),
}

/// What was opened.
#[derive(Debug)]
pub(crate) enum Opened {
    File(File),
    Directory(
        #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "only components open directories so"))]
        Dir,
    ),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        // Paths that lead out are the library's to refuse, and have no number of the system's.
        if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() {
            return Self::Outside;
        }
        #[cfg(unix)]
        if [rustix::io::Errno::NXIO, rustix::io::Errno::NODEV].map(Some).contains(&errno(&error)) {
            // A pipe that nobody reads, a socket, a device that is not there.
            return Self::Special;
        }
        Self::System(error)
    }
}

#[cfg(unix)]
pub(crate) fn errno(error: &io::Error) -> Option<rustix::io::Errno> {
    rustix::io::Errno::from_io_error(error)
}

/// Opens what is at `path` beneath `directory`, a file as `options` say. Those must not truncate: that is done to the
/// handle, once it is known what it is of.
///
/// It does not wait for the other end of a pipe, and makes no terminal that of the process.
pub(crate) fn open(directory: &Dir, path: &Path, options: &mut OpenOptions) -> Result<Opened, OpenError> {
    options.maybe_dir(true);
    #[cfg(unix)]
    {
        use cap_std::fs::OpenOptionsExt;
        options.nonblock(true).custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed());
    }
    let file = directory.open_with(path, options)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(OpenError::Special);
    }
    #[cfg(target_os = "linux")]
    check_stored(&file)?;
    Ok(if metadata.is_dir() {
        Opened::Directory(Dir::from_std_file(file.into_std()))
    } else {
        Opened::File(file)
    })
}

/// Opens a regular file to read it. It does not wait for the other end of a pipe.
pub(crate) fn open_regular(path: &Path) -> io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    let refused = || io::Error::other("it is not a regular file");
    let file = options.open(path).map_err(|error| {
        #[cfg(unix)]
        // A socket, or a device that is not there.
        if [rustix::io::Errno::NXIO, rustix::io::Errno::NODEV].map(Some).contains(&errno(&error)) {
            return refused();
        }
        error
    })?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if metadata.is_file() { Ok(file) } else { Err(refused()) }
}

/// Opens the regular file at `path`, wherever it is. Returns also whether it is beneath `directory`: the path leads neither up and out
/// nor through a symbolic link that does.
pub(crate) fn open_regular_beneath(directory: &Path, path: &Path) -> io::Result<(std::fs::File, bool)> {
    let beneath = path.strip_prefix(directory).ok().and_then(|path| {
        let directory = Dir::open_ambient_dir(directory, cap_std::ambient_authority()).ok()?;
        match open(&directory, path, OpenOptions::new().read(true)).ok()? {
            Opened::File(file) => Some(file.into_std()),
            Opened::Directory(_) => None,
        }
    });
    match beneath {
        Some(file) => Ok((file, true)),
        None => Ok((open_regular(path)?, false)),
    }
}

/// Reads all of a file that has at most `most` bytes.
///
/// # Errors
///
/// [`io::ErrorKind::FileTooLarge`] if it has more.
pub(crate) fn read_at_most(file: impl io::Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Opens the directory at `path` beneath `directory`.
pub(crate) fn open_directory(directory: &Dir, path: &Path) -> Result<Dir, OpenError> {
    let opened = directory.open_dir(path)?;
    #[cfg(target_os = "linux")]
    check_stored(&opened)?;
    Ok(opened)
}

/// What there is to say of what is at `path` beneath `directory`, whatever it is. It is not opened for that.
pub(crate) fn metadata(directory: &Dir, path: &Path) -> Result<Metadata, OpenError> {
    #[cfg(target_os = "linux")]
    {
        use cap_std::fs::OpenOptionsExt;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(rustix::fs::OFlags::PATH.bits().cast_signed());
        let handle = directory.open_with(path, &options)?;
        check_stored(&handle)?;
        Ok(handle.metadata()?)
    }
    #[cfg(not(target_os = "linux"))]
    Ok(directory.metadata(path)?)
}

/// That the file system of a handle stores what is in it.
#[cfg(target_os = "linux")]
pub(crate) fn check_stored(handle: impl std::os::fd::AsFd) -> Result<(), OpenError> {
    use rustix::fs::FsWord;

    // As in `linux/magic.h`: proc, sysfs, debugfs, tracefs, securityfs, selinuxfs, cgroup, cgroup2, bpf, configfs,
    // efivarfs, pstore.
    const KERNEL: [FsWord; 12] = [
        rustix::fs::PROC_SUPER_MAGIC,
        0x6265_6572,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xf97c_ff8c_u32 as FsWord,
        0x0027_e0eb,
        0x6367_7270,
        0xcafe_4a11_u32 as FsWord,
        0x6265_6570,
        0xde5e_81e4_u32 as FsWord,
        0x6165_676c,
    ];
    let found = rustix::fs::fstatfs(handle).map_err(io::Error::from)?.f_type;
    if KERNEL.contains(&found) { Err(OpenError::Kernel) } else { Ok(()) }
}
