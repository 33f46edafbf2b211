//! Messages between scripts, and between scripts and what is none.

use std::time::Duration;

use frame_dispatch::ErrorKind;
use frame_dispatch::lua::LuaConfig;
use frame_dispatch::process::{HostConfig, ManagerConfig, Message, ProcessContext, SendErrorReason};
use serde_json::json;

use super::world::{World, of, within};

/// Sends back what it is sent, until it is cancelled.
const ECHO: &str = "while true do
                      local m = process.receive()
                      if m.kind ~= 'sent' then return 'done' end
                      process.send(m.from, m.payload)
                    end";

#[tokio::test]
async fn a_native_process_and_a_script_answer_each_other() {
    let world = World::new();
    world.script("app:echo", ECHO);
    world.native("app:asks", async |mut ctx: ProcessContext, _| {
        let echo = ctx.spawn(of("app:echo").with_monitor())?;
        let mut answers = Vec::new();
        for payload in [json!(1), json!({ "a": [null, "ü"] }), json!(null)] {
            ctx.send(echo, payload).await?;
            let Message::Sent { from, payload, .. } = ctx.receive().await else { panic!("no answer") };
            assert_eq!(from, Some(echo));
            answers.push(payload.as_json().cloned());
        }
        ctx.processes().cancel(echo, "enough", Duration::from_mins(1))?;
        let Message::Exited { exit, .. } = ctx.receive().await else { panic!("no exit") };
        assert_eq!(exit.result.as_deref(), Some(&json!("done").into()));
        Ok(json!(answers).into())
    });
    let answers = within("the answers", world.processes.exec(&world.root, of("app:asks"))).await.unwrap();
    assert_eq!(answers, json!([1, { "a": [null, "ü"] }, null]).into());
}

#[tokio::test]
async fn what_no_process_sends_is_from_nobody() {
    let world = World::new();
    world.script("app:first", "local m = process.receive() return { m.kind, m.from == nil, m.payload }");
    let pid = world.start("app:first");
    let exit = world.processes.monitor(pid).unwrap();
    world.processes.send(&world.root, pid, json!("hello")).await.unwrap();
    let exit = within("the exit", exit).await;
    assert_eq!(exit.result.as_deref(), Some(&json!(["sent", true, "hello"]).into()));
}

#[tokio::test]
async fn a_message_is_waited_for_no_longer_than_said() {
    let world = World::new();
    let source = "local own = process.self()
                  local none, soon = process.receive(0), process.receive(0.005)
                  process.send(own, 1) process.send(own, 2) process.send(own, 3)
                  return { none == nil, soon == nil, process.receive(0).payload, process.receive(1e300).payload,
                           process.receive(math.huge).payload, process.receive(0) == nil }";
    assert_eq!(world.ran(source).await, json!([true, true, 1, 2, 3, true]));
    for timeout in ["-1", "0/0"] {
        let error = world.failed(&format!("process.receive({timeout})")).await;
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("the timeout is a number of seconds, 0 or more"), "{error}");
    }
}

#[tokio::test]
async fn a_message_is_received_in_a_coroutine_as_outside() {
    let world = World::new();
    let source = "local own = process.self()
                  local each = coroutine.wrap(function()
                    while true do coroutine.yield(process.receive(60).payload) end
                  end)
                  local got = {}
                  for n = 1, 3 do
                    process.send(own, n)
                    got[n] = each()
                  end
                  return got";
    assert_eq!(world.ran(source).await, json!([1, 2, 3]));
}

