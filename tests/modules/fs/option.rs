//! The option `fs_root`, through functions that call others.

use std::error::Error;

use frame_dispatch::{CallError, ErrorKind};
use frame_registry::{OptionError, Options};
use frame_runtime::fs_root::Root;
use frame_runtime::modules::lua::FsModule;
use serde_json::{Value as Json, json};

use super::World;

/// A room with rooms in it, and functions: `app:names` lists its root, and says whether it can write there;
/// `app:kitchen` is the same with the preset root `kitchen`.
fn house() -> World {
    let world = World::new();
    for path in ["kitchen/kitchen/cupboard", "cellar"] {
        std::fs::create_dir_all(world.room(path)).unwrap();
    }
    std::fs::create_dir(world.directory.path().join("base/kitchen")).unwrap();
    std::os::unix::fs::symlink("../../outside", world.room("door")).unwrap();
    std::os::unix::fs::symlink("cellar", world.room("stairs")).unwrap();
    let names = "local names = {}
         for _, entry in ipairs(fs.list()) do names[#names + 1] = entry.name end
         return { table.concat(names, ' '), (pcall(fs.append, 'written', '')) and fs.remove('written') == nil }";
    world.script("app:names", names, &json!({}));
    world.script("app:kitchen", names, &json!({ "fs_root": "kitchen" }));
    world
}

/// What a script with root `root` gets that calls a function with `options`, which are of Lua.
async fn calls(world: &World, root: Json, function: &str, options: &str) -> Result<Json, CallError> {
    world.run_with(&format!("return call('{function}', nil, {options})"), json!({ "fs_root": root })).await
}

#[tokio::test]
async fn what_is_called_has_the_root_of_its_caller_or_one_inside_it() {
    let world = house();
    let all = json!(["cellar door inside.txt kitchen stairs", true]);
    for options in [
        "nil",
        "{ fs_root = '.' }",
        "{ fs_root = '' }",
        "{ fs_root = {} }",
        "{ fs_root = { read_only = false } }",
    ] {
        assert_eq!(calls(&world, json!("room"), "app:names", options).await.unwrap(), all, "{options}");
    }
    for (options, names) in [
        ("{ fs_root = 'kitchen' }", "kitchen"),
        ("{ fs_root = 'kitchen/kitchen' }", "cupboard"),
        ("{ fs_root = './kitchen//kitchen/' }", "cupboard"),
        ("{ fs_root = { path = 'cellar' } }", ""),
        ("{ fs_root = 'stairs' }", ""),
    ] {
        assert_eq!(
            calls(&world, json!("room"), "app:names", options).await.unwrap(),
            json!([names, true]),
            "{options}"
        );
    }
    let deep = "return call('app:middle', nil, { fs_root = 'kitchen' })";
    world.script("app:middle", "return call('app:names', nil, { fs_root = 'kitchen' })", &json!({}));
    assert_eq!(world.run(deep).await.unwrap(), json!(["cupboard", true]));
}

#[tokio::test]
async fn a_script_cannot_widen_what_it_gives() {
    let world = house();
    for options in [
        "'..'",
        "'../room'",
        "'kitchen/..'",
        "'/'",
        "'/etc'",
        "'a\\0b'",
        "{ path = '..' }",
        "{ path = '' }",
        "{ up = 1 }",
        "3",
        "null",
    ] {
        let error = calls(&world, json!("room"), "app:names", &format!("{{ fs_root = {options} }}")).await;
        let error = error.expect_err(options);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{options}");
        let says_what_to_write = ["write ", "leave it out", "such as", "expected"]
            .iter()
            .any(|word| error.message().contains(word));
        assert!(says_what_to_write, "{options}: {error}");
    }
    for options in ["'door'", "'nowhere'", "'inside.txt'", "'kitchen/cellar'"] {
        let error = calls(&world, json!("room"), "app:names", &format!("{{ fs_root = {options} }}")).await;
        let error = error.expect_err(options);
        assert_eq!(error.kind(), ErrorKind::Denied, "{options}: {error}");
        world.assert_discreet(&error);
    }
    // What is beside or above the caller's root is not there.
    let error = calls(&world, json!("room/cellar"), "app:names", "{ fs_root = 'room' }").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn read_only_sticks() {
    let world = house();
    let read_only = json!({ "path": "room", "read_only": true });
    for options in [
        "nil",
        "{ fs_root = '.' }",
        "{ fs_root = { read_only = false } }",
        "{ fs_root = { path = 'kitchen', read_only = false } }",
    ] {
        let seen = calls(&world, read_only.clone(), "app:names", options).await.unwrap();
        assert_eq!(seen[1], json!(false), "{options}");
    }
    let seen = calls(&world, read_only, "app:kitchen", "nil").await.unwrap();
    assert_eq!(seen, json!(["kitchen", false]), "a preset does not take it away");
    let seen = calls(&world, json!("room"), "app:names", "{ fs_root = { read_only = true } }").await.unwrap();
    assert_eq!(seen[1], json!(false), "a script can add it");
}

#[tokio::test]
async fn a_preset_is_inside_the_root_of_the_caller() {
    let world = house();
    assert_eq!(world.call("app:kitchen").await.unwrap(), json!(["", true]), "that of the base");
    let seen = calls(&world, json!("room"), "app:kitchen", "nil").await.unwrap();
    assert_eq!(seen, json!(["kitchen", true]), "that of the room");
    let error = calls(&world, json!("room/cellar"), "app:kitchen", "nil").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "there is none in the cellar");
}

#[tokio::test]
async fn a_script_cannot_put_another_in_the_place_of_a_preset() {
    let world = house();
    let names = "return { pcall(fs.write, 'written', 'x') }";
    world.script("app:reader", names, &json!({ "fs_root": { "path": "kitchen", "read_only": true } }));
    for options in
        ["'.'", "{}", "'kitchen'", "'cellar'", "{ read_only = true }", "{ path = 'kitchen/kitchen' }"]
    {
        for function in ["app:reader", "app:kitchen"] {
            let error = calls(&world, json!("room"), function, &format!("{{ fs_root = {options} }}")).await;
            let error = error.expect_err(options);
            assert_eq!(error.kind(), ErrorKind::Denied, "{options}: {error}");
            assert!(
                causes(&error).contains("a directory is preset for what was called"),
                "{}",
                causes(&error)
            );
        }
    }
    assert!(!world.room("written").exists() && !world.room("kitchen/written").exists());
    // An empty one is none.
    let seen = calls(&world, json!("room"), "app:kitchen", "{ fs_root = '' }").await.unwrap();
    assert_eq!(seen, json!(["kitchen", true]));
}

#[tokio::test]
async fn a_script_without_a_root_gives_none_but_may_call_what_has_one() {
    let world = house();
    for options in ["'room'", "'.'", "{ read_only = true }"] {
        let source = format!("return call('app:names', nil, {{ fs_root = {options} }})");
        let error = world.run_with(&source, json!({})).await.expect_err(options);
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(
            causes(&error).contains("the caller has no file system, so it has none to give"),
            "{}",
            causes(&error)
        );
        // Nor where what it calls has a preset.
        let error = world.run_with(&source.replace("names", "kitchen"), json!({})).await.expect_err(options);
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    }
    let seen = world.run_with("return call('app:kitchen')", json!({})).await.unwrap();
    assert_eq!(seen, json!(["", true]));
}

#[tokio::test]
async fn a_root_that_cannot_be_had_says_what_to_do() {
    let world = house();
    let nothing = World::with(tempfile::tempdir().unwrap(), None, FsModule::new());
    let error = nothing.run_with("return 1", json!({ "fs_root": "room" })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(causes(&error).contains("`[fs] base = \"data\"`"), "{}", causes(&error));
    for (root, message) in [
        ("no", "there is no directory `no` in the base directory of the app; make it first"),
        ("room/inside.txt", "`room/inside.txt` in the base directory of the app is no directory"),
        ("room/door", "`room/door` leads out of the base directory of the app, by a symbolic link"),
    ] {
        let error = world.run_with("return 1", json!({ "fs_root": root })).await.expect_err(root);
        assert!(causes(&error).contains(message), "{}", causes(&error));
        world.assert_discreet(&error);
    }
}

#[test]
fn text_that_cannot_lead_inside_is_refused_with_what_to_write() {
    for (given, message) in [
        (json!("/etc"), "absolute; write a path below that of the caller"),
        (json!("../x"), "has `..` in it; write a path that only goes down"),
        (json!("a/../b"), "has `..` in it"),
        (json!("a\0b"), "has a NUL in it"),
        (json!({ "path": "" }), "the path is empty; write `.`"),
        (json!("x".repeat(4097)), "has 4097 bytes"),
        (
            json!({ "path": "a", "readonly": true }),
            "unknown field `readonly`, expected `path` or `read_only`",
        ),
        (json!({ "read_only": "yes" }), "expected a boolean"),
        (json!(3), "a path such as \"reports/2026\", or { path = \"reports\", read_only = true }"),
        (json!(null), "a path such as"),
        (json!(["a"]), "a path such as"),
    ] {
        let error = Options::from_json(&json!({ "fs_root": given })).unwrap_err();
        let OptionError::WrongType { option: "fs_root", source, .. } = &error else { panic!("{error}") };
        assert!(source.to_string().contains(message), "{given}: {source}");
    }
}

#[test]
fn a_base_of_the_kernels_own_is_refused() {
    assert_eq!(Root::open("/proc/self").unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    assert!(Root::open("/no/such").is_err() && Root::open("/etc/passwd").is_err());
}

fn causes(error: &CallError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
