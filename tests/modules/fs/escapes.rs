//! Ways out, and what is no file: each is tried from a script.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{ffi::OsString, thread};

use frame_dispatch::{CallContext, ErrorKind, Payload};
use frame_registry::Options;
use frame_runtime::fs_root::Root;
use frame_runtime::modules::lua::FsModule;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use serde_json::json;

use super::{SECRET, World, id};

/// Everything that can be done to one path.
const EACH: [&str; 9] = [
    "fs.read(PATH)",
    "fs.write(PATH, 'x')",
    "fs.append(PATH, 'x')",
    "fs.list(PATH)",
    "fs.stat(PATH)",
    "fs.exists(PATH)",
    "fs.mkdir(PATH)",
    "fs.rename(PATH, 'stolen')",
    "fs.rename('inside.txt', PATH)",
];

fn quoted(path: &str) -> String {
    format!("{path:?}")
}

#[tokio::test]
async fn no_path_goes_up_or_begins_at_the_top() {
    let world = World::new();
    world.run("fs.mkdir('a/b')").await.unwrap();
    let secret = world.outside("secret.txt");
    for path in [
        "..",
        "../",
        "../..",
        "../../outside/secret.txt",
        "a/../../../outside/secret.txt",
        "a/..",
        "a/../a",
        "a/b/../../..",
        "./..",
        ".//../room",
        "/",
        "//",
        "/../outside",
        secret.to_str().unwrap(),
        "/etc/passwd",
        "/proc/self/root",
    ] {
        for operation in EACH.iter().chain(&["fs.remove(PATH)"]) {
            let source = operation.replace("PATH", &quoted(path));
            let error = world.run(&source).await.expect_err(&source);
            assert_eq!(error.kind(), ErrorKind::Denied, "{source}: {error}");
            assert!(!error.message().contains(SECRET));
        }
    }
    world.assert_outside_untouched();
}

#[tokio::test]
async fn no_symbolic_link_leads_out() {
    let world = World::new();
    fs::create_dir_all(world.room("a/b")).unwrap();
    let link = |target: &str, name: &str| symlink(target, world.room(name)).unwrap();
    let absolute = world.outside("secret.txt");
    link("../../outside/secret.txt", "relative");
    link(absolute.to_str().unwrap(), "absolute");
    link("relative", "chain");
    link("../chain", "a/chain");
    link("../../outside", "door");
    link(world.outside("").to_str().unwrap(), "gate");
    link("..", "up");
    link("b", "a/symlink");
    link("../../outside/new", "dangling");
    link("/", "top");
    for path in [
        "relative",
        "absolute",
        "chain",
        "a/chain",
        "door/secret.txt",
        "gate/secret.txt",
        "door/new",
        "up/../outside/secret.txt",
        "up/room/door/secret.txt",
        "a/symlink/../../../../outside/secret.txt",
        "a/symlink/../../relative",
        "dangling",
        "top/etc/passwd",
    ] {
        for operation in EACH {
            // What is done to a link itself stays inside.
            let is_last = !path.contains("door/") && !path.contains("gate/") && !path.contains("top/");
            if is_last
                && !path.contains("..")
                && (operation.contains("rename") || operation.contains("mkdir"))
            {
                continue;
            }
            let source = operation.replace("PATH", &quoted(path));
            world.refused(&source, ErrorKind::Denied).await;
        }
    }
    for directory in ["door", "gate", "up", "top"] {
        world.refused(&format!("fs.list('{directory}')"), ErrorKind::Denied).await;
        world.refused(&format!("fs.mkdir('{directory}/new')"), ErrorKind::Denied).await;
        world.refused(&format!("fs.remove('{directory}/secret.txt')"), ErrorKind::Denied).await;
        world.refused(&format!("fs.rename('inside.txt', '{directory}/x')"), ErrorKind::Denied).await;
    }
    world.assert_outside_untouched();

    let source = "for _, link in ipairs { 'relative', 'absolute', 'door', 'dangling' } do fs.remove(link) end
         return { fs.read('inside.txt'), #fs.list('a/symlink') }";
    assert_eq!(
        world.run(source).await.unwrap(),
        json!(["inside", 0]),
        "links are removed, and followed inside"
    );
    world.assert_outside_untouched();
}

/// One thread has a name be a directory inside and a link out, by turns; a script goes through it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_under_way_never_leads_out() {
    let world = World::new();
    fs::create_dir(world.room("door")).unwrap();
    fs::write(world.room("door/secret.txt"), "inside").unwrap();
    symlink("../../outside", world.room("other")).unwrap();
    let (door, other) = (world.room("door"), world.room("other"));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let swapping = thread::spawn(move || {
        let mut swaps = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            renameat_with(CWD, &door, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            swaps += 1;
        }
        swaps
    });
    let source = "local seen = { inside = 0, denied = 0 }
         for _ = 1, 1500 do
           local ok, got = pcall(fs.read, 'door/secret.txt')
           local what = ok and got or got.kind
           seen[what] = (seen[what] or 0) + 1
           pcall(fs.write, 'door/new', 'x')
           pcall(fs.remove, 'door/new')
           pcall(fs.mkdir, 'door/directory')
           pcall(fs.rename, 'door/directory', 'door/elsewhere')
           pcall(fs.remove, 'door/elsewhere')
           pcall(fs.list, 'door')
         end
         return seen";
    let seen = world.run(source).await;
    stop.store(true, Ordering::Relaxed);
    let swaps = swapping.join().unwrap();
    let seen = seen.unwrap();
    assert!(seen.as_object().unwrap().keys().all(|what| what == "inside" || what == "denied"), "{seen}");
    assert!(swaps > 0, "{swaps} swaps, {seen}");
    world.assert_outside_untouched();
}

