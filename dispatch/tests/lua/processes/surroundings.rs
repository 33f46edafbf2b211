//! What a script sees of its surroundings as a process, and of the process before it in its VM.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use frame_dispatch::lua::LuaConfig;
use frame_dispatch::{CallContext, Payload};
use frame_registry::Options;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::world::{World, of, within};
use crate::host::TENANT;

#[tokio::test]
async fn a_process_reads_its_frame_which_its_options_made_and_its_own_inherit() {
    let world = World::new();
    let source = "return { frame.get('process'), frame.get('pid') == process.self(), frame.get('tenant'),
                           frame.get('function') == nil }";
    let function = world.engine.function("script", source, LuaConfig::process()).unwrap();
    let preset = Options::new().with(&TENANT, "preset".to_owned());
    world.processes.register("app:shows".parse().unwrap(), preset, function).unwrap();
    let start = of("app:shows");
    let shown = within("it", world.processes.exec(&world.root, start.clone())).await.unwrap();
    assert_eq!(shown, json!(["app:shows", true, "preset", true]).into());
    let given = start.with_options(Options::new().with(&TENANT, "given".to_owned()));
    let shown = within("it", world.processes.exec(&world.root, given)).await.unwrap();
    assert_eq!(shown, json!(["app:shows", true, "given", true]).into());

    world.script("app:child", source);
    let parent = "local function shown(options)
                    return process.exec { host = 'app:host', entry = 'app:child', options = options }[3]
                  end
                  return { shown(), shown { tenant = 'inner' } }";
    world.script("app:parent", parent);
    let start = of("app:parent").with_options(Options::new().with(&TENANT, "outer".to_owned()));
    let shown = within("the parent", world.processes.exec(&world.root, start)).await.unwrap();
    assert_eq!(shown, json!(["outer", "inner"]).into());
}

#[tokio::test]
async fn a_process_calls_functions_whose_frames_inherit_from_its_own() {
    let world = World::new();
    let function = async |ctx: CallContext, payload: Payload| {
        let tenant = ctx.frame().public("tenant").and_then(Result::ok);
        Ok(json!([tenant, payload.as_json()]).into())
    };
    world.processes.functions().register("app:shows".parse().unwrap(), Options::new(), function).unwrap();
    world.script("app:calls", "return call('app:shows', 7)");
    let start = of("app:calls").with_options(Options::new().with(&TENANT, "mine".to_owned()));
    let shown = within("the call", world.processes.exec(&world.root, start)).await.unwrap();
    assert_eq!(shown, json!(["mine", 7]).into());
}

/// The fields of every event.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<BTreeMap<&'static str, String>>>>);

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Fields(BTreeMap<&'static str, String>);

        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.0.insert(field.name(), format!("{value:?}"));
            }
        }

        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

#[tokio::test]
async fn what_a_process_logs_names_it_and_no_function() {
    let events = Events::default();
    let _recorded = tracing::subscriber::set_default(tracing_subscriber::registry().with(events.clone()));
    let world = World::new();
    world.script("app:logs", "log.error('from here', { n = 1 }) return process.self()");
    let pid = within("it", world.processes.exec(&world.root, of("app:logs"))).await.unwrap();
    let events = events.0.lock().unwrap();
    let event = events.iter().find(|event| event.get("message").is_some_and(|it| it == "from here")).unwrap();
    assert_eq!(event.get("process").map(String::as_str), Some("app:logs"));
    assert_eq!(event.get("pid").map(String::as_str), pid.as_json().and_then(|pid| pid.as_str()));
    assert_eq!(event.get("function"), None);
}

#[tokio::test]
async fn a_process_sees_nothing_of_another_in_its_vm() {
    let world = World::new();
    let source = "local found = { leftover, rawget(process, 'leftover'), rawget(_G, 'leftover') }
                  if process.trap_links == nil or process.cancelled() or process.receive(0) then found[#found + 1] = 'more' end
                  leftover, process.leftover, process.trap_links = 1, 1, nil
                  local behind = coroutine.wrap(function() coroutine.yield() end)
                  behind()
                  process.send(process.self(), 'unread')
                  process.register('taken')
                  if ... == 'fails' then error('on purpose') end
                  return #found";
    let function = world.script("app:nosy", source);
    for payload in ["returns", "fails", "returns", "fails", "returns"] {
        let start = of("app:nosy").with_payload(json!(payload));
        let outcome = within("it", world.processes.exec(&world.root, start)).await;
        match payload {
            "fails" => assert!(outcome.unwrap_err().to_string().contains("on purpose")),
            _ => assert_eq!(outcome.unwrap(), json!(0).into()),
        }
    }
    assert_eq!(function.statistics().built, 1, "all were in one VM");

    let ended = world.script("app:ended", "leftover = 1 process.receive()");
    let pid = world.start("app:ended");
    while world.processes.info(pid).unwrap().state.as_str() != "receiving" {
        tokio::task::yield_now().await;
    }
    world.processes.terminate(pid).unwrap();
    world.exit(pid).await;
    assert_eq!((ended.statistics().discarded, ended.statistics().idle), (1, 0), "its VM is thrown away");
}
