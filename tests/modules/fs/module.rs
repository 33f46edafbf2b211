//! What `fs` does for scripts.

use frame_dispatch::ErrorKind;
use frame_runtime::fs_root::Root;
use frame_runtime::modules::lua::FsModule;
use serde_json::json;

use super::World;

#[tokio::test]
async fn a_file_has_the_bytes_that_were_written() {
    let world = World::new();
    let written = world.run(
        "local bytes = ''
         for byte = 0, 255 do bytes = bytes .. string.char(byte) end
         fs.write('all', bytes .. 'more')
         fs.write('all', bytes)
         fs.append('all', 'end')
         fs.append('new', 'first')
         return { fs.read('all') == bytes .. 'end', fs.read('new'), fs.read('inside.txt') }",
    );
    assert_eq!(written.await.unwrap(), json!([true, "first", "inside"]));
    assert_eq!(std::fs::read(world.room("all")).unwrap().len(), 259);
}

#[tokio::test]
async fn a_file_can_be_read_in_parts() {
    let world = World::new();
    let parts = world.run(
        "fs.write('digits', '0123456789')
         return { fs.read('digits', 8), fs.read('digits', 2, 3), fs.read('digits', 9, 100), fs.read('digits', 100),
                  fs.read('digits', 0, 0) }",
    );
    assert_eq!(parts.await.unwrap(), json!(["89", "234", "9", "", ""]));
}

#[tokio::test]
async fn a_directory_lists_what_is_in_it_by_name() {
    let world = World::new();
    let listed = world.run(
        "fs.mkdir('b/c') fs.mkdir('b/c') fs.write('a', '')
         local names = {}
         for _, entry in ipairs(fs.list()) do names[#names + 1] = entry.name .. ' ' .. entry.kind end
         return { names, fs.list('b')[1].name, #fs.list('b/c'), #fs.list('.') }",
    );
    assert_eq!(listed.await.unwrap(), json!([["a file", "b directory", "inside.txt file"], "c", 0, 3]));
}

#[tokio::test]
async fn what_there_is_can_be_asked_moved_and_removed() {
    let world = World::new();
    let source = "local s = fs.stat('inside.txt')
         local out = { s.kind, s.size, s.modified > 1e9, fs.stat('.').kind }
         fs.rename('inside.txt', 'moved') fs.write('other', 'replaced') fs.rename('moved', 'other')
         out[5], out[6] = fs.exists('inside.txt'), fs.read('other')
         fs.mkdir('d') fs.rename('d', 'e') fs.remove('e') fs.remove('other')
         out[7], out[8] = #fs.list(), fs.exists('other/deeper')
         return out";
    assert_eq!(
        world.run(source).await.unwrap(),
        json!(["file", 6, true, "directory", false, "inside", 0, false])
    );
}

#[tokio::test]
async fn what_cannot_be_done_is_a_failed_call_that_says_so() {
    use ErrorKind::{Invalid, NotFound};

    let world = World::new();
    world.run("fs.mkdir('full') fs.write('full/file', '')").await.unwrap();
    for (source, kind, message) in [
        ("fs.read('no/such')", NotFound, "\"no/such\" does not exist"),
        ("fs.stat('no')", NotFound, "\"no\" does not exist"),
        ("fs.list('no')", NotFound, "\"no\" does not exist"),
        ("fs.remove('no')", NotFound, "\"no\" does not exist"),
        ("fs.rename('no', 'other')", NotFound, "\"no\" does not exist"),
        ("fs.rename('inside.txt', 'no/such')", NotFound, "\"no/such\" does not exist"),
        ("fs.write('no/such', '')", NotFound, "\"no/such\" does not exist"),
        ("fs.read('full')", Invalid, "\"full\" is a directory"),
        ("fs.write('full', '')", Invalid, "\"full\" is a directory"),
        ("fs.read('.')", Invalid, "\".\" is a directory"),
        ("fs.list('inside.txt')", Invalid, "\"inside.txt\" is no directory"),
        ("fs.read('inside.txt/x')", Invalid, "\"inside.txt/x\" is no directory, or is in what is none"),
        ("fs.mkdir('inside.txt')", Invalid, "\"inside.txt\" exists already"),
        ("fs.remove('full')", Invalid, "remove what is in it first"),
        ("fs.remove('.')", Invalid, "the root itself"),
        ("fs.rename('.', 'x')", Invalid, "the root itself"),
        ("fs.read('')", Invalid, "the path is empty; `.` is the root"),
    ] {
        let error = world.refused(source, kind).await;
        assert!(error.message().contains(message), "{source}: {error}");
    }
    let error = world.run("fs.read()").await.unwrap_err();
    assert!(error.message().contains("bad argument #1 to 'read' (string expected"), "{error}");
    let caught = world.run("local _, e = pcall(fs.read, 'no') return { e.kind, e.retryable }").await.unwrap();
    assert_eq!(caught, json!(["not_found", false]));
}

#[tokio::test]
async fn more_than_a_script_is_given_at_once_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("room")).unwrap();
    let base = Root::open(directory.path()).unwrap();
    let world = World::with(directory, Some(base), FsModule::new().with_largest_read(10));
    let source = "fs.write('f', '0123456789A')
         local ok, e = pcall(fs.read, 'f')
         return { ok, e.kind, e.message, fs.read('f', 0, 10), fs.read('f', 1), fs.read('f', 10, 10) }";
    let message = "\"f\" has 11 bytes to be read, and 10 are the most at once; read it in parts, with an offset and a length";
    assert_eq!(
        world.run(source).await.unwrap(),
        json!([false, "exhausted", message, "0123456789", "123456789A", "A"])
    );
}

