//! The option `fs_root`: the directory that a unit sees.
//!
//! A unit whose frame carries no [`FS_ROOT_KEY`] has no file system. One gets there by [`FS_ROOT`], from a place that has the
//! right to give it: the frame of whoever calls, or, where that carries none, the app's own [`FS_BASE`], which only
//! trusted code may point into: the manifest, the command line and native functions, but no script and no component.
//! From there on it is inherited, and every further option goes deeper into what there is, never up, sideways or
//! elsewhere; and a root that is read-only stays so. A preset of a function that is called from below a root is no
//! exception: it is a path inside that. Scripts and components cannot put another in its place, which could be wider, or
//! one that is not read-only.
//!
//! ```standalone_crate
//! use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, Options, ResolveContext};
//! use frame_runtime::fs_root::{FS_BASE, FS_ROOT, FsRoot, FS_ROOT_KEY, Root};
//!
//! let base = tempfile::tempdir()?;
//! std::fs::create_dir_all(base.path().join("reports/2026"))?;
//!
//! let mut app = App::builder();
//! app.set_resolvers(FrameResolvers::linked())?;
//! app.set(&FS_BASE, Root::open(base.path())?)?;
//! let app = app.build();
//!
//! let frame = |parent: Option<&Frame>, options: &Options| {
//!     let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
//!     app.resolvers().resolve(&ResolveContext::new(&app, parent), options, frame.pairs_mut())?;
//!     Ok::<_, frame_registry::ResolveError>(frame.seal())
//! };
//! let reports = frame(None, &Options::new().with(&FS_ROOT, "reports".parse()?))?;
//! let deeper = frame(Some(&reports), &Options::new().with(&FS_ROOT, FsRoot::new("2026")?.with_read_only(true)))?;
//! let root = deeper.get(&FS_ROOT_KEY).unwrap();
//! assert_eq!((root.path(), root.is_read_only()), ("reports/2026", true));
//!
//! // What a script asks for grants nothing.
//! let script = Options::new().with(&FS_ROOT, "reports".parse()?).untrusted();
//! assert!(frame(None, &script).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a root keeps in
//!
//! A [`Root`] is an open directory, and no path: renaming it, or putting something else where it was, changes nothing.
//! What is opened below it is found by the [`cap_std`] crate, which has the system refuse whatever leads out (`openat2`
//! with `RESOLVE_BENEATH` on Linux 5.6 and later, and the same by hand elsewhere): `..`, absolute paths, symbolic
//! links, also while somebody renames things. Devices, pipes, sockets, and the kernel's own file systems such as
//! `/proc`, are no files here.
//!
//! Whatever the directory itself contains is inside: a file that has a second name elsewhere (a hard link), or a file
//! system that is mounted there. Nothing limits how much is written, or how many files: a quota is the file system's.
//!
//! Making a frame with the option opens a directory, which is then open for as long as a frame carries it. It is done
//! where the frame is made and takes as long as the file system does, which for one on a disk of the machine is not
//! worth a thread.

use std::fmt;
use std::io;
use std::path::{Component, Path};
use std::str::FromStr;
use std::sync::Arc;

