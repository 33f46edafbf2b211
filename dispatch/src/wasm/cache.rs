//! Compiled components on disk.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::config::ComponentLimits;
use super::error::WasmError;

/// What a file starts with. The checksum follows, then the code.
const MAGIC: &[u8; 16] = b"frame component\n";
const CHECKSUM: usize = 32;

/// The names of files that are being written.
const TEMPORARY: &str = ".temporary";

/// The age at which a file that is still being written was left behind by a program that was killed.
const ABANDONED: Duration = Duration::from_hours(1);

/// A directory with a file for each component, and each version and configuration of the compiler.
///
/// What is in it is code that this process runs. So nobody else may write to it, which is seen to when it is opened;
/// the checksum is against accidents, a file under the name of another among them. Nothing that is wrong with a file is an
/// error: the component is compiled, and the file replaced.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

/// Identifies the code of a component: of this compiler, as it is configured, and within these limits. It names the file.
#[derive(Debug)]
pub(crate) struct CacheKey([u8; 32]);

impl CacheKey {
    pub(crate) fn new(engine: &Engine, limits: &ComponentLimits, component: &[u8]) -> Self {
        let mut hasher = Hashed(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        // A component that is refused is so whether it was compiled under other limits or not.
        limits.hash(&mut hasher);
        hasher.0.update(component);
        Self(hasher.0.finalize().into())
    }

    /// The checksum of code that is kept under this key.
    fn checksum(&self, code: &[u8]) -> [u8; CHECKSUM] {
        Sha256::new().chain_update(self.0).chain_update(code).finalize().into()
    }
}

/// Hashes what is `Hash` with SHA-256.
struct Hashed(Sha256);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
    }
}

impl Cache {
    /// Uses `directory`, which is made if it is not there.
    pub(crate) fn open(directory: &Path) -> Result<Self, WasmError> {
        let refused = |reason: String| WasmError::Cache { path: directory.to_owned(), reason };
        create(directory).map_err(|error| refused(format!("it cannot be made: {error}")))?;
        // Links are followed now and never again.
        let directory = directory.canonicalize().map_err(|error| refused(error.to_string()))?;
        ownership::check(&directory).map_err(refused)?;
        Ok(Self { directory })
    }

