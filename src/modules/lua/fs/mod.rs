//! Files, below the directory of the frame.

mod error;
mod operation;
mod path;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use frame_dispatch::lua::{LuaModule, ModuleBuilder, mlua};
use frame_dispatch::{CallContext, CallError, ErrorKind};
use frame_net::Reserved;
use tokio::io::{AsyncRead, ReadBuf};

use self::error::failed;
pub(super) use self::operation::Access;
use self::operation::Part;
pub(super) use self::path::Given;
use self::path::{BeneathRoot, Bytes};
use super::super::units::unit_of;
use crate::fs_root::{FS_ROOT_KEY, Root};
use crate::modules::units;

/// How many bytes of a file that is open for another module are read or written at once.
const BUFFER: usize = 64 << 10;

/// How much is read at once, unless the host says otherwise.
const LARGEST_READ: u64 = 16 << 20;

/// The module `fs` of scripts: files and directories inside the [root](crate::fs_root) of the call that runs.
///
/// | | |
/// |---|---|
/// | `fs.read(path, offset, length)` | The bytes of a file, as a string: all of them, or those from `offset`, and at most `length`. No more at once than [`with_largest_read`](Self::with_largest_read) says. |
/// | `fs.write(path, data)` | Makes `data` all that is in a file, which is made if it is not there. |
/// | `fs.append(path, data)` | Writes `data` behind what is there. |
/// | `fs.list(path)` | What is in a directory, by default in the root: a list of `{ name = …, kind = … }`, sorted by name. At most 10 000. |
/// | `fs.stat(path)` | `{ kind = …, size = …, modified = … }`: in bytes, and in seconds since 1970. |
/// | `fs.exists(path)` | Whether there is something. |
/// | `fs.mkdir(path)` | Makes a directory, with those it is in; does nothing if it is there. |
/// | `fs.remove(path)` | Removes a file, a symbolic link, or an empty directory. |
/// | `fs.rename(from, to)` | Moves a file or a directory; a file that is at `to` is replaced, at once. |
///
/// A kind is `file`, `directory`, `link` (a symbolic link, in lists only: everything else follows them) or `other`.
///
/// A path is relative to the root, with `/` between its names and without `..`; `.` is the root. Names are bytes: those
/// that are no UTF-8 are listed, and can be opened, as they are.
///
/// # What fails, and how
///
/// As a failed call, whose `message` has the path as the script gave it and none of the machine's. The kind is
/// `not_found` where there is nothing; `denied` without a root (give the call the option `fs_root`), where writing to one
/// that is read-only, where a path leads out, also by a symbolic link, and for devices, pipes and sockets; `invalid` for
/// a path that is none, and what does not fit what is there; `exhausted` where a file is larger than what is read
/// at once, a directory has more than is listed, or the disk is full.
///
/// # What is not promised
///
/// Each is done on a thread that may block, and waited for. A unit has 8 of these threads at once, what it wants beyond waits, and
/// if 1 024 of its operations wait a further one is refused with `exhausted`. A call that is ended is let go at once, but what it
/// has begun there goes on to its end. A file that is being written can be seen half-written; to replace one at
/// once, write another, and rename that. There is no quota: what scripts write is bounded by the file system.
///
/// ```standalone_crate
/// use frame_dispatch::lua::{LuaConfig, LuaEngine};
/// use frame_dispatch::{Functions, Task};
/// use frame_registry::{App, FrameResolvers, Options};
/// use frame_runtime::fs_root::{FS_BASE, FS_ROOT, Root};
/// use frame_runtime::modules::lua::FsModule;
/// use serde_json::json;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let base = tempfile::tempdir()?;
/// std::fs::create_dir(base.path().join("reports"))?;
///
/// let mut app = App::builder();
/// app.set_resolvers(FrameResolvers::linked())?;
/// app.set(&FS_BASE, Root::open(base.path())?)?;
/// let functions = Functions::new(app.build());
///
/// let engine = LuaEngine::builder().module(FsModule::new()).build()?;
/// let source = "fs.mkdir('2026')
///               fs.write('2026/total.txt', 'seven')
///               return { fs.list()[1].name, fs.read('2026/total.txt'), fs.stat('2026/total.txt').size }";
/// let function = engine.function("report.lua", source, LuaConfig::default())?;
/// let preset = Options::new().with(&FS_ROOT, "reports".parse()?);
/// functions.register("app:report".parse()?, preset, function)?;
///
/// let result = functions.root().call(Task::new("app:report".parse()?)).await?;
/// assert_eq!(result, json!(["2026", "seven", 5]).into());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FsModule {
    largest_read: u64,
}

impl FsModule {
    /// With the limits by default.
    #[must_use]
    pub const fn new() -> Self {
        Self { largest_read: LARGEST_READ }
    }

    /// The same, with another limit of how many bytes `fs.read` gives at once. The host holds them before the script does,
    /// whose [memory](frame_dispatch::lua::LuaConfig::memory) they then count against. Default: 16 MiB.
    #[must_use]
    pub const fn with_largest_read(mut self, bytes: u64) -> Self {
        self.largest_read = bytes;
        self
    }
}