use cap_std::fs::Dir;
use frame_registry::{
    FrameOption, Key, Options, Pair, ResolveContext, frame_key, frame_option, frame_resolver,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::files::{self, OpenError};

pub use cap_std;

/// The directory that the call sees, inside that of its caller: a path such as `reports/2026`, or a table such as
/// `{ path = "reports", read_only = true }`.
///
/// See [the module](self). Of a script or a component an empty string is as good as no option; elsewhere it is refused.
///
/// ```
/// use frame_registry::Options;
/// use frame_runtime::fs_root::FS_ROOT;
/// use serde_json::json;
///
/// let options = Options::from_json(&json!({ "fs_root": { "path": "reports", "read_only": true } }))?;
/// assert_eq!(options.get(&FS_ROOT).unwrap().path(), "reports");
///
/// assert!(Options::from_json(&json!({ "fs_root": "../reports" })).is_err());
/// # Ok::<(), frame_registry::OptionError>(())
/// ```
#[frame_option(name = "fs_root", empty_is_unset)]
pub static FS_ROOT: FrameOption<FsRoot>;

/// The directory of a frame; forks inherit it. A frame without one has no file system.
///
/// Scripts and components can read of it whether it is there, and `read_only`.
#[frame_key(name = "fs.root", stays, inherit, public)]
pub static FS_ROOT_KEY: Key<Root>;

/// What the app has to give: the directory that roots are below, where the caller has none of its own.
pub static FS_BASE: Key<Root> = Key::new("fs.base");

/// Chooses the directory of a frame: the option's, inside that of the parent's frame, or else that one itself. Without
/// either it adds nothing, and the frame has no file system.
///
/// What the parent's frame carries is added again, so that it holds also where the new frame is no fork of it.
///
/// # Errors
///
/// [`RootError`]: a directory that is not to be had is never replaced by another.
#[frame_resolver(order = 300, covers(FS_ROOT))]
fn fs_root(ctx: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, RootError> {
    let held = ctx.parent().and_then(|parent| Some((parent.get(&FS_ROOT_KEY)?, parent.pair(&FS_ROOT_KEY)?)));
    let Some(wanted) = options.get(&FS_ROOT) else {
        return Ok(held.map(|(_, pair)| pair.clone()));
    };
    if options.replaces_trusted(&FS_ROOT) {
        return Err(RootError::Preset);
    }
    let root = match (held, ctx.app().get(&FS_BASE)) {
        (Some((root, _)), _) => root,
        (None, _) if !options.is_trusted(&FS_ROOT) => return Err(RootError::NotGranted),
        (None, Some(base)) => base,
        (None, None) => return Err(RootError::NoBase { path: wanted.path().to_owned() }),
    };
    Ok(Some(FS_ROOT_KEY.pair(root.narrowed(wanted)?)))
}

/// A directory below another, and whether it may be written to: the value of [`FS_ROOT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsRoot {
    /// Its names, with `/` between them; `.` if there are none.
    path: Box<str>,
    read_only: bool,
}

/// How long a path may be, in bytes: as much as Linux takes.
const LONGEST: usize = 4096;

impl FsRoot {
    /// The directory at `path`, which is relative. `.` is the one that there is already.
    ///
    /// ```
    /// use frame_runtime::fs_root::FsRoot;
    ///
    /// assert_eq!(FsRoot::new("./reports//2026/")?.path(), "reports/2026");
    /// let error = FsRoot::new("/etc").unwrap_err();
    /// assert_eq!(error.to_string(), "\"/etc\" is absolute; write a path below that of the caller, such as `reports/2026`");
    /// # Ok::<(), frame_runtime::fs_root::FsRootError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`FsRootError`] if the path is none that can lead inside.
    pub fn new(path: &str) -> Result<Self, FsRootError> {
        if path.is_empty() {
            return Err(FsRootError::Empty);
        }
        if path.len() > LONGEST {
            return Err(FsRootError::TooLong { length: path.len() });
        }
        if path.contains('\0') {
            return Err(FsRootError::Nul { path: path.to_owned() });
        }
        let mut names = Vec::new();
        for component in Path::new(path).components() {
            match component {
                Component::Normal(name) => names.extend(name.to_str()),
                Component::CurDir => (),
                Component::ParentDir => return Err(FsRootError::Parent { path: path.to_owned() }),
                Component::RootDir | Component::Prefix(_) => {
                    return Err(FsRootError::Absolute { path: path.to_owned() });
                }
            }
        }
        let path = if names.is_empty() { ".".to_owned() } else { names.join("/") };
        Ok(Self { path: path.into(), read_only: false })
    }

    /// Sets whether nothing below the directory can be written.
    #[must_use]
    pub fn with_read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The path, with `/` between its names; `.` where it is the directory that there is already.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is to be read only. If not, it can still be so because of what it is inside of.
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }
}

impl FromStr for FsRoot {
    type Err = FsRootError;

    fn from_str(path: &str) -> Result<Self, FsRootError> {
        Self::new(path)
    }
}

/// A path that cannot lead inside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FsRootError {
    /// There is nothing in it.
    #[error("the path is empty; write `.` for the directory of the caller itself")]
    Empty,
    /// It begins at the top.
    #[error("{path:?} is absolute; write a path below that of the caller, such as `reports/2026`")]
    Absolute {
        /// The path.
        path: String,
    },
    /// It goes up.
    #[error("{path:?} has `..` in it; write a path that only goes down, such as `reports/2026`")]
    Parent {
        /// The path.
        path: String,
    },
    /// No file is called that.
    #[error("{path:?} has a NUL in it, which no name has; leave it out")]
    Nul {
        /// The path.
        path: String,
    },
    /// It is longer than any path.
    #[error("the path has {length} bytes; write one of at most {LONGEST}")]
    TooLong {
        /// How long it is, in bytes.
        length: usize,
    },
}

impl<'de> Deserialize<'de> for FsRoot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FsRootVisitor)
    }
}

struct FsRootVisitor;

impl<'de> Visitor<'de> for FsRootVisitor {
    type Value = FsRoot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path such as \"reports/2026\", or { path = \"reports\", read_only = true }")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<FsRoot, E> {
        FsRoot::new(path).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FsRoot, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            #[serde(default = "here")]
            path: String,
            #[serde(default)]
            read_only: bool,
        }

        fn here() -> String {
            ".".to_owned()
        }

        let Table { path, read_only } = Table::deserialize(MapAccessDeserializer::new(map))?;
        let root = FsRoot::new(&path).map_err(de::Error::custom)?;
        Ok(FsRoot { read_only, ..root })
    }
}

/// A directory, as a capability: whoever has it sees what is inside, and nothing else. Cloning it is one reference
/// count.
///
/// Shown to scripts and in logs it names no path of the machine.
#[derive(Clone)]
pub struct Root {
    inside: Arc<Inside>,
    read_only: bool,
}

