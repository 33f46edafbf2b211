//! The tests that the guide's page on testing shows.

// ANCHOR: resolver
use frame_registry::{App, FrameOption, FrameResolvers, Key, Options, Pair, ResolveContext};
use frame_registry::{frame_option, frame_resolver};

#[frame_option(name = "tenant")]
static TENANT: FrameOption<String>;
static TENANT_KEY: Key<String> = Key::new("tenant").inherit().public();

#[frame_resolver(order = 300, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {
    if !options.is_trusted(&TENANT) {
        return Err("a script does not choose its tenant".to_owned());
    }
    Ok(options.pair(&TENANT, &TENANT_KEY))
}

#[test]
fn the_tenant_of_a_call_is_on_its_frame() {
    let app = App::builder().build();
    let options = Options::new().with(&TENANT, "acme".to_owned());
    let pair = tenant(&ResolveContext::new(&app, None), &options).unwrap();
    assert!(pair.is_some());
}
// ANCHOR_END: resolver

// ANCHOR: script
use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_dispatch::{CallError, ErrorKind, Functions, Payload, Task};
use serde_json::json;

/// An app with the function `app:greet`, in Lua, and a stub of the function that it calls.
fn app() -> Functions {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    let functions = Functions::new(app.build());
    let lua = LuaEngine::builder().build().unwrap();
    let scripts = [
        ("app:greet", "return call('app:translate', 'hello') .. ', ' .. (frame.get('tenant') or 'nobody')"),
        ("app:translate", "return 'bonjour'"),
    ];
    for (id, source) in scripts {
        let function = lua.function(id, source, LuaConfig::default()).unwrap();
        functions.register(id.parse().unwrap(), Options::new(), function).unwrap();
    }
    functions
}

async fn greet(options: Options) -> Result<Payload, CallError> {
    app().root().call(Task::new("app:greet".parse().unwrap()).with_options(options)).await
}

#[tokio::test]
async fn the_greeting_names_the_tenant() {
    let options = Options::new().with(&TENANT, "acme".to_owned());
    assert_eq!(greet(options).await.unwrap(), json!("bonjour, acme").into());
    assert_eq!(greet(Options::new()).await.unwrap(), json!("bonjour, nobody").into());
}

#[tokio::test]
async fn a_script_cannot_set_the_tenant() {
    let options = Options::from_untrusted_json(&json!({ "tenant": "rival" })).unwrap();
    assert_eq!(greet(options).await.unwrap_err().kind(), ErrorKind::Denied);
}
// ANCHOR_END: script

// ANCHOR: time
use std::time::Duration;

use frame_dispatch::process::{HostConfig, Message, ProcessContext, ProcessManager, Spawn};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn the_reminder_comes_after_a_day() {
    let functions = Functions::new(App::builder().build());
    let processes = ProcessManager::new(functions.clone());
    processes.register_host("app:workers".parse().unwrap(), HostConfig::default()).unwrap();
    let reminder = async |mut ctx: ProcessContext| {
        ctx.send_after(Duration::from_hours(24), json!("feed the cat"))?;
        match ctx.receive().await {
            Message::Timer(tick) => Ok::<_, frame_registry::BoxError>(tick.payload),
            other => Err(format!("{other:?}").into()),
        }
    };
    processes.register("app:reminder".parse().unwrap(), Options::new(), reminder).unwrap();

    let began = Instant::now();
    let spawn = Spawn::new("app:workers".parse().unwrap(), "app:reminder".parse().unwrap());
    let result = processes.exec(&functions.root(), spawn).await.unwrap();
    assert_eq!(result, json!("feed the cat").into());
    assert!(began.elapsed() >= Duration::from_hours(24));
}
// ANCHOR_END: time
