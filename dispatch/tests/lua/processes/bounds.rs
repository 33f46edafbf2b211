//! What a script cannot do to others with what it sends, gives back or raises.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::lua::LuaConfig;
use frame_dispatch::process::{Exit, ExitReason, HostConfig, ManagerConfig};
use frame_dispatch::{CallError, ErrorKind, Payload};
use serde_json::{Value as Json, json};

use super::world::{World, of, within};

/// As JSON it is small, as tables it is not: each of them takes 56 bytes, and a place in the array.
const MANY_TABLES: &str = "local one, all = {}, {} for i = 1, 520000 do all[i] = one end";

fn failure(exit: &Exit) -> &Arc<CallError> {
    match &exit.reason {
        ExitReason::Failed(error) => error,
        other => panic!("{other}"),
    }
}

fn causes(error: &CallError) -> Vec<String> {
    let mut next = error.source();
    let mut causes = Vec::new();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}

#[tokio::test]
async fn a_failure_that_one_process_after_another_raises_again_stays_what_it_was() {
    const PROCESSES: usize = 100;
    let world = World::new();
    world.function("app:fails", "error { kind = 'invalid', message = 'no such thing' }");
    let of_call = ["call of `app:fails`: no such thing".to_owned()];
    for (raises, message, first) in [
        ("error { kind = 'invalid', message = 'no such thing' }", "no such thing", &[][..]),
        ("call('app:fails')", "a call of `app:fails` failed, and the script did not catch it", &of_call),
    ] {
        let source = format!(
            "local n = ...
             if n == 0 then {raises} end
             process.spawn {{ host = 'app:host', entry = 'app:again', payload = n - 1, monitor = true }}
             error(process.receive().error)"
        );
        world.script("app:again", &source);
        let start = of("app:again").with_payload(json!(PROCESSES));
        let exit = world.exit(world.processes.spawn(&world.root, start).unwrap()).await;
        let error = failure(&exit);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, message));
        assert_eq!(causes(error), first);
        world.processes.unregister(&"app:again".parse().unwrap());
    }
}

#[tokio::test]
async fn a_failure_that_one_function_after_another_raises_again_keeps_its_first_cause() {
    let world = World::new();
    world.function("app:first", "error('no such thing')");
    world.function("app:second", "call('app:first')");
    world.function("app:third", "call('app:second')");
    let error = world.failed("call('app:third')").await;
    assert_eq!(error.message(), "a call of `app:third` failed, and the script did not catch it");
    assert_eq!(causes(&error)[0], "call of `app:first`: script:1: no such thing");
}

/// Each is more than 8 MiB hold.
fn large() -> [Payload; 3] {
    [json!("x".repeat(15 << 20)).into(), vec![0; 15 << 20].into(), json!(vec![json!([]); 520_000]).into()]
}

#[tokio::test]
async fn a_message_that_does_not_fit_leaves_whoever_receives_it_alive() {
    let world = World::new();
    let counts = "local n = 0
                  while true do
                    local m = process.receive()
                    if m.kind ~= 'sent' then return n end
                    n = n + 1
                  end";
    world.script_with("app:counts", counts, LuaConfig::process().with_memory(8 << 20));
    let pid = world.start("app:counts");
    let exit = world.processes.monitor(pid).unwrap();
    for payload in large() {
        within("room", world.processes.send(&world.root, pid, payload)).await.unwrap();
    }
    world.ran(&format!("{MANY_TABLES} process.send('{pid}', all)")).await;
    within("room", world.processes.send(&world.root, pid, json!("small"))).await.unwrap();
    // Cancelled any earlier it would be told so before it has received them all.
    while world.processes.info(pid).unwrap().mailbox > 0 {
        tokio::task::yield_now().await;
    }
    world.processes.cancel(pid, "enough", Duration::from_mins(1)).unwrap();
    assert_eq!(within("the exit", exit).await.result.as_deref(), Some(&json!(5).into()));
}

#[tokio::test]
async fn a_message_that_does_not_fit_says_so_and_who_sent_it() {
    let world = World::new();
    world.script(
        "app:told",
        "local m = process.receive()
         return { m.kind, m.from, m.payload == nil, m.too_large, process.receive().too_large == nil }",
    );
    let told = world.start("app:told");
    let exit = world.processes.monitor(told).unwrap();
    world
        .script("app:sends", &format!("{MANY_TABLES} process.send('{told}', all) process.send('{told}', 1)"));
    let sends = world.start("app:sends");
    let result = json!(["sent", sends.to_string(), true, true, true]);
    assert_eq!(within("the exit", exit).await.result.as_deref(), Some(&result.into()));
}

/// JSON and bytes that take very different amounts of memory in a VM, of about `size` each.
fn shapes(size: usize) -> Vec<Payload> {
    let object = |members: usize, name: &dyn Fn(usize) -> String| -> Json {
        (0..members).map(|member| (name(member), json!(member))).collect::<serde_json::Map<_, _>>().into()
    };
    let deep = (0..100).fold(json!("x".repeat(size)), |inner, _| json!([inner]));
    vec![
        json!("x".repeat(size)).into(),
        vec![0; size].into(),
        deep.into(),
        json!(vec![1.5; size / 16]).into(),
        json!(vec![json!({}); size / 64]).into(),
        json!(vec![json!({ "a": 1 }); size / 128]).into(),
        json!((0..size / 32).map(|n| n.to_string()).collect::<Vec<_>>()).into(),
        json!((0..size / 64).map(|n| format!("{n:041}")).collect::<Vec<_>>()).into(),
        object(size / 64, &|n| n.to_string()).into(),
        object(((size / 64).next_power_of_two() >> 1) + 1, &|n| format!("{n:050}")).into(),
    ]
}

