//! On which hosts a script may start processes.

use frame_dispatch::process::{ExecError, HostConfig, SPAWN_KEY, Spawn, SpawnHosts};
use frame_dispatch::{CallError, FunctionId, Payload, Task};
use frame_registry::{FrameBuilder, Pair};
use serde_json::{Value as Json, json};

use crate::processes::world::{World, of, within};

/// Tries to start `app:worker` on each host that there is and one that there is not, in each way; returns the kinds of errors.
const TRY: &str = "
    local outcomes = {}
    for _, host in ipairs { 'app:host', 'app:other', 'app:none' } do
      for _, way in ipairs { 'spawn', 'spawn_or_signal', 'exec' } do
        local ok, error = pcall(process[way], { host = host, entry = 'app:worker' })
        table.insert(outcomes, ok and 'ok' or error.kind)
      end
    end
    return outcomes";

fn world() -> World {
    add_to(World::new())
}

fn add_to(world: World) -> World {
    world.processes.register_host("app:other".parse().unwrap(), HostConfig::default()).unwrap();
    world.script("app:worker", "return 'done'");
    world.script("app:try", TRY);
    world.function("app:try", TRY);
    world.script("app:call", "return call('app:try')");
    world
}

fn granted(hosts: &[&str]) -> Pair {
    SPAWN_KEY.pair(hosts.iter().map(|host| host.parse().unwrap()).collect::<SpawnHosts>())
}

/// What a process says that was started with these.
async fn tried(world: &World, start: Spawn) -> Json {
    let tried: Result<Payload, ExecError> =
        within("a test for what was tried", world.processes.exec(&world.root, start)).await;
    tried.unwrap().as_json().unwrap().clone()
}

/// What a function says that is called from outside of all processes, with a frame that has these.
async fn called(world: &World, pair: Option<Pair>) -> Json {
    let mut frame = FrameBuilder::new();
    frame.pairs_mut().extend(pair);
    let id: FunctionId = "app:try".parse().unwrap();
    let root = world.processes.functions().root_in(frame.seal());
    let tried: Result<Payload, CallError> = within("a test for a call", root.call(Task::new(id))).await;
    tried.unwrap().as_json().unwrap().clone()
}

fn outcomes(of_each: [&str; 3]) -> Json {
    of_each.into_iter().flat_map(|outcome| [outcome; 3]).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn a_process_starts_others_on_its_own_host_only() {
    let world = world();
    assert_eq!(tried(&world, of("app:try")).await, outcomes(["ok", "denied", "not_found"]));
    let on_other = Spawn::new("app:other".parse().unwrap(), "app:try".parse().unwrap());
    assert_eq!(tried(&world, on_other).await, outcomes(["denied", "ok", "not_found"]));
}

#[tokio::test]
async fn what_a_process_calls_starts_others_on_the_host_of_the_process_only() {
    let world = world();
    assert_eq!(tried(&world, of("app:call")).await, outcomes(["ok", "denied", "not_found"]));
}

#[tokio::test]
async fn hosts_on_its_frame_are_granted_and_what_it_calls_inherits_them() {
    let world = world();
    for entry in ["app:try", "app:call"] {
        let start = of(entry).with_pair(granted(&["app:other", "app:none"]));
        assert_eq!(tried(&world, start).await, outcomes(["ok", "ok", "not_found"]));
    }
}

#[tokio::test]
async fn a_function_that_no_process_has_called_starts_only_what_it_is_granted() {
    let world = world();
    assert_eq!(called(&world, None).await, outcomes(["denied", "denied", "not_found"]));
    assert_eq!(called(&world, Some(granted(&[]))).await, outcomes(["denied", "denied", "not_found"]));
    assert_eq!(called(&world, Some(granted(&["app:other"]))).await, outcomes(["denied", "ok", "not_found"]));
}

#[tokio::test]
async fn scripts_that_are_trusted_start_processes_on_any_host() {
    let world = add_to(World::trusted());
    assert_eq!(called(&world, None).await, outcomes(["ok", "ok", "not_found"]));
}

#[tokio::test]
async fn a_script_cannot_fill_another_host_through_what_it_starts() {
    let world = world();
    world.script(
        "app:fork",
        "local to = ...
         local ok, error = pcall(process.spawn, { host = to, entry = 'app:fork', payload = to })
         return ok and 'ok' or error.kind .. ': ' .. error.message",
    );
    let start = of("app:fork").with_payload(json!("app:other"));
    let said = tried(&world, start).await;
    let expected = "denied: not allowed to spawn processes on `app:other`; grant it by the option `spawn`";
    assert_eq!(said, json!(expected));
}