struct Inside {
    directory: Dir,
    /// Below the base, for people.
    path: Box<str>,
}

impl Root {
    /// The directory at `path`, wherever that is on this machine: what an app gives as [`FS_BASE`]. Nothing keeps this
    /// in, so the path is one that the program's owner chose.
    ///
    /// # Errors
    ///
    /// What the system says if there is no directory, or it cannot be opened; [`io::ErrorKind::Unsupported`] if it is
    /// of the kernel's own, such as `/proc`.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let directory = Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
        #[cfg(target_os = "linux")]
        files::check_stored(&directory).map_err(|error| match error {
            OpenError::System(error) => error,
            refused => io::Error::new(io::ErrorKind::Unsupported, refused),
        })?;
        Ok(Self { inside: Arc::new(Inside { directory, path: ".".into() }), read_only: false })
    }

    /// Turns the directory into one that can only be read. There is no way back.
    #[must_use]
    pub fn into_read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Whether whoever has it must not write. It is they who see to that: the handle does not.
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Where it is below the base, with `/` between the names; `.` if it is the base.
    pub fn path(&self) -> &str {
        &self.inside.path
    }

    /// The open directory. Whoever writes through it asks [`is_read_only`](Self::is_read_only) first.
    pub fn directory(&self) -> &Dir {
        &self.inside.directory
    }

    /// What `wanted` says, inside this: read-only if either is.
    ///
    /// # Errors
    ///
    /// [`RootError`] if it is not there, no directory, or leads out by a symbolic link.
    pub fn narrowed(&self, wanted: &FsRoot) -> Result<Self, RootError> {
        let read_only = self.read_only || wanted.read_only;
        if wanted.path() == "." {
            return Ok(Self { inside: Arc::clone(&self.inside), read_only });
        }
        let (path, within) = (wanted.path().to_owned(), self.path().to_owned());
        let directory = match files::open_directory(self.directory(), Path::new(wanted.path())) {
            Ok(directory) => directory,
            Err(OpenError::Outside) => return Err(RootError::Outside { path, within }),
            Err(OpenError::System(error)) => return Err(RootError::of(error, path, within)),
            Err(source) => return Err(RootError::Refused { path, within, source: source.into() }),
        };
        let path = if within == "." { path } else { format!("{within}/{path}") };
        Ok(Self { inside: Arc::new(Inside { directory, path: path.into() }), read_only })
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inside, read_only } = self;
        f.debug_struct("Root").field("path", &inside.path).field("read_only", read_only).finish()
    }
}

/// Says `read_only`, and not where it is: whoever is inside need not know what is around it.
impl Serialize for Root {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut root = serializer.serialize_struct("Root", 1)?;
        root.serialize_field("read_only", &self.read_only)?;
        root.end()
    }
}

/// A frame did not get its directory, so what it was for does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// It was asked for by code that may only narrow what its caller has, and that has none.
    #[error(
        "the caller has no file system, so it has none to give; set `fs_root` in the manifest, for the caller or for \
         what it calls"
    )]
    NotGranted,
    /// There is a preset, which may be narrower than what the caller has: it was given by code that is not trusted.
    #[error(
        "a directory is preset for what was called, and is not for scripts and components to replace; leave the option \
         `fs_root` out"
    )]
    Preset,
    /// The app has nothing to give.
    #[error(
        "the app has no directory that `{path}` could be in; say which in the manifest, such as `[fs] base = \"data\"`"
    )]
    NoBase {
        /// What was asked for.
        path: String,
    },
    /// There is nothing.
    #[error("there is no directory `{path}` in {}; make it first", place(.within))]
    NotFound {
        /// What was asked for.
        path: String,
        /// What it was looked for in, below the base.
        within: String,
        /// What the system says.
        source: io::Error,
    },
    /// There is something else.
    #[error("`{path}` in {} is no directory; write the path of one", place(.within))]
    NotADirectory {
        /// What was asked for.
        path: String,
        /// What it was looked for in, below the base.
        within: String,
        /// What the system says.
        source: io::Error,
    },
    /// A symbolic link leads out.
    #[error("`{path}` leads out of {}, by a symbolic link; write the path of a directory that is inside", place(.within))]
    Outside {
        /// What was asked for.
        path: String,
        /// What it was looked for in, below the base.
        within: String,
    },
    /// It cannot be opened.
    #[error("`{path}` in {} cannot be opened", place(.within))]
    Refused {
        /// What was asked for.
        path: String,
        /// What it was looked for in, below the base.
        within: String,
        /// Why.
        source: frame_registry::BoxError,
    },
}

impl RootError {
    fn of(error: io::Error, path: String, within: String) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path, within, source: error },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path, within, source: error },
            _ => Self::Refused { path, within, source: error.into() },
        }
    }
}

/// How errors name what something is in.
fn place(within: &str) -> String {
    if within == "." { "the base directory of the app".to_owned() } else { format!("`{within}`") }
}
