//! Scripts that start and stop the children of dynamic supervisors.

use std::time::Duration;

use frame_dispatch::Task;
use frame_dispatch::process::supervisor::{
    Backoff, ChildSpec, DynamicChild, DynamicSpec, RestartPolicy, Supervisor, SupervisorHandle,
};
use frame_dispatch::process::{HostConfig, SPAWN_KEY, Spawn, SpawnHosts};
use frame_registry::Options;
use serde_json::json;

use super::world::{World, of, within};

/// Gives back what it is given as soon as it is sent anything, or fails where that is `fail`.
const ROOM: &str = "local given = ...
    local message = process.receive()
    if message.payload == 'fail' then error('told to fail') end
    return given";

/// The dynamic supervisor `app:pool`, whose children live on `host`.
async fn pool(world: &World, host: &str) -> SupervisorHandle {
    world.script("app:room", ROOM);
    let room = Spawn::new(host.parse().unwrap(), "app:room".parse().unwrap());
    let spec = DynamicSpec::new(ChildSpec::new("room", room.with_payload(json!("preset"))))
        .with_max_children(3)
        .with_restart_policy(
            RestartPolicy::default().with_intensity(1, Duration::from_mins(1)).with_backoff(Backoff::none()),
        );
    let supervisor = Supervisor::dynamic(spec).unwrap();
    let handle = supervisor.handle();
    world.processes.register("app:pool".parse().unwrap(), Options::new(), supervisor).unwrap();
    world.start("app:pool");
    within("the test for a supervisor", handle.ready()).await;
    handle
}

#[tokio::test]
async fn a_script_starts_children_and_stops_those_that_it_started() {
    let world = World::new();
    let handle = pool(&world, "app:host").await;
    let other = handle.start_child(&world.root, DynamicChild::new().with_name("other")).await.unwrap();
    let source = format!(
        "local pid, id = process.start_child('app:pool', {{ payload = 'own', name = 'mine', restart = 'temporary' }})
         local monitor = process.monitor(pid)
         process.send('mine', 1)
         local result = process.receive().result
         local second, second_id = process.start_child('app:pool')
         local before = process.whereis('other') == '{pid}'
         process.stop_child('app:pool', second_id)
         local third = process.start_child('app:pool', {{ name = 'third' }})
         process.stop_child('app:pool', third)
         local failures = {{}}
         for _, child in ipairs {{ '{id}', '{pid}', second, 'room#99' }} do
           local ok, failure = pcall(process.stop_child, 'app:pool', child)
           table.insert(failures, ok or failure.kind .. ': ' .. failure.message)
         end
         return {{ id, second_id, result, before, process.whereis('third') == nil, failures }}",
        pid = other.pid,
        id = other.id,
    );
    let unknown = "not_found: supervisor `app:pool` has no such child that was started by this unit";
    let expected = json!(["room#2", "room#3", "own", true, true, [unknown, unknown, unknown, unknown]]);
    assert_eq!(world.ran(&source).await, expected);
    assert_eq!(handle.children().await.unwrap().len(), 1, "that of others goes on");
}

#[tokio::test]
async fn a_child_outlives_the_script_that_started_it_and_ends_with_its_supervisor() {
    let world = World::new();
    let handle = pool(&world, "app:host").await;
    let pid = world.ran("return (process.start_child('app:pool'))").await;
    let pid: frame_dispatch::Pid = pid.as_str().unwrap().parse().unwrap();
    let supervisor = handle.running()[0];
    assert_eq!(world.processes.owner(pid), Some(supervisor));
    world.processes.terminate(supervisor).unwrap();
    world.exit(supervisor).await;
    assert!(world.processes.info(pid).is_none());
}