    /// The component, if it was compiled before.
    pub(crate) fn load(&self, engine: &Engine, key: &CacheKey) -> Option<Component> {
        let path = self.path(key);
        let code = match read(&path, key) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a compiled component is not usable, and made anew");
                return None;
            }
        };
        // SAFETY: `deserialize` runs what it is given as machine code, so it has to be what `serialize` gave.
        // `read` gives the content of a file that belongs to this user or to root and that nobody else may write to,
        // in a directory of which, and of whose every parent, `open` saw the same; so a process of this user wrote it,
        // or root. Of those, this module writes under such a name only what `serialize` gave for this component and this
        // compiler, after a checksum of both the code and the name, which `read` compared. Someone who can act as this user can put anything
        // there, and does not need to: they can as well write to this process. Where there are no such owners and
        // modes, whoever chose the directory vouches for it, as the documentation of `cache` says.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(engine, &code) };
        component
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "a compiled component is of another compiler, and made anew");
            })
            .ok()
    }

    /// Keeps a component that was compiled.
    pub(crate) fn store(&self, key: &CacheKey, component: &Component) {
        let path = self.path(key);
        let stored =
            component.serialize().map_err(io::Error::other).and_then(|code| self.write(&path, key, &code));
        if let Err(error) = stored {
            tracing::warn!(path = %path.display(), %error, "a compiled component cannot be kept");
        }
    }

    fn path(&self, CacheKey(digest): &CacheKey) -> PathBuf {
        let mut name = String::with_capacity(2 * digest.len() + 10);
        for byte in digest {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        self.directory.join(name).with_extension("component")
    }

    /// Puts a file in its place at once, so that no other process ever reads half of it.
    fn write(&self, path: &Path, key: &CacheKey, code: &[u8]) -> io::Result<()> {
        self.remove_abandoned();
        // A process that was killed may have had the same number as this one.
        let temporary = self.directory.join(format!(".{:016x}{TEMPORARY}", getrandom::u64()?));
        let written = create_new(&temporary).and_then(|mut file| {
            file.write_all(MAGIC)?;
            file.write_all(&key.checksum(code))?;
            file.write_all(code)?;
            drop(file);
            fs::rename(&temporary, path)
        });
        if written.is_err() {
            // It may not be there at all.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes what programs have left that were killed as they wrote a file. That saves room only, so failures are passed
    /// over.
    fn remove_abandoned(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let is_temporary = entry.file_name().to_str().is_some_and(|name| name.ends_with(TEMPORARY));
            let is_abandoned = || {
                let age = entry.metadata().ok()?.modified().ok()?.elapsed().ok()?;
                Some(age >= ABANDONED)
            };
            if is_temporary && is_abandoned() == Some(true) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The code in a file, if it is all there and that of the key.
fn read(path: &Path, key: &CacheKey) -> io::Result<Vec<u8>> {
    let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut file = open(path)?;
    if !file.metadata()?.is_file() {
        return Err(damaged("it is not a regular file"));
    }
    ownership::check_file(&file).map_err(io::Error::other)?;
    let mut head = [0; MAGIC.len() + CHECKSUM];
    file.read_exact(&mut head)?;
    let (magic, checksum) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(damaged("it is not a compiled component"));
    }
    let mut code = Vec::new();
    file.read_to_end(&mut code)?;
    if key.checksum(&code) != checksum {
        return Err(damaged("it is damaged, or the code of another component"));
    }
    Ok(code)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    // A link would lead to where the directories were not looked at. A pipe would wait for a writer.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed(),
    );
    options.open(path)
}

fn create(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Who else could write there.
#[cfg(unix)]
mod ownership {
    use std::fs::{self, File, Metadata};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    const WRITABLE_BY_OTHERS: u32 = 0o022;
    const STICKY: u32 = 0o1000;

    /// Refuses a directory that somebody else could put a file into, or put another directory in the place of.
    pub(super) fn check(directory: &Path) -> Result<(), String> {
        let metadata = fs::metadata(directory).map_err(|error| error.to_string())?;
        if !metadata.is_dir() {
            return Err("it is no directory".to_owned());
        }
        is_ours(&metadata).map_err(|reason| format!("{reason}; make it yours alone, or name another"))?;
        for parent in directory.ancestors().skip(1) {
            let metadata = fs::metadata(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
            // In a sticky directory others can add what is theirs, and move nothing of ours; its owner can, though.
            let is_sticky = metadata.mode() & STICKY != 0;
            let checked = if is_sticky { has_our_owner(&metadata) } else { is_ours(&metadata) };
            checked.map_err(|reason| format!("of its parent `{}`, {reason}", parent.display()))?;
        }
        Ok(())
    }

    pub(super) fn check_file(file: &File) -> Result<(), String> {
        is_ours(&file.metadata().map_err(|error: io::Error| error.to_string())?)
    }

    /// That nobody but this user and root can write to it.
    fn is_ours(metadata: &Metadata) -> Result<(), String> {
        has_our_owner(metadata)?;
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(format!("others may write to it, its mode is {:o}", metadata.mode() & 0o7777));
        }
        Ok(())
    }

    fn has_our_owner(metadata: &Metadata) -> Result<(), String> {
        const ROOT: u32 = 0;
        let (owner, us) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != us && owner != ROOT {
            return Err(format!("the owner is user {owner}, and this is user {us}"));
        }
        Ok(())
    }
}

/// There are no owners and modes to look at.
#[cfg(not(unix))]
mod ownership {
    use std::fs::File;
    use std::path::Path;

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(super) fn check(_: &Path) -> Result<(), String> {
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(super) fn check_file(_: &File) -> Result<(), String> {
        Ok(())
    }
}
