//! Scripts that own the processes which they start.

use frame_dispatch::process::{ExitReason, HostConfig};
use serde_json::json;

use super::world::{World, of, within};

/// Starts `app:trap` as its own, and tells the process `test` of both.
const OWNER: &str = "local pid = process.spawn { host = 'app:host', entry = 'app:trap', owned = true }
    process.send('test', pid)
    local message = process.receive()
    if message.payload == 'fail' then error('told to fail') end
    if message.payload == 'spin' then while true do end end";

/// Traps what it can, and ends when it is cancelled only.
const TRAP: &str = "process.trap_links(true)
    repeat local message = process.receive() until message.kind == 'cancelled'";

fn world() -> World {
    let world = World::new();
    world.script("app:owner", OWNER);
    world.script("app:trap", TRAP);
    world
}

#[tokio::test]
async fn what_a_script_owns_ends_with_it_however_it_ends() {
    for how in ["done", "fail", "spin"] {
        let world = world();
        let source = format!(
            "process.register('test')
             local owner = process.spawn {{ host = 'app:host', entry = 'app:owner', monitor = true }}
             local child = process.receive().payload
             process.send(owner, '{how}')
             if '{how}' == 'spin' then process.terminate(owner) end
             local exit = process.receive()
             local can_be_sent_to = pcall(process.send, child, 1)
             return {{ exit.reason, can_be_sent_to, child }}"
        );
        let ran = world.ran(&source).await;
        let reason = match how {
            "done" => "normal",
            "fail" => "failed",
            _ => "killed",
        };
        assert_eq!((&ran[0], &ran[1]), (&json!(reason), &json!(false)), "its exit is told after that");
        let exit = world.exit(ran[2].as_str().unwrap().parse().unwrap()).await;
        let ExitReason::LinkDown(down) = &exit.reason else { panic!("{how}: {exit:?}") };
        assert_eq!(down.reason.as_str(), reason);
    }
}

#[tokio::test]
async fn a_script_that_only_starts_another_does_not_take_it_along() {
    let world = world();
    let source = "return process.spawn { host = 'app:host', entry = 'app:trap', owned = false }";
    let pid = world.ran(source).await;
    assert!(world.processes.info(pid.as_str().unwrap().parse().unwrap()).is_some());
}

#[tokio::test]
async fn a_process_that_its_owner_waits_for_ends_with_it() {
    let world = world();
    world.script("app:execs", "process.exec { host = 'app:host', entry = 'app:trap', owned = true }");
    let pid = world.start("app:execs");
    let both = async {
        while world.processes.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    within("the test for both", both).await;
    world.processes.terminate(pid).unwrap();
    world.exit(pid).await;
    assert!(world.processes.is_empty(), "{}", world.processes.processes());
}

#[tokio::test]
async fn a_function_owns_nothing_and_the_flag_is_true_or_false() {
    let world = world();
    world.function("app:hire", "process.spawn { host = 'app:host', entry = 'app:trap', owned = true }");
    let source = "local ok, failure = pcall(call, 'app:hire') return { failure.kind, failure.message }";
    let failure = world.ran(source).await;
    assert!(failure.to_string().contains("`owned` is for processes, and this is a function"), "{failure}");
    let error = world.failed("process.spawn { host = 'app:host', entry = 'app:trap', owned = 1 }").await;
    assert!(error.message().contains("`owned` is `true` or `false`; it is a number"), "{error}");
}

/// What a script owns takes room on its host, as whatever it starts.
#[tokio::test]
async fn a_script_owns_no_more_than_its_host_has_room_for() {
    let world = World::with_host(HostConfig::default().with_processes(4));
    world.script("app:trap", TRAP);
    let source = "local count = 0
        repeat
          local ok, failure = pcall(process.spawn, { host = 'app:host', entry = 'app:trap', owned = true })
          if ok then count = count + 1 end
        until not ok
        return count";
    assert_eq!(world.ran(source).await, json!(3));
    let start = of("app:trap");
    assert!(world.processes.spawn(&world.root, start).is_ok(), "all of it has ended");
}