#[tokio::test]
async fn no_message_whatever_its_shape_ends_whoever_keeps_the_last_one() {
    const MEMORY: usize = 2 << 20;
    let world = World::new();
    let keeps = "local kept, fit = nil, 0
                 while kept == nil or kept.payload ~= 'end' do
                   kept = process.receive()
                   if not kept.too_large then fit = fit + 1 end
                 end
                 return fit";
    world.script_with("app:keeps", keeps, LuaConfig::process().with_memory(MEMORY));
    let pid = world.start("app:keeps");
    let exit = world.processes.monitor(pid).unwrap();
    let mut sent = 0;
    for size in (1..8).map(|step| MEMORY / 5 * step) {
        for payload in shapes(size) {
            sent += 1;
            within("room", world.processes.send(&world.root, pid, payload)).await.unwrap();
        }
    }
    within("room", world.processes.send(&world.root, pid, json!("end"))).await.unwrap();
    let exit = within("the exit", exit).await;
    let Some(Payload::Json(fit)) = exit.result.as_deref() else { panic!("{exit:?}") };
    let fit = fit.as_u64().unwrap();
    assert!((20..sent).contains(&fit), "{fit} of {sent}");
}

#[tokio::test]
async fn a_process_that_has_little_memory_left_receives_what_is_small() {
    let world = World::new();
    let source = "local full = ('x'):rep(7 << 20)
                  process.send(process.self(), { 'small' })
                  return { #full, process.receive().payload[1] }";
    world.script_with("app:full", source, LuaConfig::process().with_memory(8 << 20));
    let result = within("it", world.processes.exec(&world.root, of("app:full"))).await.unwrap();
    assert_eq!(result, json!([7 << 20, "small"]).into());
}

#[tokio::test]
async fn the_exit_of_a_process_arrives_without_a_result_that_does_not_fit() {
    let world = World::new();
    world.script("app:large", &format!("{MANY_TABLES} return all"));
    let source = "local pid = process.spawn { host = 'app:host', entry = 'app:large', monitor = true }
                  local m = process.receive()
                  return { m.kind, m.pid == pid, m.reason, m.result == nil, m.result_too_large }";
    assert_eq!(world.ran(source).await, json!(["exited", true, "normal", true, true]));
}

#[tokio::test]
async fn a_result_that_does_not_fit_is_a_failure_that_can_be_caught() {
    let world = World::new();
    let large = format!("{MANY_TABLES} return all");
    world.script("app:large", &large);
    world.function("app:large", &large);
    for waits in ["process.exec, { host = 'app:host', entry = 'app:large' }", "call, 'app:large'"] {
        let source = format!("local ok, e = pcall({waits}) return {{ ok, e.kind, e.retryable, e.message }}");
        let message = "the result does not fit into the memory that the script has left";
        assert_eq!(world.ran(&source).await, json!([false, "exhausted", false, message]), "{waits}");
    }
}

#[tokio::test]
async fn a_script_that_ran_out_of_memory_is_not_worth_a_retry() {
    let error =
        World::new().failed("local t = {} while true do t[#t + 1] = ('x'):rep(1 << 16) .. #t end").await;
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
}

#[tokio::test]
async fn what_was_not_sent_is_not_kept_behind_the_failure() {
    let config = ManagerConfig::default().with_max_wait(Duration::from_millis(2));
    let world = World::with_manager(config, HostConfig::default().with_mailbox(1), |module| module);
    let full = "process.register('full') process.send('full', 1)";
    let signal =
        "process.spawn_or_signal { host = 'app:host', entry = 'app:run', name = 'full', messages = { 2 } }";
    for (sends, words) in [
        (signal, "has the name, and did not receive the messages: its mailbox is full, with 1 messages"),
        ("process.send('full', 2)", "its mailbox is full, with 1 messages"),
    ] {
        let error = world.failed(&format!("{full} {sends}")).await;
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, true));
        assert!(error.message().ends_with(words), "{error}");
        assert_eq!(causes(&error), [""; 0]);
    }
}

#[tokio::test]
async fn what_a_function_of_the_module_does_not_take_is_refused_by_its_name() {
    let world = World::new();
    for (source, words) in [
        (
            "process.cancel(process.self())",
            "script:1: bad argument #2 to 'cancel' (string expected, got no value)",
        ),
        ("process.receive('a')", "script:1: bad argument #1 to 'receive' (number expected, got string)"),
        ("process.whereis({})", "script:1: bad argument #1 to 'whereis' (string expected, got table)"),
        (
            "process.spawn { host = 'app:host', entry = 'app:run', messages = { 1, nil, 3 } }",
            "`messages` is a list with 2 of the keys 1 to 3: fill the gaps with null",
        ),
    ] {
        assert_eq!(world.failed(source).await.message(), words, "{source}");
    }
}

#[tokio::test]
async fn what_was_not_started_is_told_once() {
    let world = World::new();
    let error = world.failed("process.spawn { host = 'app:host', entry = 'app:nothing' }").await;
    assert_eq!(error.to_string().matches("the process was not spawned").count(), 1, "{error}");
    let pid = world.start("app:run");
    let exit = world.exit(pid).await;
    assert_eq!(exit.reason.to_string().matches("the process was not spawned").count(), 1, "{}", exit.reason);
}