impl Default for FsModule {
    fn default() -> Self {
        Self::new()
    }
}

impl LuaModule for FsModule {
    fn name(&self) -> &'static str {
        "fs"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        self.install_reading(module)?;
        Self::install_writing(module)
    }
}

impl FsModule {
    fn install_reading(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let largest = self.largest_read;
        module.async_function("read", move |ctx: CallContext, (path, offset, length): ReadArguments| {
            let part = Part { offset: offset.unwrap_or(0), length, largest };
            run(&ctx, Access::Read, move |root| operation::read(root, &path.path()?, part))
        })?;
        module.async_function("list", |ctx: CallContext, path: Option<Given>| {
            run(&ctx, Access::Read, move |root| operation::list(root, &path.unwrap_or_default().path()?))
        })?;
        module.async_function("stat", |ctx: CallContext, path: Given| {
            run(&ctx, Access::Read, move |root| operation::stat(root, &path.path()?))
        })?;
        module.async_function("exists", |ctx: CallContext, path: Given| {
            run(&ctx, Access::Read, move |root| operation::exists(root, &path.path()?))
        })
    }

    fn install_writing(module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        module.async_function("write", |ctx: CallContext, (path, data): (Given, Bytes)| {
            run(&ctx, Access::Write, move |root| operation::write(root, &path.path()?, &data.0))
        })?;
        module.async_function("append", |ctx: CallContext, (path, data): (Given, Bytes)| {
            run(&ctx, Access::Write, move |root| operation::append(root, &path.path()?, &data.0))
        })?;
        module.async_function("mkdir", |ctx: CallContext, path: Given| {
            run(&ctx, Access::Write, move |root| operation::mkdir(root, &path.path()?))
        })?;
        module.async_function("remove", |ctx: CallContext, path: Given| {
            run(&ctx, Access::Write, move |root| operation::remove(root, &path.path()?))
        })?;
        module.async_function("rename", |ctx: CallContext, (from, to): (Given, Given)| {
            run(&ctx, Access::Write, move |root| operation::rename(root, &from.path()?, &to.path()?))
        })
    }
}

/// A path, where to begin, and how many bytes.
type ReadArguments = (Given, Option<u64>, Option<u64>);

/// Does something in the root of a call, on a thread that may block.
fn run<T, F>(
    ctx: &CallContext,
    access: Access,
    operation: F,
) -> impl Future<Output = mlua::Result<T>> + Send + 'static + use<T, F>
where
    T: Send + 'static,
    F: FnOnce(&Root) -> Result<T, CallError> + Send + 'static,
{
    let (root, unit) = (root(ctx, access), unit_of(ctx.frame()));
    async move {
        let root = root.map_err(mlua::Error::external)?;
        units::run_file_operation(unit, move || operation(&root)).await.map_err(mlua::Error::external)
    }
}

/// A file that is being opened.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<OpenFile, CallError>> + Send>>;

/// A file in the root of a call, open for another module. It counts as a connection of the unit.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: tokio::fs::File,
    /// How many bytes it had when it was opened.
    pub(super) length: u64,
    path: BeneathRoot,
    _reserved: Reserved,
}

impl OpenFile {
    /// What a script is told where reading or writing it has failed.
    pub(super) fn failed(&self, error: io::Error) -> CallError {
        failed(&self.path, error)
    }
}

impl AsyncRead for OpenFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(context, buffer)
    }
}

/// Opens a file in the root of a call, to be read or written piece by piece. One that is written is made, or emptied.
pub(super) fn open(
    ctx: &CallContext,
    path: Given,
    access: Access,
) -> impl Future<Output = Result<OpenFile, CallError>> + Send + 'static + use<> {
    let reserved = frame_net::reserve(ctx.frame(), ctx.app());
    let reserved = reserved.map_err(|limit| CallError::new(ErrorKind::Exhausted, limit.to_string()));
    let opening = root(ctx, access).and_then(|root| Ok((root, path.path()?, reserved?)));
    let unit = unit_of(ctx.frame());
    async move {
        let (root, path, reserved) = opening?;
        let opened = units::run_file_operation(unit, move || {
            operation::open(&root, &path, access).map(|(file, length)| (file, length, path))
        });
        let (file, length, path) = opened.await?;
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(BUFFER);
        Ok(OpenFile { file, length, path, _reserved: reserved })
    }
}

fn root(ctx: &CallContext, access: Access) -> Result<Root, CallError> {
    let denied = |message| CallError::new(ErrorKind::Denied, message);
    match ctx.frame().get(&FS_ROOT_KEY) {
        None => Err(denied("this call has no file system; give it the option `fs_root`")),
        Some(root) if access == Access::Write && root.is_read_only() => Err(denied(
            "the file system of this call is read-only; give it an `fs_root` that is not, if its caller has one",
        )),
        Some(root) => Ok(root.clone()),
    }
}
