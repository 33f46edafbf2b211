//! How scripts start processes.

use frame_dispatch::lua::LuaConfig;
use frame_dispatch::process::{ExitReason, HostConfig, ProcessContext};
use frame_dispatch::{ErrorKind, Payload};
use serde_json::json;

use super::world::{World, within};

#[tokio::test]
async fn a_process_is_started_with_a_payload_messages_and_a_name() {
    let world = World::new();
    let child = "local first, second = process.receive(0), process.receive(0)
                 return { ..., first.payload, second.payload, first.from, process.whereis('child') == process.self() }";
    world.script("app:child", child);
    let source = "return { process.self(), process.exec {
                    host = 'app:host', entry = 'app:child', payload = { a = 1 }, name = 'child',
                    messages = { bytes('one'), 'two' },
                  } }";
    let result = world.ran(source).await;
    assert_eq!(result[1], json!([{ "a": 1 }, "one", "two", result[0], true]));
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_in_words() {
    let world = World::with_host(HostConfig::default().with_mailbox(2).with_engines(["lua"]));
    world.script("app:child", "process.receive()");
    world.native("app:native", async |_: ProcessContext, _| Ok(Payload::default()));
    let valid = "host = 'app:host', entry = 'app:child'";
    for (start, kind, words) in [
        ("1".to_owned(), ErrorKind::Invalid, "spawned with a table such as { host ="),
        (
            "{}".to_owned(),
            ErrorKind::Invalid,
            "`host` is the id of a host, such as \"app:workers\"; it is missing",
        ),
        ("{ host = 'app:host' }".to_owned(), ErrorKind::Invalid, "`entry` is the id of a process"),
        ("{ host = 1 }".to_owned(), ErrorKind::Invalid, "it is a number"),
        ("{ host = 'nonsense' }".to_owned(), ErrorKind::Invalid, "nonsense"),
        (
            format!("{{ {valid}, payloud = 1 }}"),
            ErrorKind::Invalid,
            "unknown member `payloud` of a process to be spawned; did you mean `payload`?",
        ),
        (
            format!("{{ {valid}, frobnicate = 1 }}"),
            ErrorKind::Invalid,
            "the members are entry, host, link, messages",
        ),
        (format!("{{ {valid}, 1 }}"), ErrorKind::Invalid, "named members"),
        (format!("{{ {valid}, messages = 1 }}"), ErrorKind::Invalid, "`messages` is a list of payloads"),
        (format!("{{ {valid}, messages = {{ a = 1 }} }}"), ErrorKind::Invalid, "`messages` is no list"),
        (
            format!("{{ {valid}, messages = {{ 1, 2, 3 }} }}"),
            ErrorKind::Invalid,
            "its mailbox, which holds 2",
        ),
        (format!("{{ {valid}, name = 1 }}"), ErrorKind::Invalid, "`name` is a string"),
        (format!("{{ {valid}, name = '' }}"), ErrorKind::Invalid, "is not a valid name for a process"),
        (format!("{{ {valid}, link = 'yes' }}"), ErrorKind::Invalid, "`link` is `true` or `false`"),
        (format!("{{ {valid}, options = 1 }}"), ErrorKind::Invalid, ""),
        (
            format!("{{ {valid}, options = {{ tennant = 'x' }} }}"),
            ErrorKind::Invalid,
            "did you mean `tenant`?",
        ),
        (
            format!("{{ {valid}, options = {{ tenant = 'nobody' }} }}"),
            ErrorKind::Denied,
            "its frame was refused",
        ),
        (
            "{ host = 'app:no', entry = 'app:child' }".to_owned(),
            ErrorKind::NotFound,
            "unknown host `app:no`; register it",
        ),
        (
            "{ host = 'app:host', entry = 'app:no' }".to_owned(),
            ErrorKind::NotFound,
            "unknown process `app:no`; register it",
        ),
        ("{ host = 'app:host', entry = 'app:native' }".to_owned(), ErrorKind::Invalid, "it runs lua"),
    ] {
        for function in ["spawn", "spawn_or_signal", "exec"] {
            let source = format!("process.{function}({start})");
            let error = world.failed(&source).await;
            assert_eq!(error.kind(), kind, "{source}: {error}");
            assert!(error.message().contains(words), "{source}: {error}");
        }
    }
    assert!(world.processes.is_empty());
}

#[tokio::test]
async fn messages_are_together_no_larger_than_a_payload() {
    let world = World::new();
    world.script("app:child", "return 1");
    let source = "local s, messages = ('x'):rep(1000000), {}
                  for n = 1, 30 do messages[n] = s end
                  process.spawn { host = 'app:host', entry = 'app:child', messages = messages }";
    let error = world.failed(source).await;
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.message().contains("`messages` is larger than"), "{error}");
}

#[tokio::test]
async fn a_script_starts_a_process_or_sends_to_the_one_that_has_the_name() {
    let world = World::new();
    world.script("app:child", "return { process.receive().payload, process.receive().payload }");
    let source = "local function start(message)
                    return process.spawn_or_signal {
                      host = 'app:host', entry = 'app:child', name = 'child', messages = { message },
                    }
                  end
                  local first, is_new = start(1)
                  process.monitor(first)
                  local second, is_new_again = start(2)
                  return { is_new, is_new_again, first == second, process.receive().result }";
    assert_eq!(world.ran(source).await, json!([true, false, true, [1, 2]]));
}

#[tokio::test]
async fn the_result_of_a_process_that_did_not_end_well_is_an_error_of_its_kind() {
    let world = World::new();
    world.script("app:fails", "error { kind = 'unavailable', message = 'not just now' }");
    let error = world.failed("process.exec { host = 'app:host', entry = 'app:fails' }").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().ends_with("ended without a result: it failed: not just now"), "{error}");
}

#[tokio::test]
async fn a_host_that_is_full_is_an_error_that_may_pass() {
    let world = World::with_host(HostConfig::default().with_processes(1));
    let source = "local _, e = pcall(process.spawn, { host = 'app:host', entry = 'app:run' })
                  return { e.kind, e.retryable, e.message }";
    let message = "the process was not spawned: host `app:host` has reached its process limit of 1";
    assert_eq!(world.ran(source).await, json!(["exhausted", true, message]));
}

#[tokio::test]
async fn a_process_has_no_limit_of_time_unless_it_is_given_one() {
    let world = World::new();
    assert_eq!(LuaConfig::process().time, std::time::Duration::MAX);
    let limited = LuaConfig::default().with_time(std::time::Duration::from_millis(20));
    world.script_with("app:limited", "process.receive()", limited);
    let exit = world.exit(world.start("app:limited")).await;
    assert!(
        matches!(&exit.reason, ExitReason::Failed(error) if error.kind() == ErrorKind::Deadline),
        "{exit:?}"
    );
}

#[tokio::test]
async fn as_many_processes_run_at_once_as_the_host_has_room_for() {
    const MANY: usize = 100;
    let world = World::new();
    let function = world.script("app:child", "return process.receive().payload");
    let pids: Vec<_> = (0..MANY).map(|_| world.start("app:child")).collect();
    let exits: Vec<_> = pids.iter().map(|pid| world.processes.monitor(*pid).unwrap()).collect();
    within("all to run", async {
        while function.statistics().running < MANY {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for pid in &pids {
        world.processes.try_send(&world.root, *pid, json!(1)).unwrap();
    }
    for exit in exits {
        assert!(within("an exit", exit).await.reason.is_normal());
    }
}
