//! Scripts that watch others, and are linked to them.

use std::sync::Arc;

use frame_dispatch::process::{ExitReason, ProcessContext};
use frame_dispatch::{CallError, ErrorKind, Payload};
use serde_json::json;

use super::world::{World, within};

#[tokio::test]
async fn the_exit_of_a_script_has_its_result_or_its_error() {
    let world = World::new();
    world.script("app:done", "return { 1, 2 }");
    world.script("app:fails", "error { kind = 'unavailable', message = 'not just now' }");
    world.script("app:calls", "call('app:missing')");
    let exit = world.exit(world.start("app:fails")).await;
    let ExitReason::Failed(error) = exit.reason else { panic!("{exit:?}") };
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "not just now"));
    let exit = world.exit(world.start("app:calls")).await;
    assert!(
        matches!(&exit.reason, ExitReason::Failed(error) if error.kind() == ErrorKind::NotFound),
        "{exit:?}"
    );

    let source = "local function exit_of(entry)
                    local pid = process.spawn { host = 'app:host', entry = entry, monitor = true }
                    local m = process.receive()
                    return { m.kind, m.pid == pid, m.reason, m.message, m.result or null, m.error and m.error.kind or null,
                             m.error and tostring(m.error) or null }
                  end
                  return { exit_of('app:done'), exit_of('app:fails') }";
    let expected = json!([
        ["exited", true, "normal", "it ended normally", [1, 2], null, null],
        ["exited", true, "failed", "it failed: not just now", null, "unavailable", "not just now"],
    ]);
    assert_eq!(world.ran(source).await, expected);
}

#[tokio::test]
async fn the_error_of_another_can_be_raised_again() {
    let world = World::new();
    world.script("app:fails", "error { kind = 'unavailable', message = 'not just now' }");
    let source = "process.spawn { host = 'app:host', entry = 'app:fails', monitor = true }
                  error(process.receive().error)";
    let error = world.failed(source).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_linked_script_ends_with_the_one_that_failed_or_receives_that() {
    let world = World::new();
    world.script("app:fails", "process.receive() error('on purpose')");
    let start = "local pid = process.spawn { host = 'app:host', entry = 'app:fails', link = true } ";
    let ends = format!("{start} process.send(pid, 1) process.receive()");
    world.script("app:ends", &ends);
    let exit = world.exit(world.start("app:ends")).await;
    assert!(matches!(exit.reason, ExitReason::LinkDown(_)), "{exit:?}");

    let traps = format!(
        "process.trap_links(true) {start} process.send(pid, 1)
         local m = process.receive() return {{ m.kind, m.pid == pid, m.reason, m.error.message }}"
    );
    assert_eq!(world.ran(&traps).await, json!(["link_down", true, "failed", "script:1: on purpose"]));

    let unlinks = format!(
        "{start} process.monitor(pid) process.unlink(pid) process.send(pid, 1)
         return process.receive().kind"
    );
    assert_eq!(world.ran(&unlinks).await, "exited");
}

#[tokio::test]
async fn where_links_end_a_process_it_is_told_which_failed_first() {
    let world = World::new();
    world.script("app:fails", "process.receive() error('on purpose')");
    let middle = "process.send(..., process.spawn { host = 'app:host', entry = 'app:fails', link = true })
                  process.receive()";
    world.script("app:middle", middle);
    let source = "local middle = process.spawn {
                    host = 'app:host', entry = 'app:middle', payload = process.self(), monitor = true,
                  }
                  local first = process.receive().payload
                  process.send(first, 1)
                  local m = process.receive()
                  return { m.pid == middle, m.reason, m.origin == first }";
    assert_eq!(world.ran(source).await, json!([true, "link_down", true]));
}

