//! Directories of WASI, from the directory of the frame.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::fs::FileTimes;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use cap_fs_ext::{DirExt as _, FileTypeExt as _, FollowSymlinks, OpenOptionsFollowExt as _, SystemTimeSpec};
use cap_std::fs::{DirEntry, OpenOptions, ReadDir};
use frame_dispatch::CallError;
use frame_dispatch::wasm::wasmtime::StoreContextMut;
use frame_dispatch::wasm::wasmtime::component::{Linker, Resource, ResourceType};
use frame_dispatch::wasm::wasmtime_wasi::filesystem::{
    Descriptor, Dir, File, WasiFilesystemCtxView, WasiFilesystemView as _,
};
use frame_dispatch::wasm::wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, DirectoryEntry, ErrorCode, HostDescriptor as _, NewTimestamp, OpenFlags,
    PathFlags,
};
use frame_dispatch::wasm::wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsResult};
use frame_dispatch::wasm::wasmtime_wasi::{FsPerms, OpenMode};
use frame_dispatch::wasm::{GuestState, HostModule, wasmtime};
use frame_net::Reserved;

use crate::files::{self, OpenError, Opened};
use crate::fs_root::FS_ROOT_KEY;

/// What the linker of wasmtime has these under. Under any other version they would be beside its own and not in their
/// place, and components would be given no directory.
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";
const TYPES: &str = "wasi:filesystem/types@0.2.12";

/// How many files and directories a call has open at once. Those of a unit count as its connections do.
const MOST_OPEN: usize = 128;

/// How many streams of files a call has at once. The host holds up to 64 KiB of each: what was read and not taken, or written and
/// not on its way. Those are 16 MiB.
const MOST_STREAMS: usize = 256;

/// How many entries of a directory are read at once.
const BATCH: usize = 64;

/// How many bytes of the host's memory a list of a directory counts as: what the system has given of it at once, and
/// [`BATCH`] names.
const LISTING: usize = 64 << 10;

/// Gives components the [root](crate::fs_root) of the call that runs as their one directory, `/`: what is built with a
/// standard library finds its files there, by absolute paths as by relative ones. A call without a root has none.
///
/// It is the open directory of the frame itself, and no path of the machine is looked up. What components open in it are
/// files and directories, none of them outside, and neither devices nor pipes nor sockets; of a root that is read-only
/// they write nothing. A call has no more than 128 of them open at once, and no more than 256 streams of files, and is told
/// `insufficient-memory` if it wants more.
///
/// There is no quota: what components write is bounded by the file system. A directory is read a few entries at a time, as
/// the component asks for them, and counts as one more open directory while it is read. What a component has handles of is
/// bounded by [`host_memory`](frame_dispatch::wasm::WasmConfig::host_memory), of which a list of a directory counts 64 KiB.
///
/// ```
/// use frame_dispatch::wasm::WasmEngine;
/// use frame_runtime::modules::wasm::FsModule;
///
/// let engine = WasmEngine::builder().module(FsModule::new()).build()?;
/// # Ok::<(), frame_dispatch::wasm::WasmError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct FsModule(());