#[tokio::test]
async fn a_root_is_the_directory_and_not_its_name() {
    let world = World::new();
    let (room, attic) = (world.room(""), world.directory.path().join("attic"));
    let moves = move |_: CallContext, _: Payload| {
        fs::rename(&room, &attic).unwrap();
        fs::create_dir(&room).unwrap();
        fs::write(room.join("inside.txt"), "of somebody else").unwrap();
        async { Ok(Payload::from(json!(null))) }
    };
    world.functions.register(id("app:moves"), Options::new(), moves).unwrap();
    let source = "local before = fs.read('inside.txt')
         call('app:moves')
         fs.write('written', 'x')
         return { before, fs.read('inside.txt'), #fs.list() }";
    assert_eq!(world.run(source).await.unwrap(), json!(["inside", "inside", 2]));
    assert!(!world.room("written").exists());
    assert_eq!(world.run("return fs.read('inside.txt')").await.unwrap(), "of somebody else", "the next call");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn nothing_leads_into_proc() {
    let world = World::new();
    let links = [
        ("root", "/proc/self/root/etc/passwd"),
        ("cwd", "/proc/self/cwd"),
        ("fd", "/proc/self/fd/0"),
        ("environ", "/proc/self/environ"),
        ("status", "../../../../../../../proc/self/status"),
    ];
    for (name, target) in links {
        symlink(target, world.room(name)).unwrap();
        for operation in ["read", "list", "stat", "exists"] {
            world.refused(&format!("fs.{operation}('{name}')"), ErrorKind::Denied).await;
        }
    }

    // Where the base is above it, too.
    let directory = tempfile::tempdir().unwrap();
    let world = World::with(directory, Some(Root::open("/").unwrap().into_read_only()), FsModule::new());
    for path in ["proc/version", "proc/self/environ", "proc/self/root/etc/passwd", "proc", "sys/kernel"] {
        for operation in ["read", "list", "stat", "exists"] {
            let source = format!("fs.{operation}('{path}')");
            let error = world.run_with(&source, json!({ "fs_root": "." })).await.expect_err(&source);
            let no_directory = operation == "list" && error.kind() == ErrorKind::Invalid;
            assert!(error.kind() == ErrorKind::Denied || no_directory, "{source}: {error}");
        }
    }
    for root in ["proc", "proc/self", "proc/self/root", "proc/self/cwd"] {
        let error = world.run_with("return 1", json!({ "fs_root": root })).await.expect_err(root);
        assert_eq!(error.kind(), ErrorKind::Denied, "{root}: {error}");
    }
}

#[tokio::test]
async fn devices_pipes_and_sockets_are_no_files_and_hold_nothing_up() {
    let world = World::new();
    mknodat(CWD, world.room("pipe"), FileType::Fifo, Mode::from(0o666), 0).unwrap();
    let _socket = UnixListener::bind(world.room("socket")).unwrap();
    symlink("pipe", world.room("link")).unwrap();
    let mut special = vec!["pipe", "socket", "link"];
    // As `/dev/zero`. Not every user may make one.
    match mknodat(
        CWD,
        world.room("device"),
        FileType::CharacterDevice,
        Mode::from(0o666),
        rustix::fs::makedev(1, 5),
    ) {
        Ok(()) => special.push("device"),
        Err(error) => eprintln!("skipped: a device inside the root, which cannot be made: {error}"),
    }
    for name in special {
        for operation in ["fs.read(N)", "fs.write(N, 'x')", "fs.append(N, 'x')", "fs.read(N, 0, 1)"] {
            let source = operation.replace('N', &format!("'{name}'"));
            let error = world.refused(&source, ErrorKind::Denied).await;
            // A device can be refused by a mount before that.
            assert!(name == "device" || error.message().contains("only regular files"), "{source}: {error}");
        }
        let stat =
            world.run(&format!("return {{ fs.stat('{name}').kind, fs.exists('{name}') }}")).await.unwrap();
        assert_eq!(stat, json!(["other", true]), "{name}");
    }
    let listed =
        world.run("for _, e in ipairs(fs.list()) do if e.name == 'pipe' then return e.kind end end").await;
    assert_eq!(listed.unwrap(), "other");

    // Those that are there on every machine.
    let world = World::with(tempfile::tempdir().unwrap(), Some(Root::open("/dev").unwrap()), FsModule::new());
    for name in ["null", "zero", "tty"] {
        let error =
            world.run_with(&format!("fs.read('{name}')"), json!({ "fs_root": "." })).await.expect_err(name);
        assert!(error.kind() == ErrorKind::Denied, "{name}: {error}");
    }
}

#[tokio::test]
async fn names_are_bytes_without_a_nul() {
    let world = World::new();
    for operation in EACH {
        for path in ["'a\\0b'", "'inside.txt\\0'", "'\\0'"] {
            world.refused(&operation.replace("PATH", path), ErrorKind::Invalid).await;
        }
    }
    let name = OsString::from_vec(b"caf\xe9".to_vec());
    if let Err(error) = fs::write(world.room("").join(&name), "latin") {
        eprintln!("skipped: a name that is no UTF-8, which this file system does not take: {error}");
        return;
    }
    let source = "local name = fs.list()[1].name
         fs.write('\\xff', name)
         return { name == 'caf\\xe9', fs.read(name), fs.read('\\xff') == name, #fs.list() }";
    assert_eq!(world.run(source).await.unwrap(), json!([true, "latin", true, 3]));
    let error = world.refused("fs.read('caf\\xe8')", ErrorKind::NotFound).await;
    assert_eq!(error.message(), "\"caf\u{fffd}\" does not exist");
}

#[tokio::test]
async fn very_long_names_and_paths_are_refused_in_a_short_message() {
    let world = World::new();
    for path in ["('x'):rep(256)", "('x'):rep(5000)", "('x/'):rep(2047) .. ('y'):rep(5)", "('a/'):rep(3000)"]
    {
        for operation in ["fs.read(P)", "fs.write(P, '')", "fs.list(P)", "fs.remove(P)", "fs.rename(P, 'x')"]
        {
            let source = operation.replace('P', path);
            let error = world.run(&source).await.expect_err(&source);
            assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound), "{source}: {error}");
            assert!(error.message().len() < 300, "{error}");
        }
    }
    let deep = "fs.mkdir(('a/'):rep(1000)) fs.write(('a/'):rep(1000) .. 'f', 'deep') return fs.read(('a/'):rep(1000) .. 'f')";
    assert_eq!(world.run(deep).await.unwrap(), "deep");
}

/// What a directory contains is inside, whatever other names it has: documented, and so known here.
#[tokio::test]
async fn a_hard_link_is_inside() {
    let world = World::new();
    fs::hard_link(world.outside("secret.txt"), world.room("second name")).unwrap();
    assert_eq!(world.run("return fs.read('second name')").await.unwrap(), SECRET);
}
