//! The directory of components.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;

use frame_dispatch::wasm::{WasmConfig, WasmEngine, WasmFunction};
use frame_dispatch::{CallContext, Payload, Task};
use frame_registry::Options;
use frame_runtime::fs_root::Root;
use frame_runtime::modules::lua::FsModule as LuaFsModule;
use frame_runtime::modules::wasm::FsModule;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use super::{GENEROUS, SECRET, World, id};

static GUEST: LazyLock<WasmFunction> = LazyLock::new(|| {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/modules/guests/fs");
    let component = frame_guests::component_of(&wit, include_str!("../guests/fs/fs.wat"));
    let engine = WasmEngine::builder().module(FsModule::new()).instances(16).build().unwrap();
    engine.function(&component, WasmConfig::default()).unwrap()
});

// Error codes of `wasi:filesystem`, as the guest shows them: `A` and the number.
const INSUFFICIENT_MEMORY: &str = "!W";
const NOT_DIRECTORY: &str = "!Y";
const NOT_PERMITTED: &str = "!`";
const NO_ENTRY: &str = "!U";

/// What the guest gives for a payload, with a preset root.
async fn ask_with(world: &World, root: Option<Json>, payload: &str) -> Vec<u8> {
    let name = id("app:guest");
    let preset = root.map_or_else(|| json!({}), |root| json!({ "fs_root": root }));
    world.functions.unregister(&name);
    world.functions.register(name.clone(), Options::from_json(&preset).unwrap(), GUEST.clone()).unwrap();
    let root = world.functions.root();
    let call = root.call(Task::new(name).with_payload(payload.as_bytes().to_vec()));
    match timeout(GENEROUS, call).await.expect("it ends in time").unwrap() {
        Payload::Bytes(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

async fn ask(world: &World, payload: &str) -> String {
    String::from_utf8(ask_with(world, Some(json!("room")), payload).await).unwrap()
}

#[tokio::test]
async fn a_component_has_the_root_of_its_frame_and_no_other_directory() {
    let world = World::new();
    assert_eq!(ask(&world, "n").await, "/");
    assert_eq!(ask_with(&world, None, "n").await, b"-");
    assert_eq!(ask_with(&world, None, "rinside.txt").await, b"-");
    assert_eq!(ask(&world, "rinside.txt").await, "inside");
    assert_eq!(ask(&world, "wnew\nsome text").await, "ok");
    assert_eq!(ask(&world, "wnew\nless").await, "ok");
    assert_eq!(fs::read_to_string(world.room("new")).unwrap(), "less");
    assert_eq!(ask(&world, "tnew").await, "ok");
    assert_eq!(ask(&world, "t.").await, "ok");
    assert_eq!(ask(&world, "mnew\nmoved").await, "ok");
    assert_eq!(ask(&world, "umoved").await, "ok");
    assert_eq!(ask(&world, "rmoved").await, NO_ENTRY);
    assert_eq!(ask(&world, "rinside.txt/x").await, NOT_DIRECTORY);
}

#[tokio::test]
async fn a_component_inherits_the_root_of_the_script_that_calls_it() {
    let world = World::new();
    fs::create_dir(world.room("deeper")).unwrap();
    fs::write(world.room("deeper/inside.txt"), "deeper").unwrap();
    world.functions.register(id("app:guest"), Options::new(), GUEST.clone()).unwrap();
    let call = |options: &str| format!("return {{ call('app:guest', bytes('rinside.txt'), {options}) }}");
    assert_eq!(world.run(&call("nil")).await.unwrap(), json!(["inside"]));
    assert_eq!(world.run(&call("{ fs_root = 'deeper' }")).await.unwrap(), json!(["deeper"]));
    assert_eq!(world.run_with(&call("nil"), json!({})).await.unwrap(), json!(["-"]));
}

#[tokio::test]
async fn a_component_writes_nothing_into_a_root_that_is_read_only() {
    let world = World::new();
    let read_only = json!({ "path": "room", "read_only": true });
    for payload in
        ["winside.txt\nx", "wnew\nx", "tinside.txt", "sinside.txt\nlink", "minside.txt\nmoved", "uinside.txt"]
    {
        let given = ask_with(&world, Some(read_only.clone()), payload).await;
        assert_eq!(String::from_utf8_lossy(&given), NOT_PERMITTED, "{payload}");
    }
    assert_eq!(ask_with(&world, Some(read_only), "rinside.txt").await, b"inside");
    assert_eq!(fs::read_dir(world.room("")).unwrap().count(), 1);
}

#[tokio::test]
async fn no_path_of_a_component_leads_out() {
    let world = World::new();
    fs::create_dir_all(world.room("a/b")).unwrap();
    symlink("../../outside", world.room("door")).unwrap();
    symlink(world.outside("secret.txt"), world.room("absolute")).unwrap();
    symlink("b", world.room("a/symlink")).unwrap();
    symlink("/proc/self/root", world.room("top")).unwrap();
    let absolute = world.outside("secret.txt");
    for path in [
        "..",
        "../../outside/secret.txt",
        "a/../../../outside/secret.txt",
        absolute.to_str().unwrap(),
        "door/secret.txt",
        "absolute",
        "a/symlink/../../../../outside/secret.txt",
        "top/etc/passwd",
    ] {
        for payload in ["rPATH", "wPATH\nx", "tPATH", "minside.txt\nPATH/x", "mPATH/secret.txt\nstolen"] {
            let given = ask(&world, &payload.replace("PATH", path)).await;
            assert!(given.starts_with('!') && given.len() == 2, "{payload} of {path}: {given}");
        }
        assert_eq!(ask(&world, &format!("r{path}")).await, NOT_PERMITTED, "{path}");
    }
    // It can make links that lead out, but neither absolute ones, nor follow them.
    assert_eq!(ask(&world, "s/etc/passwd\nmade").await, NOT_PERMITTED);
    assert_eq!(ask(&world, "s../../outside/secret.txt\nmade").await, "ok");
    assert_eq!(ask(&world, "rmade").await, NOT_PERMITTED);
    assert_eq!(ask(&world, "wmade\nx").await, NOT_PERMITTED);
    world.assert_outside_untouched();
}

#[tokio::test]
async fn a_component_does_not_keep_as_many_lists_of_the_host_as_it_likes() {
    let world = World::new();
    for _ in 0..3 {
        let given = ask_with(&world, Some(json!("room")), "d").await;
        assert_eq!((given[0], given[1]), (128, INSUFFICIENT_MEMORY.as_bytes()[1]), "as many each call");
    }
}

/// The host holds what was read of each and not taken.
#[tokio::test]
async fn a_component_has_a_bounded_number_of_streams_of_a_file() {
    let world = World::new();
    for _ in 0..3 {
        let given = ask_with(&world, Some(json!("room")), "vinside.txt").await;
        assert_eq!((given[0], given[1]), (0, INSUFFICIENT_MEMORY.as_bytes()[1]), "as many each call");
    }
}

#[tokio::test]
async fn a_list_of_a_directory_has_each_entry_once_and_what_it_is() {
    let world = World::new();
    fs::remove_file(world.room("inside.txt")).unwrap();
    assert_eq!(ask(&world, "l").await, "", "it is empty");
    for number in 0..1_000 {
        fs::write(world.room(&format!("file-{number}")), "").unwrap();
    }
    // As many as are read at once, and one more.
    fs::create_dir(world.room("directory")).unwrap();
    symlink("file-1", world.room("link")).unwrap();
    mknodat(CWD, world.room("pipe"), FileType::Fifo, Mode::from(0o666), 0).unwrap();
    let given = ask(&world, "l").await;
    let mut seen: Vec<_> = given.lines().collect();
    seen.sort_unstable();
    // `D`, `E`, `F` and `G` are a directory, a pipe, a symbolic link and a regular file.
    let mut expected: Vec<_> = (0..1_000).map(|number| format!("Gfile-{number}")).collect();
    expected.extend(["Ddirectory", "Flink", "Epipe"].map(str::to_owned));
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_under_way_leads_no_component_out() {
    let world = World::new();
    fs::create_dir(world.room("door")).unwrap();
    fs::write(world.room("door/secret.txt"), "inside").unwrap();
    symlink("../../outside", world.room("other")).unwrap();
    let (door, other) = (world.room("door"), world.room("other"));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let swapping = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            renameat_with(CWD, &door, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        }
    });
    let mut seen = Vec::new();
    for _ in 0..200 {
        seen.push(ask(&world, "rdoor/secret.txt").await);
        seen.push(ask(&world, "wdoor/new\nx").await);
    }
    stop.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    assert!(seen.iter().all(|seen| !seen.contains(SECRET)), "{seen:?}");
    world.assert_outside_untouched();
}

#[tokio::test]
async fn the_directory_of_a_component_is_the_one_of_its_frame_wherever_that_was_moved() {
    let world = World::new();
    let (room, attic) = (world.room(""), world.directory.path().join("attic"));
    world.functions.register(id("app:guest"), Options::new(), GUEST.clone()).unwrap();
    let moves = move |ctx: CallContext, payload: Payload| {
        fs::rename(&room, &attic).unwrap();
        fs::create_dir(&room).unwrap();
        fs::write(room.join("inside.txt"), "of somebody else").unwrap();
        async move { ctx.call(Task::new(id("app:guest")).with_payload(payload)).await }
    };
    let preset = Options::from_json(&json!({ "fs_root": "room" })).unwrap();
    world.functions.register(id("app:moves"), preset, moves).unwrap();
    let task = Task::new(id("app:moves")).with_payload(b"rinside.txt".to_vec());
    assert_eq!(world.functions.root().call(task).await.unwrap(), Payload::from(b"inside".to_vec()));
}

#[tokio::test]
async fn devices_and_pipes_are_no_files_of_components_and_hold_nothing_up() {
    let world = World::new();
    mknodat(CWD, world.room("pipe"), FileType::Fifo, Mode::from(0o666), 0).unwrap();
    for payload in ["rpipe", "wpipe\nx", "tpipe"] {
        assert_eq!(ask(&world, payload).await, NOT_PERMITTED, "{payload}");
    }
    let dev =
        World::with(tempfile::tempdir().unwrap(), Some(Root::open("/dev").unwrap()), LuaFsModule::new());
    for payload in ["rzero", "rnull", "wnull\nx"] {
        let given = ask_with(&dev, Some(json!(".")), payload).await;
        assert_eq!(String::from_utf8_lossy(&given), NOT_PERMITTED, "{payload}");
    }
}

#[tokio::test]
async fn a_component_has_a_bounded_number_of_files_open() {
    let world = World::new();
    for _ in 0..3 {
        let given = ask_with(&world, Some(json!("room")), "oinside.txt").await;
        assert_eq!((given[0], given[1]), (128, INSUFFICIENT_MEMORY.as_bytes()[1]), "as many each call");
    }
}
