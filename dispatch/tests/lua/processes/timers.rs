//! Scripts that set timers, and wait for names.

use std::time::Duration;

use frame_dispatch::process::{HostConfig, ManagerConfig};
use frame_dispatch::{ErrorKind, Task};
use serde_json::json;

use super::world::{World, of, within};

#[tokio::test]
async fn a_script_sends_itself_messages_later_and_tells_them_from_those_of_others() {
    let world = World::new();
    let source = "local once = process.send_after('5ms', { tag = 'once' })
                  local m = process.receive(60)
                  return { m.kind, m.timer == once, m.payload.tag, m.from == process.self(), m.missed,
                           m.reply == nil, process.cancel_timer(once) }";
    assert_eq!(world.ran(source).await, json!(["timer", true, "once", true, 0, true, false]));
}

#[tokio::test]
async fn a_script_waits_for_one_of_several_timers() {
    let world = World::new();
    let source = "process.send_after(0, 'first')
                  local again = process.send_every(0.001, 'again')
                  local wanted = process.send_after(0.02, 'wanted')
                  local by_reference = process.receive_matching({ timer = wanted }, 60)
                  local by_payload = process.receive_matching({ kind = 'timer', payload = 'again' }, 60)
                  local cancelled = process.cancel_timer(again)
                  return { by_reference.payload, by_payload.timer == again, by_payload.missed > 0, cancelled,
                           process.receive(0).payload, process.receive(0.01) == nil }";
    assert_eq!(world.ran(source).await, json!(["wanted", true, true, true, "first", true]));
}

#[tokio::test]
async fn what_is_wrong_with_a_timer_is_said_in_words() {
    let world = World::with_host(HostConfig::default().with_timers(2));
    for (source, kind, words) in [
        ("process.send_after('soon', 1)", ErrorKind::Invalid, "the time is not a duration such as \"2s\""),
        ("process.send_after(-1, 1)", ErrorKind::Invalid, "the time is a number of seconds, 0 or more"),
        ("process.send_after({}, 1)", ErrorKind::Invalid, "the time is a number of seconds or a string"),
        ("process.send_after(1, print)", ErrorKind::Invalid, "the message"),
        ("process.send_every(0, 1)", ErrorKind::Invalid, "the period of a timer must be greater than zero"),
        (
            "process.cancel_timer('x')",
            ErrorKind::Invalid,
            "is not the reference of a timer; pass the return value of `send_after`",
        ),
        ("process.cancel_timer(process.self())", ErrorKind::Invalid, "is not the reference of a timer"),
        (
            "for _ = 1, 3 do process.send_after(60, 1) end",
            ErrorKind::Exhausted,
            "has reached its timer limit of 2 (`timers` of its host); cancel one first",
        ),
    ] {
        let error = world.failed(source).await;
        assert!(error.kind() == kind && error.message().contains(words), "{source}: {error}");
    }
    world.function("app:timer", "process.send_after(1, 1)");
    let error = world.root.call(Task::new("app:timer".parse().unwrap())).await.unwrap_err();
    assert!(error.message().contains("`send_after` is for processes"), "{error}");
}

/// A script that sets timers and never receives harms only itself.
#[tokio::test]
async fn a_script_that_does_not_receive_has_one_message_of_each_timer() {
    let world = World::with_host(HostConfig::default().with_timers(3));
    world.script(
        "app:ticks",
        "for _ = 1, 3 do process.send_every(0.001, ('x'):rep(1000)) end
         process.receive_matching { payload = 'go' }
         local left = 0
         while process.receive(0) do left = left + 1 end
         return left",
    );
    let pid = world.start("app:ticks");
    let exit = world.processes.monitor(pid).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(world.processes.info(pid).unwrap().mailbox <= 3);
    world.processes.send(&world.root, pid, json!("go")).await.unwrap();
    let left = within("the exit", exit).await.result.unwrap().as_json().unwrap().as_u64().unwrap();
    assert!((3..=9).contains(&left), "{left}");
}

#[tokio::test]
async fn a_script_waits_for_a_name() {
    let world = World::new();
    world.script("app:waits", "return process.lookup('db', '1h')");
    let pid = world.start("app:waits");
    let exit = world.processes.monitor(pid).unwrap();
    tokio::task::yield_now().await;
    world.script("app:db", "process.receive()");
    let db = world.processes.spawn(&world.root, of("app:db").with_name("db")).unwrap();
    assert_eq!(within("the name", exit).await.result.as_deref(), Some(&json!(db.to_string()).into()));
    let source = "return { process.lookup('db', 0), process.lookup('none', 0) == nil, process.lookup('none', 0.001) == nil }";
    assert_eq!(world.ran(source).await, json!([db.to_string(), true, true]));
    assert_eq!(world.failed("process.lookup('', 1)").await.kind(), ErrorKind::Invalid);
    assert_eq!(world.failed("process.lookup('none', 'long')").await.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_script_waits_for_a_name_as_long_as_for_a_reply_unless_it_says_and_is_ended_meanwhile() {
    let config = ManagerConfig::default().with_call_timeout(Duration::from_millis(1));
    let world = World::with_manager(config, HostConfig::default(), |module| module);
    assert_eq!(world.ran("return process.lookup('none') == nil").await, json!(true));
    world.script("app:waits", "process.lookup('none', 1e300)");
    let pid = world.start("app:waits");
    tokio::task::yield_now().await;
    world.processes.terminate(pid).unwrap();
    world.exit(pid).await;
}