impl FsModule {
    /// It has nothing to be set.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

/// In the place of what wasmtime has: it takes directories by their paths only, and opens whatever it finds as it is, so
/// that a pipe holds a thread of the host up for ever; and it reads the whole of a directory into the memory of the host.
/// All else is done by what wasmtime has.
impl HostModule for FsModule {
    fn link(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        let directories =
            |mut store: StoreContextMut<'_, GuestState>, (): ()| Ok((directories(store.data_mut())?,));
        linker.instance(PREOPENS)?.func_wrap("get-directories", directories)?;
        let mut types = linker.instance(TYPES)?;
        types.func_wrap_async(
            "[method]descriptor.open-at",
            |mut store: StoreContextMut<'_, GuestState>, arguments: OpenAt| {
                Box::new(async move { Ok((open_at(store.data_mut(), arguments).await?,)) })
            },
        )?;
        types.func_wrap_async(
            "[method]descriptor.set-times-at",
            |mut store: StoreContextMut<'_, GuestState>, arguments: SetTimesAt| {
                Box::new(async move { Ok((set_times_at(store.data_mut(), arguments).await?,)) })
            },
        )?;
        types.func_wrap(
            "[method]descriptor.read-via-stream",
            |mut store: StoreContextMut<'_, GuestState>, (file, offset): (Resource<Descriptor>, u64)| {
                let open = |mut host: WasiFilesystemCtxView<'_>| host.read_via_stream(file, offset);
                Ok((stream::<DynInputStream>(store.data_mut(), open)?,))
            },
        )?;
        types.func_wrap(
            "[method]descriptor.write-via-stream",
            |mut store: StoreContextMut<'_, GuestState>, (file, offset): (Resource<Descriptor>, u64)| {
                let open = |mut host: WasiFilesystemCtxView<'_>| host.write_via_stream(file, offset);
                Ok((stream::<DynOutputStream>(store.data_mut(), open)?,))
            },
        )?;
        types.func_wrap(
            "[method]descriptor.append-via-stream",
            |mut store: StoreContextMut<'_, GuestState>, (file,): (Resource<Descriptor>,)| {
                let open = |mut host: WasiFilesystemCtxView<'_>| host.append_via_stream(file);
                Ok((stream::<DynOutputStream>(store.data_mut(), open)?,))
            },
        )?;
        types.resource("directory-entry-stream", ResourceType::host::<Listing>(), |mut store, rep| {
            store.data_mut().table().delete(Resource::<Listing>::new_own(rep))?;
            Ok(())
        })?;
        types.func_wrap_async(
            "[method]descriptor.read-directory",
            |mut store: StoreContextMut<'_, GuestState>, (descriptor,): (Resource<Descriptor>,)| {
                Box::new(async move { Ok((read_directory(store.data_mut(), &descriptor).await?,)) })
            },
        )?;
        types.func_wrap_async(
            "[method]directory-entry-stream.read-directory-entry",
            |mut store: StoreContextMut<'_, GuestState>, (listing,): (Resource<Listing>,)| {
                Box::new(async move { Ok((read_directory_entry(store.data_mut(), &listing).await?,)) })
            },
        )
    }

    fn prepare(&self, state: &mut GuestState) -> Result<(), CallError> {
        state.weigh_with(weight);
        Ok(())
    }
}

/// How many bytes a resource takes beside its handle.
fn weight(resource: &dyn Any) -> usize {
    if resource.is::<Listing>() { LISTING } else { 0 }
}

type OpenAt = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
type SetTimesAt = (Resource<Descriptor>, PathFlags, String, NewTimestamp, NewTimestamp);

/// What a call has open.
#[derive(Default)]
struct Handles {
    /// That of the root, for as long as the call lasts.
    root: Option<Dir>,
    others: Vec<(Weak<std::fs::File>, Reserved)>,
    /// Those that are being listed, which have a descriptor more.
    listed: Vec<(Weak<()>, Reserved)>,
    /// The handles of streams. Another stream may have the number of one that was dropped, and counts in its place.
    streams: HashSet<u32>,
}

impl Handles {
    fn has_room(&mut self) -> bool {
        self.others.retain(|(handle, _)| handle.strong_count() > 0);
        self.listed.retain(|(listing, _)| listing.strong_count() > 0);
        self.others.len() + self.listed.len() < MOST_OPEN
    }

    fn add(&mut self, descriptor: &Descriptor, reserved: Reserved) {
        let handle = match descriptor {
            Descriptor::File(file) => &file.file,
            Descriptor::Dir(directory) => &directory.dir,
        };
        self.others.push((Arc::downgrade(handle), reserved));
    }
}