#[tokio::test]
async fn a_script_starts_children_only_where_it_may_start_processes() {
    let world = World::new();
    world.processes.register_host("app:other".parse().unwrap(), HostConfig::default()).unwrap();
    pool(&world, "app:other").await;
    let source = "local ok, failure = pcall(process.start_child, 'app:pool')
                  return ok or failure.kind .. ': ' .. failure.message";
    let denied = "denied: not allowed to spawn processes on `app:other`; grant it by the option `spawn`";
    assert_eq!(world.ran(source).await, denied);
    world.function("app:try", source);
    let called = world.root.call(Task::new("app:try".parse().unwrap())).await.unwrap();
    assert_eq!(called, json!(denied).into());
    let granted = SPAWN_KEY.pair(["app:other".parse().unwrap()].into_iter().collect::<SpawnHosts>());
    world.script("app:granted", source);
    let start = of("app:granted").with_pair(granted);
    let ran = within("the test for a script", world.processes.exec(&world.root, start)).await.unwrap();
    assert_eq!(ran, json!(true).into());

    let world = World::trusted();
    world.processes.register_host("app:other".parse().unwrap(), HostConfig::default()).unwrap();
    let handle = pool(&world, "app:other").await;
    let child = handle.start_child(&world.root, DynamicChild::new()).await.unwrap();
    let source = format!("process.start_child('app:pool') process.stop_child('app:pool', '{}')", child.id);
    world.ran(&source).await;
    assert_eq!(handle.children().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_child_of_a_script_that_fails_too_often_is_removed_and_nothing_else_happens() {
    let world = World::new();
    let handle = pool(&world, "app:host").await;
    let native = handle.start_child(&world.root, DynamicChild::new()).await.unwrap();
    // Each restart of these would be one too many for the supervisor, if they counted together.
    let source = "for child = 1, 4 do
            local name = 'child ' .. child
            process.start_child('app:pool', { name = name })
            local failures = 0
            while process.whereis(name) do
              if pcall(process.send, name, 'fail') then process.receive(0.005) end
              failures = failures + 1
              -- Between its end and its restart it has no name.
              local tries = 0
              while not process.whereis(name) and tries < 40 do process.receive(0.005) tries = tries + 1 end
            end
          end";
    world.ran(source).await;
    let children = handle.children().await.unwrap();
    let pids: Vec<_> = children.iter().map(|child| child.pid).collect();
    assert_eq!(pids, [Some(native.pid)]);
    assert_eq!(native.pid, children[0].pid.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_script_waits_for_a_supervisor_that_starts_but_not_for_ever() {
    let world = World::new();
    pool(&world, "app:host").await;
    world
        .processes
        .terminate(world.processes.supervisor(&"app:pool".parse().unwrap()).unwrap().running()[0])
        .unwrap();
    let source = "local ok, failure = pcall(process.start_child, 'app:pool', { name = 'mine' })
                  return ok or failure.kind .. ': ' .. failure.message";
    assert_eq!(world.ran(source).await, "unavailable: supervisor `app:pool` is not running");
    world.script("app:asks", source);
    let asks = world.processes.monitor(world.start("app:asks")).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.start("app:pool");
    let exit = within("the test for a script", asks).await;
    assert_eq!(exit.result.as_deref(), Some(&json!(true).into()));
    assert!(world.processes.whereis("mine").is_some());
}

#[tokio::test]
async fn what_a_script_may_not_ask_for_is_refused_with_what_is_right() {
    let world = World::new();
    let handle = pool(&world, "app:host").await;
    for (source, kind, message) in [
        ("process.start_child('app:pol')", "not_found", "unknown supervisor `app:pol`"),
        ("process.start_child('app:room')", "not_found", "unknown supervisor `app:room`"),
        ("process.start_child('pool')", "invalid", "has no namespace"),
        ("process.start_child(5)", "invalid", "a supervisor is given by its id, such as \"app:pool\""),
        ("process.start_child('app:pool', 5)", "invalid", "a child is a table such as"),
        (
            "process.start_child('app:pool', { nmae = 'x' })",
            "invalid",
            "`payload`, `options`, `name` and `restart` only",
        ),
        ("process.start_child('app:pool', { restart = 'always' })", "invalid", "`restart` is \"permanent\""),
        ("process.start_child('app:pool', { name = '{x' })", "invalid", "is not a valid name"),
        ("process.stop_child('app:pool', '{x')", "invalid", "is no PID"),
        ("process.stop_child(('app:pool'):rep(99), 'x')", "invalid", "too long"),
    ] {
        let source = format!(
            "local ok, failure = pcall(function() {source} end) return {{ failure.kind, failure.message }}"
        );
        let failure = world.ran(&source).await;
        assert_eq!(failure[0], kind, "{source} {failure}");
        assert!(failure[1].as_str().unwrap().contains(message), "{source}: {failure}");
    }
    let source = "for _ = 1, 3 do process.start_child('app:pool') end
                  local ok, failure = pcall(process.start_child, 'app:pool')
                  return { failure.kind, failure.message, failure.retryable }";
    let full = json!(["exhausted", "the supervisor has reached its child limit of 3 (`max_children`)", true]);
    assert_eq!(world.ran(source).await, full);
    let children = handle.children().await.unwrap();
    assert!(
        children.iter().all(|child| child.state == frame_dispatch::process::supervisor::ChildState::Running)
    );
}