#[tokio::test]
async fn a_file_that_a_script_has_no_memory_for_ends_the_script_and_nothing_else() {
    let world = World::new();
    std::fs::write(world.room("large"), vec![b'x'; 8 << 20]).unwrap();
    let config = frame_dispatch::lua::LuaConfig::default().with_memory(2 << 20);
    let function = world.engine.function("small", "return #fs.read('large')", config).unwrap();
    let preset = frame_registry::Options::from_json(&json!({ "fs_root": "room" })).unwrap();
    world.functions.register(super::id("app:small"), preset, function).unwrap();
    assert_eq!(world.call("app:small").await.unwrap_err().kind(), ErrorKind::Exhausted);
    assert_eq!(world.run("return #fs.read('large')").await.unwrap(), json!(8 << 20));
}

#[tokio::test]
async fn a_directory_of_very_many_is_not_listed() {
    let world = World::new();
    std::fs::create_dir(world.room("many")).unwrap();
    for number in 0..10_000 {
        std::fs::File::create(world.room(&format!("many/{number}"))).unwrap();
    }
    assert_eq!(world.run("return #fs.list('many')").await.unwrap(), json!(10_000));
    std::fs::File::create(world.room("many/one more")).unwrap();
    let error = world.refused("fs.list('many')", ErrorKind::Exhausted).await;
    assert!(error.message().contains("more than 10000 entries") && !error.is_retryable(), "{error}");
}

#[tokio::test]
async fn without_a_root_there_is_no_file_system() {
    let world = World::new();
    for function in ["read", "list", "stat", "exists", "write", "append", "mkdir", "remove", "rename"] {
        let error = world.run_with(&format!("fs.{function}('a', 'b')"), json!({})).await;
        let error = match error {
            // Numbers, where those are expected.
            Err(error) if error.message().contains("bad argument") => {
                world.run_with(&format!("fs.{function}('a')"), json!({})).await.unwrap_err()
            }
            other => other.unwrap_err(),
        };
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Denied, "this call has no file system; give it the option `fs_root`"),
            "{function}"
        );
    }
}

#[tokio::test]
async fn a_root_that_is_read_only_is_never_written_to() {
    let world = World::new();
    let preset = json!({ "fs_root": { "path": "room", "read_only": true } });
    for source in [
        "fs.write('inside.txt', '')",
        "fs.write('new', '')",
        "fs.append('inside.txt', 'x')",
        "fs.mkdir('d')",
        "fs.remove('inside.txt')",
        "fs.rename('inside.txt', 'x')",
    ] {
        let error = world.run_with(source, preset.clone()).await.expect_err(source);
        assert_eq!(error.kind(), ErrorKind::Denied, "{source}: {error}");
        assert!(error.message().contains("read-only"), "{error}");
    }
    let source = "return { fs.read('inside.txt'), #fs.list(), fs.exists('x'), fs.stat('.').kind, frame.get('fs.root') }";
    let read = world.run_with(source, preset).await.unwrap();
    assert_eq!(read, json!(["inside", 1, false, "directory", { "read_only": true }]));
}
