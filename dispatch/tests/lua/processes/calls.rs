//! Calls between scripts, and receiving certain messages.

use std::time::Duration;

use frame_dispatch::process::{HostConfig, ManagerConfig, ProcessCallError, ProcessContext};
use frame_dispatch::{CallError, ErrorKind, Payload};
use serde_json::json;

use super::world::{World, of, within};

/// Replies with the sum of what it was sent, and as it is told to some words.
const SUMS: &str = "local sum, kept = 0, {}
                    while true do
                      local m = process.receive()
                      if m.payload == 'drop' then
                        return 'with the request in its hands'
                      elseif m.payload == 'keep' then
                        kept[#kept + 1] = m
                      elseif m.payload == 'fail' then
                        error('as it was told')
                      elseif m.payload == 'kept' then
                        m:reply(#kept)
                      else
                        sum = sum + m.payload
                        if m.reply then m:reply { sum = sum, from = m.from } end
                      end
                    end";

/// What came of calling `request` for `time`, as the kind of the error or the reply.
const TRY: &str = "local function try(to, request, options)
                     local ok, result = pcall(process.call, to, request, options)
                     return ok and result or result.kind
                   end ";

#[tokio::test]
async fn a_script_calls_a_script_and_leaves_its_own_mailbox_alone() {
    let world = World::new();
    world.script("app:sums", SUMS);
    let source = "local sums = process.spawn { host = 'app:host', entry = 'app:sums' }
                  process.send(sums, 1)
                  local first = process.call(sums, 2)
                  local second = process.call(sums, 3, { timeout = '1h' })
                  return { first.sum, first.from == process.self(), second.sum, process.receive(0) == nil }";
    assert_eq!(world.ran(source).await, json!([3, true, 6, true]));
}

#[tokio::test]
async fn a_script_and_native_code_call_each_other() {
    let world = World::new();
    world.script("app:sums", SUMS);
    world.native("app:native", async |mut ctx: ProcessContext, _| {
        loop {
            let message = ctx.receive().await;
            let reply = json!([message.payload().and_then(Payload::as_json)]);
            message.reply(reply)?;
        }
    });
    let sums = world.start("app:sums");
    let reply = within("a reply", world.processes.call(&world.root, sums, json!(5))).await.unwrap();
    assert_eq!(reply, json!({ "sum": 5 }).into());
    let native = world.start("app:native");
    assert_eq!(world.ran(&format!("return process.call('{native}', 'hello')")).await, json!(["hello"]));
    world.function("app:function", &format!("return process.call('{native}', ...)"));
    let task = frame_dispatch::Task::new("app:function".parse().unwrap()).with_payload(json!(7));
    assert_eq!(within("a function", world.root.call(task)).await.unwrap(), json!([7]).into());
}

#[tokio::test]
async fn each_way_that_a_call_fails_has_its_kind() {
    let config = ManagerConfig::default().with_max_wait(Duration::from_millis(5));
    let world = World::with_manager(config, HostConfig::default().with_mailbox(1), |module| module);
    world.script("app:sums", SUMS);
    world.script("app:full", "while true do process.self() end");
    let source = format!(
        "{TRY}
         local sums = process.spawn {{ host = 'app:host', entry = 'app:sums' }}
         local full = process.spawn {{ host = 'app:host', entry = 'app:full', messages = {{ 1 }} }}
         local outcomes = {{
           try('nobody', 1), try(process.self(), 1), try(full, 1), try(sums, 'keep', {{ timeout = 0.01 }}),
           try(sums, 'kept', {{ timeout = '1h' }}), try(sums, 'fail', {{ timeout = '1h' }}), try(sums, 1),
           try(process.spawn {{ host = 'app:host', entry = 'app:sums' }}, 'drop', {{ timeout = '1h' }}),
         }}
         process.terminate(full)
         return outcomes"
    );
    let expected = json!([
        "not_found",
        "invalid",
        "exhausted",
        "deadline",
        1,
        "unavailable",
        "not_found",
        "unavailable"
    ]);
    assert_eq!(world.ran(&source).await, expected);
}

#[tokio::test]
async fn what_is_no_call_or_no_timeout_is_an_error() {
    let world = World::new();
    for (source, error) in [
        ("process.call('x', 1, 5)", "the options of `process.call` are a table"),
        ("process.call('x', 1, { time = 5 })", "no options but `timeout`"),
        ("process.call('x', 1, { timeout = 'soon' })", "not a duration"),
        ("process.call('x', 1, { timeout = -1 })", "0 or more"),
        ("process.call('x', 1, { timeout = true })", "a number of seconds or a string"),
        ("process.call('x', print)", "a function"),
    ] {
        let failed = world.failed(source).await;
        assert_eq!(failed.kind(), ErrorKind::Invalid, "{failed}");
        assert!(failed.message().contains(error), "{failed}");
    }
}

#[tokio::test]
async fn a_script_replies_once_and_learns_whether_that_was_in_time() {
    let world = World::new();
    let source = "local said = {}
                  for index = 1, 2 do
                    local m = process.receive()
                    said[#said + 1] = m.reply:is_awaited()
                    if index == 2 then
                      while m.reply:is_awaited() do process.receive_matching({ kind = 'exited' }, 0.001) end
                    end
                    said[#said + 1] = m:reply(index)
                    said[#said + 1] = m.reply:is_awaited()
                    local ok, again = pcall(m.reply, m, index)
                    said[#said + 1] = not ok and again.message
                  end
                  said[#said + 1] = process.receive().reply == nil
                  return said";
    world.script("app:replies", source);
    let pid = world.start("app:replies");
    let exit = world.processes.monitor(pid).unwrap();
    assert_eq!(world.processes.call(&world.root, pid, json!(0)).await.unwrap(), json!(1).into());
    let late = world.processes.call_timeout(&world.root, pid, json!(0), Duration::from_millis(20)).await;
    assert!(matches!(late, Err(ProcessCallError::Deadline { .. })), "{late:?}");
    world.processes.send(&world.root, pid, json!(0)).await.unwrap();
    let exit = within("the exit", exit).await;
    let second = "the call already has a reply";
    let said = json!([true, true, false, second, true, false, false, second, true]);
    assert_eq!(exit.result.as_deref(), Some(&said.into()), "{:?}", exit.reason);
}

#[tokio::test]
async fn a_function_that_a_script_waits_for_does_not_wait_for_the_mailbox_of_that_script() {
    let world = World::with_host(HostConfig::default().with_mailbox(1));
    let source = "local to = ...
                  process.try_send(to, 1)
                  local sent, full = pcall(process.send, to, 2)
                  local called, own = pcall(process.call, to, 3, { timeout = '1h' })
                  return { sent, full.kind, called, own.kind }";
    world.function("app:disturbs", source);
    let source = "local disturbed = call('app:disturbs', process.self())
                  local m = process.receive()
                  return { disturbed, m.payload, m.from == process.self() }";
    let expected = json!([[false, "exhausted", false, "invalid"], 1, true]);
    assert_eq!(world.ran(source).await, expected);
}

#[tokio::test]
async fn a_script_receives_what_matches_and_leaves_the_rest_in_order() {
    let world = World::new();
    world.script("app:waits", "process.receive()");
    let source = "local own = process.self()
                  local child = process.spawn { host = 'app:host', entry = 'app:waits', monitor = true }
                  for _, payload in ipairs { 1, { tag = 'a', id = 1 }, 'two', { tag = 'b', id = 2 }, { 3, 4 } } do
                    process.send(own, payload)
                  end
                  process.terminate(child)
                  local function take(pattern)
                    local m = process.receive_matching(pattern, 5)
                    return m.kind == 'exited' and m.pid or m.payload
                  end
                  local taken = {
                    take { payload = { tag = 'b' } }.id, take { payload = 'two' }, take { payload = { 3 } }[2],
                    take { pid = child } == child,
                    take { kind = 'sent', from = own, payload = { id = 1 } }.tag,
                    process.receive_matching({ payload = { tag = 'a' } }, 0.001) == nil,
                    process.receive_matching({ kind = 'exited' }, 0) == nil,
                    process.receive().payload,
                  }
                  return taken";
    assert_eq!(world.ran(source).await, json!([2, "two", 4, true, "a", true, true, 1]));
    for (source, error) in [
        ("process.receive_matching(1)", "a pattern is a table"),
        ("process.receive_matching { 1 }", "named members"),
        ("process.receive_matching { tag = 1 }", "the members `kind`, `from`"),
        ("process.receive_matching { kind = 'call' }", "`kind` is"),
        ("process.receive_matching { from = 'name' }", "is no PID"),
    ] {
        let failed = world.failed(source).await;
        assert!(failed.message().contains(error), "{failed}");
    }
    let long = world.failed("process.receive_matching { payload = ('x'):rep(5000) }").await;
    assert_eq!(long.kind(), ErrorKind::Exhausted);
}

#[tokio::test]
async fn what_others_have_filled_a_mailbox_with_does_not_keep_out_what_its_script_waits_for() {
    let world = World::with_host(HostConfig::default().with_mailbox(2));
    let receives = "local m = process.receive_matching({ payload = { tag = 'wanted' } })
                    return { m.payload.value, process.receive().payload, process.receive().payload }";
    world.script("app:receives", receives);
    world.native("app:floods", async |ctx: ProcessContext, payload: Payload| {
        let to = payload.as_json().unwrap().as_str().unwrap().to_owned();
        // More than there is room for; they wait.
        let floods: Vec<_> = (0..20).map(|number| Box::pin(ctx.send(&to, json!(number)))).collect();
        for flood in floods {
            tokio::select! {
                biased;
                _ = flood => (),
                () = tokio::task::yield_now() => (),
            }
        }
        let waits: Vec<_> = (0..20).map(|number| ctx.send(&to, json!(100 + number))).collect();
        let mut waits: Vec<_> = waits.into_iter().map(Box::pin).collect();
        for wait in &mut waits {
            tokio::select! {
                biased;
                _ = wait => panic!("the mailbox is full"),
                () = tokio::task::yield_now() => (),
            }
        }
        ctx.send(&to, json!({ "tag": "wanted", "value": 7 })).await?;
        Ok::<Payload, CallError>(Payload::default())
    });
    let receives = world.start("app:receives");
    let exit = world.processes.monitor(receives).unwrap();
    let floods = of("app:floods").with_payload(json!(receives.to_string()));
    within("a message past a full mailbox", world.processes.exec(&world.root, floods)).await.unwrap();
    let exit = within("the exit", exit).await;
    assert_eq!(exit.result.as_deref(), Some(&json!([7, 0, 1]).into()), "{:?}", exit.reason);
}