#[tokio::test]
async fn messages_of_16_mb_are_exchanged_and_larger_ones_refused() {
    const LARGE: usize = 16 << 20;
    let world = World::new();
    world.script_with("app:echo", ECHO, LuaConfig::process().with_memory(128 << 20));
    world.native("app:asks", async |mut ctx: ProcessContext, _| {
        let echo = ctx.spawn(of("app:echo"))?;
        ctx.send(echo, json!("x".repeat(LARGE - 2))).await?;
        let Message::Sent { payload, .. } = ctx.receive().await else { panic!("no answer") };
        Ok(json!(payload.as_json().unwrap().as_str().unwrap().len()).into())
    });
    let asked = world.processes.exec(&world.root, of("app:asks"));
    assert_eq!(within("the large message", asked).await.unwrap(), json!(LARGE - 2).into());

    let source = "local own, large = process.self(), ('x'):rep(16 << 20)
                  process.send(own, bytes(large))
                  local _, one_more = pcall(process.send, own, bytes(large .. 'x'))
                  local _, as_json = pcall(process.try_send, own, large)
                  return { #process.receive(0).payload, one_more.kind, one_more.message, as_json.kind }";
    world.script_with("app:itself", source, LuaConfig::process().with_memory(128 << 20));
    let itself = within("it", world.processes.exec(&world.root, of("app:itself"))).await.unwrap();
    let message = "the message is larger than 16777216 bytes";
    assert_eq!(itself, json!([LARGE, "exhausted", message, "exhausted"]).into());
}

#[tokio::test]
async fn a_script_waits_for_room_in_a_mailbox_and_is_told_where_there_is_none() {
    let world = World::with_manager(
        ManagerConfig::default().with_max_wait(Duration::from_millis(5)),
        HostConfig::default().with_mailbox(1),
        |module| module,
    );
    let source = "local own = process.self()
                  local first, second = process.try_send(own, 1), process.try_send(own, 2)
                  local ok, e = pcall(process.send, own, 3)
                  return { first, second, ok, e.kind, e.retryable, process.receive().payload, process.receive(0) == nil }";
    assert_eq!(world.ran(source).await, json!([true, false, false, "exhausted", true, 1, true]));

    let world = World::with_host(HostConfig::default().with_mailbox(1));
    world.native("app:slow", async |mut ctx: ProcessContext, _| {
        let mut got = Vec::new();
        while got.len() < 5 {
            tokio::task::yield_now().await;
            got.extend(ctx.receive().await.into_payload().unwrap().as_json().cloned());
        }
        Ok(json!(got).into())
    });
    let slow = world.start("app:slow");
    let exit = world.processes.monitor(slow).unwrap();
    world.ran(&format!("for n = 1, 5 do process.send('{slow}', n) end")).await;
    assert_eq!(within("the slow one", exit).await.result.as_deref(), Some(&json!([1, 2, 3, 4, 5]).into()));
}

#[tokio::test]
async fn whoever_sends_to_a_script_waits_for_room_in_its_mailbox() {
    let world = World::with_host(HostConfig::default().with_mailbox(1));
    world.script(
        "app:slow",
        "return { process.receive().payload, process.receive().payload, process.receive().payload }",
    );
    let pid = world.start("app:slow");
    let exit = world.processes.monitor(pid).unwrap();
    world.processes.try_send(&world.root, pid, json!(1)).unwrap();
    let error = world.processes.try_send(&world.root, pid, json!(2)).unwrap_err();
    assert!(matches!(error.reason, SendErrorReason::Full { capacity: 1 }), "{error}");
    within("room", world.processes.send(&world.root, pid, json!(2))).await.unwrap();
    within("room", world.processes.send(&world.root, pid, json!(3))).await.unwrap();
    assert_eq!(within("the exit", exit).await.result.as_deref(), Some(&json!([1, 2, 3]).into()));
}

#[tokio::test]
async fn what_is_no_destination_is_refused_in_words() {
    let world = World::new();
    for (source, kind, words) in [
        ("process.send({}, 1)", ErrorKind::Invalid, "which are strings, not by a table"),
        ("process.send(nil, 1)", ErrorKind::Invalid, "which are strings, not by nil"),
        ("process.send('{what|0x1', 1)", ErrorKind::Invalid, "is no PID"),
        ("process.send('{local@no:host|0x00001}', 1)", ErrorKind::NotFound, "there is no such host"),
        ("process.send(('x'):rep(1000), 1)", ErrorKind::Invalid, "too long"),
        ("process.send('nobody', 1)", ErrorKind::NotFound, "unknown process"),
        ("process.try_send('nobody', 1)", ErrorKind::NotFound, "unknown process"),
        ("process.send(process.self(), print)", ErrorKind::Invalid, "the message is a function"),
    ] {
        let error = world.failed(source).await;
        assert_eq!(error.kind(), kind, "{source}: {error}");
        assert!(error.message().contains(words), "{source}: {error}");
    }
}

#[tokio::test]
async fn a_script_is_asked_to_end_and_knows_why_and_until_when() {
    let world = World::new();
    let source = "local before = process.cancelled()
                  local m = process.receive()
                  return { before == nil, m.kind, m.reason, m.grace > 50 and m.grace <= 60, process.cancelled() }";
    world.script("app:asked", source);
    let pid = world.start("app:asked");
    let exit = world.processes.monitor(pid).unwrap();
    // Cancelled any earlier it would know that to begin with.
    while world.processes.info(pid).unwrap().state.as_str() != "receiving" {
        tokio::task::yield_now().await;
    }
    world.processes.cancel(pid, "a reason", Duration::from_mins(1)).unwrap();
    let result = json!([true, "cancelled", "a reason", true, "a reason"]);
    assert_eq!(within("the exit", exit).await.result.as_deref(), Some(&result.into()));

    world.script("app:gives_up", "process.receive() error { kind = 'cancelled', message = 'as you wish' }");
    let pid = world.start("app:gives_up");
    let exit = world.processes.monitor(pid).unwrap();
    world.processes.cancel(pid, "a reason", Duration::MAX).unwrap();
    assert_eq!(within("the exit", exit).await.reason.as_str(), "cancelled");
}