fn directories(state: &mut GuestState) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
    let Some(root) = state.ctx().frame().get(&FS_ROOT_KEY).cloned() else { return Ok(Vec::new()) };
    let (handles, table) = state.slot_and_table::<Handles>();
    let directory = if let Some(directory) = &handles.root {
        directory.clone()
    } else {
        let handle = root.directory().try_clone()?.into_std_file();
        let (perms, mode) = if root.is_read_only() {
            (FsPerms::ReadOnly, OpenMode::READ)
        } else {
            (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE)
        };
        handles.root.insert(Dir::new(handle, perms, mode, false)).clone()
    };
    Ok(vec![(table.push(Descriptor::Dir(directory))?, "/".to_owned())])
}

/// Does something in a directory of the guest's, on a thread that may block.
async fn in_directory<T: Send + 'static>(
    directory: Arc<std::fs::File>,
    operation: impl FnOnce(&cap_std::fs::Dir) -> Result<T, OpenError> + Send + 'static,
) -> Result<T, ErrorCode> {
    blocking(move || {
        let directory = cap_std::fs::Dir::from_std_file(directory.try_clone()?);
        operation(&directory)
    })
    .await
}

/// Does something on a thread that may block.
async fn blocking<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, ErrorCode> {
    match tokio::task::spawn_blocking(operation).await {
        Ok(done) => done.map_err(error_code),
        Err(_) => Err(ErrorCode::Io),
    }
}