#[tokio::test]
async fn what_is_monitored_no_more_says_nothing_also_where_it_had() {
    let world = World::new();
    world.script("app:waits", "process.receive()");
    let source = "local function start(name)
                    return process.spawn { host = 'app:host', entry = 'app:waits', monitor = true, name = name }
                  end
                  local one, two, three = start('one'), start('two'), start()
                  local ended = { process.demonitor(one), process.demonitor(two), process.demonitor(two) }
                  for _, pid in ipairs { one, two, three } do process.send(pid, 1) end
                  local m = process.receive()
                  return { ended, m.pid == three and m.monitor == three, process.receive(0.01) == nil }";
    assert_eq!(world.ran(source).await, json!([[true, true, false], true, true]));
    let error = world.failed("process.demonitor('two')").await;
    assert!(error.message().contains(r#""two" is not the reference of a monitor"#), "{error}");
}

#[tokio::test]
async fn a_helper_that_monitors_the_same_process_does_not_disturb_its_caller() {
    let world = World::new();
    world.script("app:waits", "process.receive()");
    let source = "local pid = process.spawn { host = 'app:host', entry = 'app:waits' }
                  local function helper()
                    local monitor = process.monitor(pid)
                    return process.demonitor(monitor)
                  end
                  local own = process.monitor(pid)
                  local other = process.monitor(pid)
                  local helped = helper()
                  process.send(pid, 1)
                  local told = { [process.receive().monitor] = true, [process.receive().monitor] = true }
                  return { helped, told[own], told[other], own ~= other, process.receive(0.01) == nil }";
    assert_eq!(world.ran(source).await, json!([true, true, true, true, true]));
}

#[tokio::test]
async fn a_script_starts_what_it_supervises_again_where_it_fails() {
    let world = World::new();
    // Fails twice, as often as it was started before.
    world.script("app:worker", "if ... < 3 then error('again') end return 'the ' .. ... .. 'rd'");
    let supervisor = "process.trap_links(true)
                      local started, reasons = 0, {}
                      local function start()
                        started = started + 1
                        return process.spawn {
                          host = 'app:host', entry = 'app:worker', payload = started, name = 'worker',
                          link = true, monitor = true,
                        }
                      end
                      local worker = start()
                      while true do
                        local m = process.receive()
                        if m.kind == 'exited' and m.pid == worker then
                          reasons[started] = m.reason
                          if m.reason == 'normal' then return { started, reasons, m.result } end
                          worker = start()
                        end
                      end";
    assert_eq!(world.ran(supervisor).await, json!([3, ["failed", "failed", "normal"], "the 3rd"]));
}

#[tokio::test]
async fn names_are_of_processes_and_free_when_those_end() {
    let world = World::new();
    let source = "process.register('me') process.register('also me')
                  local found = process.whereis('me') == process.self() and process.whereis('also me') == process.self()
                  process.send('me', 7)
                  local gone = process.unregister('also me')
                  return { found, process.receive().payload, gone, process.whereis('also me') == nil, process.unregister('x') }";
    assert_eq!(world.ran(source).await, json!([true, 7, true, true, false]));
    assert_eq!(world.processes.whereis("me"), None);
    for (source, words) in [
        ("process.register('')", "not a valid name for a process"),
        ("process.register('{x')", "not a valid name"),
    ] {
        let error = world.failed(source).await;
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_module_does_not_keep_the_processes() {
    let world = World::new();
    let kept = Arc::new(());
    let gone = Arc::downgrade(&kept);
    world.native("app:keeps", move |_: ProcessContext, _: Payload| {
        let _kept = Arc::clone(&kept);
        async { Ok::<_, CallError>(Payload::default()) }
    });
    world.script("app:waits", "process.receive()");
    let pid = world.start("app:waits");
    world.processes.terminate(pid).unwrap();
    world.exit(pid).await;
    let World { processes, root, engine } = world;
    drop((processes, root));
    within("the entries to be dropped", async {
        while gone.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(engine);
}

#[tokio::test]
async fn processes_that_are_no_more_are_an_error() {
    let World { processes, root, engine } = World::new();
    let function =
        engine.function("script", "process.whereis('x')", frame_dispatch::lua::LuaConfig::default());
    processes
        .functions()
        .register("app:f".parse().unwrap(), frame_registry::Options::new(), function.unwrap())
        .unwrap();
    drop(processes);
    let error = root.call(frame_dispatch::Task::new("app:f".parse().unwrap())).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Unavailable, "the process manager has been dropped")
    );
}
