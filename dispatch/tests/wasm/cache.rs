//! Compiled components on disk: whatever is in the directory, the component runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use frame_dispatch::wasm::{ComponentLimits, WasmConfig, WasmEngine, WasmError};
use frame_registry::Options;
use serde_json::json;

use crate::common::{call, functions, id};

/// A directory that is removed behind the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("frame-wasm-{}-{number}", std::process::id())))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    /// The files in it.
    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn file(&self) -> PathBuf {
        let [file] = self.files().try_into().expect("one file");
        file
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn engine(directory: &Directory) -> WasmEngine {
    WasmEngine::builder().instances(2).cache(directory.path()).build().unwrap()
}

/// That an engine with this cache runs a component.
async fn assert_runs(directory: &Directory) {
    let echo = engine(directory).function(&frame_guests::guest("echo"), WasmConfig::default()).unwrap();
    let functions = functions();
    functions.register(id("app:echo"), Options::new(), echo).unwrap();
    assert_eq!(call(&functions, "app:echo", json!([1])).await.unwrap(), json!([1]).into());
}

#[tokio::test]
async fn a_component_is_compiled_once() {
    let directory = Directory::new();
    assert_runs(&directory).await;
    let file = directory.file();
    let written = fs::metadata(&file).unwrap();
    assert_runs(&directory).await;
    let read = fs::metadata(directory.file()).unwrap();
    assert_eq!(written.modified().unwrap(), read.modified().unwrap(), "it was not written again");
}

#[tokio::test]
async fn another_component_has_another_file() {
    let directory = Directory::new();
    let engine = engine(&directory);
    for name in ["echo", "frame", "echo"] {
        engine.function(&frame_guests::guest(name), WasmConfig::default()).unwrap();
    }
    assert_eq!(directory.files().len(), 2);
}

#[tokio::test]
async fn a_file_that_is_not_as_it_was_written_is_replaced() {
    let directory = Directory::new();
    assert_runs(&directory).await;
    let file = directory.file();
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    let mut wrong_checksum = whole.clone();
    wrong_checksum[20] ^= 1;
    let longer = [&whole[..], b"more"].concat();
    let broken: [&[u8]; 7] =
        [b"", b"something else", &whole[..30], &whole[..whole.len() - 1], &damaged, &wrong_checksum, &longer];
    for broken in broken {
        fs::write(&file, broken).unwrap();
        assert_runs(&directory).await;
        // What is compiled need not be the same to the last byte.
        let anew = fs::read(directory.file()).unwrap();
        assert_ne!(anew, broken);
        assert_runs(&directory).await;
        assert_eq!(fs::read(directory.file()).unwrap(), anew, "it is used again");
    }
}

/// The key that a file is kept under, which is its name.
fn key(file: &Path) -> Vec<u8> {
    let name = file.file_stem().unwrap().to_str().unwrap();
    (0..name.len()).step_by(2).map(|at| u8::from_str_radix(&name[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test]
async fn code_of_another_component_under_the_name_is_not_run() {
    let (directory, other) = (Directory::new(), Directory::new());
    assert_runs(&directory).await;
    engine(&other).function(&frame_guests::guest("frame"), WasmConfig::default()).unwrap();
    let file = directory.file();
    fs::copy(other.file(), &file).unwrap();
    assert_runs(&directory).await;
    assert_ne!(fs::read(&file).unwrap(), fs::read(other.file()).unwrap(), "it was replaced");
}

#[test]
fn a_component_that_other_limits_refuse_is_refused_though_it_is_kept() {
    let directory = Directory::new();
    let component = frame_guests::guest("echo");
    engine(&directory).function(&component, WasmConfig::default()).unwrap();
    let limits = ComponentLimits::default().with_functions(1);
    let builder = WasmEngine::builder().instances(2).cache(directory.path()).component_limits(limits);
    let refused = builder.build().unwrap().function(&component, WasmConfig::default()).unwrap_err();
    assert!(matches!(refused, WasmError::TooComplex { setting: "functions", .. }), "{refused}");
}

#[test]
fn what_a_killed_program_left_is_removed_after_an_hour() {
    let directory = Directory::new();
    drop(engine(&directory));
    let make = |name: &str, age: Duration| {
        let path = directory.path().join(name);
        fs::write(&path, "half").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        path
    };
    let (hours, minutes) = (Duration::from_hours(2), Duration::from_mins(50));
    let abandoned = make(".4711-0.temporary", hours);
    let kept = [make(".1-0.temporary", minutes), make("other", hours), make("old.component", hours)];
    engine(&directory).function(&frame_guests::guest("echo"), WasmConfig::default()).unwrap();
    assert!(!abandoned.exists());
    assert!(kept.iter().all(|path| path.exists()), "{:?}", directory.files());
}

/// Opening a pipe without a writer would not return.
#[cfg(unix)]
#[tokio::test]
async fn a_pipe_in_the_place_of_a_file_is_replaced() {
    use std::os::unix::ffi::OsStrExt;

    let directory = Directory::new();
    assert_runs(&directory).await;
    let file = directory.file();
    fs::remove_file(&file).unwrap();
    let path = std::ffi::CString::new(file.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string that ends with a zero, and outlives the call.
    #[allow(unsafe_code)]
    let made = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
    assert_eq!(made, 0);
    assert_runs(&directory).await;
    assert!(fs::symlink_metadata(directory.file()).unwrap().is_file(), "it was replaced");
}

/// Whole, and with the right checksum, but not of this compiler.
#[tokio::test]
async fn a_file_of_another_compiler_is_replaced() {
    use sha2::{Digest, Sha256};

    let directory = Directory::new();
    assert_runs(&directory).await;
    let file = directory.file();
    let mut content = fs::read(&file).unwrap();
    let key = key(&file);
    let (head, code) = content.split_at_mut(48);
    let version = code
        .windows(7)
        .position(|window| window == b"48.0.8\0")
        .or_else(|| code.windows(2).position(|window| window == b"48"));
    let at = version.expect("it says of which version it is");
    code[at..at + 2].copy_from_slice(b"47");
    head[16..].copy_from_slice(&Sha256::new().chain_update(key).chain_update(&*code).finalize());
    fs::write(&file, &content).unwrap();
    assert_runs(&directory).await;
    assert_ne!(fs::read(directory.file()).unwrap(), content);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_or_written_is_no_error() {
    let directory = Directory::new();
    assert_runs(&directory).await;
    let file = directory.file();
    fs::remove_file(&file).unwrap();
    // In its place there is a directory, which can be neither.
    fs::create_dir(&file).unwrap();
    assert_runs(&directory).await;
    assert_eq!(directory.files(), [file], "nothing is left lying about");
}

#[test]
fn many_at_once_write_whole_files() {
    let directory = Directory::new();
    let guests = ["echo", "frame", "log", "call"].map(frame_guests::guest);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let engine = engine(&directory);
                for guest in &guests {
                    engine.function(guest, WasmConfig::default()).unwrap();
                }
            });
        }
    });
    assert_eq!(directory.files().len(), guests.len(), "{:?}", directory.files());
}

#[cfg(unix)]
#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    let refused = |path: &Path| {
        let error = WasmEngine::builder().instances(1).cache(path).build().unwrap_err();
        assert!(matches!(error, WasmError::Cache { .. }));
        error.to_string()
    };
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();

    let directory = Directory::new();
    drop(engine(&directory));
    assert_eq!(fs::metadata(directory.path()).unwrap().mode() & 0o777, 0o700, "it is made for us alone");

    for mode in [0o777, 0o770, 0o702, 0o1777] {
        chmod(directory.path(), mode);
        let reason = refused(directory.path());
        assert!(reason.contains(&format!("others may write to it, its mode is {mode:o}")), "{reason}");
    }
    // A directory inside it can be moved away by the same others.
    chmod(directory.path(), 0o700);
    let inside = directory.path().join("inside");
    fs::create_dir(&inside).unwrap();
    chmod(directory.path(), 0o777);
    let reason = refused(&inside);
    assert!(reason.contains("of its parent"), "{reason}");

    // A link leads where it leads.
    chmod(directory.path(), 0o700);
    let link = directory.path().join("link");
    symlink(&inside, &link).unwrap();
    chmod(&inside, 0o777);
    let reason = refused(&link);
    assert!(reason.contains("others may write to it"), "{reason}");
    chmod(&inside, 0o755);
    drop(WasmEngine::builder().instances(1).cache(&link).build().unwrap());

    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let reason = refused(&file);
    assert!(reason.contains("cannot be made") || reason.contains("no directory"), "{reason}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_others_can_write_to_is_not_run() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let directory = Directory::new();
    assert_runs(&directory).await;
    fs::set_permissions(directory.file(), fs::Permissions::from_mode(0o666)).unwrap();
    assert_runs(&directory).await;
    assert_eq!(fs::metadata(directory.file()).unwrap().mode() & 0o777, 0o600, "it was replaced");
}

/// Nobody but root can give a directory to another user, so elsewhere there is nothing to see.
#[cfg(unix)]
#[test]
fn a_directory_in_a_sticky_one_of_somebody_else_is_refused() {
    use std::os::unix::fs::{PermissionsExt, chown};

    const SOMEBODY: u32 = 12_345;
    let directory = Directory::new();
    let inside = directory.path().join("inside");
    fs::create_dir_all(&inside).unwrap();
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let build = || WasmEngine::builder().instances(1).cache(&inside).build();
    drop(build().unwrap());
    if chown(directory.path(), Some(SOMEBODY), None).is_ok() {
        let reason = build().unwrap_err().to_string();
        assert!(reason.contains("of its parent") && reason.contains("the owner is user 12345"), "{reason}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_in_the_place_of_a_file_is_not_followed() {
    use std::os::unix::fs::symlink;

    let (directory, elsewhere) = (Directory::new(), Directory::new());
    assert_runs(&directory).await;
    assert_runs(&elsewhere).await;
    let file = directory.file();
    fs::remove_file(&file).unwrap();
    symlink(elsewhere.file(), &file).unwrap();
    assert_runs(&directory).await;
    assert!(fs::symlink_metadata(directory.file()).unwrap().is_file(), "it was replaced");
}