/// A stream of a file, if the call may have a further one.
fn stream<T: Send + 'static>(
    state: &mut GuestState,
    open: impl FnOnce(WasiFilesystemCtxView<'_>) -> FsResult<Resource<T>>,
) -> wasmtime::Result<Result<Resource<T>, ErrorCode>> {
    let (handles, table) = state.slot_and_table::<Handles>();
    if handles.streams.len() >= MOST_STREAMS {
        handles.streams.retain(|rep| {
            table.get(&Resource::<DynInputStream>::new_borrow(*rep)).is_ok()
                || table.get(&Resource::<DynOutputStream>::new_borrow(*rep)).is_ok()
        });
    }
    if handles.streams.len() >= MOST_STREAMS {
        return Ok(Err(ErrorCode::InsufficientMemory));
    }
    match open(state.filesystem()) {
        Ok(stream) => {
            state.slot::<Handles>().streams.insert(stream.rep());
            Ok(Ok(stream))
        }
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

/// A directory that is being listed.
struct Listing {
    /// What was read and not asked for.
    batch: VecDeque<Result<DirectoryEntry, ErrorCode>>,
    /// The rest, unless it is being read, or the end was reached.
    rest: Option<ReadDir>,
    /// What its descriptor is known by.
    _open: Arc<()>,
}

async fn read_directory(
    state: &mut GuestState,
    descriptor: &Resource<Descriptor>,
) -> wasmtime::Result<Result<Resource<Listing>, ErrorCode>> {
    state.weigh();
    let Descriptor::Dir(directory) = state.table().get(descriptor)?.clone() else {
        return Ok(Err(ErrorCode::NotDirectory));
    };
    if !state.slot::<Handles>().has_room() {
        return Ok(Err(ErrorCode::InsufficientMemory));
    }
    let Ok(reserved) = frame_net::reserve(state.ctx().frame(), state.ctx().app()) else {
        return Ok(Err(ErrorCode::InsufficientMemory));
    };
    let rest = match in_directory(directory.dir, |directory| Ok(directory.entries()?)).await {
        Ok(rest) => rest,
        Err(error) => return Ok(Err(error)),
    };
    let open = Arc::new(());
    let (handles, table) = state.slot_and_table::<Handles>();
    handles.listed.push((Arc::downgrade(&open), reserved));
    Ok(Ok(table.push(Listing { batch: VecDeque::new(), rest: Some(rest), _open: open })?))
}

async fn read_directory_entry(
    state: &mut GuestState,
    listing: &Resource<Listing>,
) -> wasmtime::Result<Result<Option<DirectoryEntry>, ErrorCode>> {
    let this = state.table().get_mut(listing)?;
    if this.batch.is_empty()
        && let Some(mut rest) = this.rest.take()
    {
        let read = blocking(move || {
            let batch: VecDeque<_> = rest.by_ref().take(BATCH).map(entry).collect();
            let is_at_end = batch.len() < BATCH;
            Ok((batch, (!is_at_end).then_some(rest)))
        });
        let (batch, rest) = match read.await {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        let this = state.table().get_mut(listing)?;
        (this.batch, this.rest) = (batch, rest);
    }
    Ok(state.table().get_mut(listing)?.batch.pop_front().transpose())
}

/// An entry as a component sees it.
fn entry(entry: io::Result<DirEntry>) -> Result<DirectoryEntry, ErrorCode> {
    let entry = entry?;
    let found = entry.file_type()?;
    let type_ = if found.is_dir() {
        DescriptorType::Directory
    } else if found.is_symlink() {
        DescriptorType::SymbolicLink
    } else if found.is_file() {
        DescriptorType::RegularFile
    } else if found.is_block_device() {
        DescriptorType::BlockDevice
    } else if found.is_char_device() {
        DescriptorType::CharacterDevice
    } else if found.is_fifo() {
        DescriptorType::Fifo
    } else if found.is_socket() {
        DescriptorType::Socket
    } else {
        DescriptorType::Unknown
    };
    let name = entry.file_name().into_string().map_err(|_| ErrorCode::IllegalByteSequence)?;
    Ok(DirectoryEntry { type_, name })
}

fn error_code(error: OpenError) -> ErrorCode {
    match error {
        OpenError::Outside | OpenError::Special | OpenError::Kernel => ErrorCode::NotPermitted,
        OpenError::System(error) => error.into(),
    }
}

async fn open_at(
    state: &mut GuestState,
    (descriptor, path_flags, path, open_flags, flags): OpenAt,
) -> wasmtime::Result<Result<Resource<Descriptor>, ErrorCode>> {
    let Descriptor::Dir(directory) = state.table().get(&descriptor)?.clone() else {
        return Ok(Err(ErrorCode::NotDirectory));
    };
    let mut opening = match Opening::new(directory.perms, path_flags, open_flags, flags) {
        Ok(opening) => opening,
        Err(refused) => return Ok(Err(refused)),
    };
    if !state.slot::<Handles>().has_room() {
        return Ok(Err(ErrorCode::InsufficientMemory));
    }
    let Ok(reserved) = frame_net::reserve(state.ctx().frame(), state.ctx().app()) else {
        return Ok(Err(ErrorCode::InsufficientMemory));
    };
    let (perms, mode, wants_directory) = (directory.perms, opening.mode, opening.wants_directory);
    let opened = in_directory(directory.dir, move |directory| opening.open(directory, Path::new(&path)));
    let descriptor = match opened.await {
        Ok(Opened::File(_)) if wants_directory => return Ok(Err(ErrorCode::NotDirectory)),
        Ok(Opened::File(file)) => Descriptor::File(File::new(file.into_std(), perms, mode, false)),
        Ok(Opened::Directory(directory)) => {
            Descriptor::Dir(Dir::new(directory.into_std_file(), perms, mode, false))
        }
        Err(error) => return Ok(Err(error)),
    };
    let (handles, table) = state.slot_and_table::<Handles>();
    handles.add(&descriptor, reserved);
    Ok(Ok(table.push(descriptor)?))
}

/// How something is opened.
struct Opening {
    options: OpenOptions,
    mode: OpenMode,
    truncates: bool,
    wants_directory: bool,
}

impl Opening {
    /// As wasmtime reads what the guest says.
    fn new(
        perms: FsPerms,
        path_flags: PathFlags,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> Result<Self, ErrorCode> {
        let syncs = [
            DescriptorFlags::FILE_INTEGRITY_SYNC,
            DescriptorFlags::DATA_INTEGRITY_SYNC,
            DescriptorFlags::REQUESTED_WRITE_SYNC,
        ];
        if syncs.into_iter().any(|sync| flags.contains(sync)) {
            return Err(ErrorCode::Unsupported);
        }
        let creates = open_flags.contains(OpenFlags::CREATE);
        let exclusive = open_flags.contains(OpenFlags::EXCLUSIVE);
        let truncates = open_flags.contains(OpenFlags::TRUNCATE);
        let wants_directory = open_flags.contains(OpenFlags::DIRECTORY);
        if wants_directory && (creates || exclusive || truncates) {
            return Err(ErrorCode::Invalid);
        }
        let writes = creates || truncates || flags.contains(DescriptorFlags::WRITE);
        let reads = flags.contains(DescriptorFlags::READ) || !flags.contains(DescriptorFlags::WRITE);
        if writes && perms.write_not_permitted() {
            return Err(ErrorCode::NotPermitted);
        }
        let mut mode = OpenMode::empty();
        mode.set(OpenMode::READ, reads);
        mode.set(OpenMode::WRITE, writes);
        let follows = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
        let mut options = OpenOptions::new();
        options.read(reads).write(writes).create(creates && !exclusive).create_new(creates && exclusive);
        options.follow(if follows { FollowSymlinks::Yes } else { FollowSymlinks::No });
        Ok(Self { options, mode, truncates, wants_directory })
    }

    fn open(&mut self, directory: &cap_std::fs::Dir, path: &Path) -> Result<Opened, OpenError> {
        let opened = files::open(directory, path, &mut self.options)?;
        // It is known only now that it is a file.
        if let (Opened::File(file), true) = (&opened, self.truncates) {
            file.set_len(0)?;
        }
        Ok(opened)
    }
}

async fn set_times_at(
    state: &mut GuestState,
    (descriptor, path_flags, path, accessed, modified): SetTimesAt,
) -> wasmtime::Result<Result<(), ErrorCode>> {
    let Descriptor::Dir(directory) = state.table().get(&descriptor)?.clone() else {
        return Ok(Err(ErrorCode::NotDirectory));
    };
    if directory.perms.write_not_permitted() {
        return Ok(Err(ErrorCode::NotPermitted));
    }
    let (accessed, modified) = match (time(accessed), time(modified)) {
        (Ok(accessed), Ok(modified)) => (accessed, modified),
        (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
    };
    let follows = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
    let set = in_directory(directory.dir, move |directory| {
        let path = Path::new(&path);
        if !follows {
            let spec = |time: SystemTime| SystemTimeSpec::Absolute(cap_std::time::SystemTime::from_std(time));
            return Ok(directory.set_symlink_times(path, accessed.map(spec), modified.map(spec))?);
        }
        let file = match files::open(directory, path, OpenOptions::new().read(true))? {
            Opened::File(file) => file.into_std(),
            Opened::Directory(directory) => directory.into_std_file(),
        };
        let mut times = FileTimes::new();
        times = accessed.map_or(times, |time| times.set_accessed(time));
        times = modified.map_or(times, |time| times.set_modified(time));
        Ok(file.set_times(times)?)
    });
    Ok(set.await)
}

fn time(given: NewTimestamp) -> Result<Option<SystemTime>, ErrorCode> {
    Ok(match given {
        NewTimestamp::NoChange => None,
        NewTimestamp::Now => Some(SystemTime::now()),
        NewTimestamp::Timestamp(time) => {
            let since = Duration::from_secs(time.seconds)
                .checked_add(Duration::from_nanos(time.nanoseconds.into()))
                .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
            Some(since.ok_or(ErrorCode::Overflow)?)
        }
    })
}
