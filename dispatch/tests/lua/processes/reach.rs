//! What scripts may do to processes that they did not start.

use frame_dispatch::process::{SPAWN_KEY, SpawnHosts};
use frame_dispatch::{ErrorKind, Task};
use serde_json::json;

use super::world::{World, of, within};

const WAITS: &str = "process.receive()";
/// What needs to be allowed.
const REACHING: [&str; 6] = [
    "process.monitor('OTHER')",
    "process.link('OTHER')",
    "process.unlink('OTHER')",
    "process.cancel('OTHER', 'because', 60)",
    "process.unregister('other')",
    "process.terminate('OTHER')",
];

#[tokio::test]
async fn a_script_reaches_no_process_that_it_did_not_start() {
    let world = World::new();
    world.script("app:waits", WAITS);
    let other = world.processes.spawn(&world.root, of("app:waits").with_name("other")).unwrap();
    let may_not = format!("only {other} itself and the unit that spawned it may ");
    for source in REACHING {
        for other in [&*other.to_string(), "other"] {
            let source = source.replace("OTHER", other);
            let error = world.failed(&source).await;
            assert_eq!(error.kind(), ErrorKind::Denied, "{source}: {error}");
            assert!(error.message().contains(&may_not), "{source}: {error}");
        }
    }
    // Also not one that never was: that would tell which are there.
    let never = format!("process.terminate('{{{}|0xfffff}}')", other.host());
    assert_eq!(world.failed(&never).await.kind(), ErrorKind::Denied);
    assert_eq!(world.processes.whereis("other"), Some(other));
    assert_eq!(
        world.ran("local found = process.whereis('other') process.send('other', 1) return found").await,
        other.to_string()
    );
}

#[tokio::test]
async fn a_script_does_all_to_those_that_it_started() {
    for source in REACHING {
        let world = World::new();
        world.script("app:waits", WAITS);
        let source = source.replace("OTHER", "other");
        let source = format!(
            "process.trap_links(true)
             local pid = process.spawn {{ host = 'app:host', entry = 'app:waits', name = 'other' }}
             {source}
             return pid"
        );
        assert!(world.ran(&source).await.is_string(), "{source}");
    }
}

#[tokio::test]
async fn trusted_scripts_do_all_to_all() {
    for source in REACHING {
        let world = World::trusted();
        world.script("app:waits", WAITS);
        let other = world.processes.spawn(&world.root, of("app:waits").with_name("other")).unwrap();
        world.ran(&format!("process.trap_links(true) {}", source.replace("OTHER", &other.to_string()))).await;
    }
}

#[tokio::test]
async fn the_exit_of_its_own_that_ended_before_is_had_and_that_of_a_grandchild_is_not() {
    let world = World::new();
    world.script("app:done", "return 1");
    world.script("app:middle", "return process.spawn { host = 'app:host', entry = 'app:done' }");
    let source = "local own = process.spawn { host = 'app:host', entry = 'app:done' }
                  local grandchild = process.exec { host = 'app:host', entry = 'app:middle' }
                  while pcall(process.try_send, own, 1) do process.receive(0.001) end
                  process.monitor(own)
                  local m = process.receive()
                  local ok, e = pcall(process.monitor, grandchild)
                  return { m.kind, m.pid == own, m.reason, ok, e.kind }";
    assert_eq!(world.ran(source).await, json!(["exited", true, "normal", false, "denied"]));
}

#[tokio::test]
async fn a_function_can_do_what_needs_no_mailbox() {
    let world = World::new();
    world.script("app:double", "return ... * 2");
    world.script("app:waits", WAITS);
    let source = "local own = process.spawn { host = 'app:host', entry = 'app:waits', name = 'mine' }
                  local found = process.whereis('mine') == own
                  process.send('mine', 1)
                  local ended = process.spawn { host = 'app:host', entry = 'app:waits', payload = 0 }
                  process.terminate(ended)
                  return { found, process.exec { host = 'app:host', entry = 'app:double', payload = 21 } }";
    world.function("app:function", source);
    let host = SPAWN_KEY.pair(["app:host".parse().unwrap()].into_iter().collect::<SpawnHosts>());
    let task = |id: &str| Task::new(id.parse().unwrap()).with_pair(host.clone());
    let result = within("the function", world.root.call(task("app:function"))).await.unwrap();
    assert_eq!(result, json!([true, 42]).into());

    for (index, source) in [
        "process.self()",
        "process.receive()",
        "process.receive(0)",
        "process.monitor('x')",
        "process.demonitor('x')",
        "process.link('x')",
        "process.unlink('x')",
        "process.trap_links(true)",
        "process.register('x')",
        "process.cancelled()",
        "process.spawn { host = 'app:host', entry = 'app:double', monitor = true }",
        "process.spawn { host = 'app:host', entry = 'app:double', link = true }",
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("app:f{index}");
        world.function(&id, source);
        let error = within(source, world.root.call(task(&id))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{source}: {error}");
        let words = "` is for processes, and this is a function";
        assert!(error.message().contains(words), "{source}: {error}");
    }
}

#[tokio::test]
async fn a_function_that_a_process_calls_is_not_that_process() {
    let world = World::new();
    world.function("app:function", "return { pcall(process.receive, 0) }");
    assert_eq!(world.ran("return call('app:function')[1]").await, false);
}
