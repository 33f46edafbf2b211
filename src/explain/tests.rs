use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use frame_dispatch::interceptor::{RETRY, RetryPolicy, TIMEOUT, Timeout};
use frame_dispatch::process::{HostConfig, ManagerConfig, ProcessContext, ProcessManager, Spawn};
use frame_dispatch::{CallContext, CallError, ErrorKind, Payload, Task};
use frame_net::{NETWORK, NETWORK_KEY, NetConfig, NetworkRegistry};
use frame_registry::{
    App, BoxError, Frame, FrameResolvers, Key, Pair, Registration, ResolveContext, Resolver,
};
use serde_json::{Value as Json, json};

use super::*;

static PASSWORD: Key<&str> = Key::new("password").secret();
static LABEL: Key<&str> = Key::new("label");

/// An app with the networks `app:lan` and `app:other`, and the functions `app:inner`, and `app:outer`, which calls it as a
/// script does.
fn functions() -> Functions {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    let networks: NetworkRegistry = frame_net::boot(&mut app, NetConfig::default()).unwrap();
    for id in ["app:lan", "app:other"] {
        networks.register_selectable(id.parse().unwrap(), Arc::new(frame_net::Direct::default())).unwrap();
    }
    let functions = Functions::new(app.build());
    let preset = Options::new().with(&NETWORK, "app:other".parse().unwrap());
    let answering = async |_: CallContext, _: Payload| Ok(Payload::default());
    functions.register(id("app:inner"), preset, answering).unwrap();
    let calling = async |ctx: CallContext, _: Payload| {
        let options = Options::new().with(&NETWORK, "app:lan".parse().unwrap()).untrusted();
        ctx.call(Task::new(id("app:inner")).with_options(options)).await?;
        ctx.call(Task::new(id("app:inner"))).await
    };
    functions.register(id("app:outer"), Options::new(), calling).unwrap();
    functions
}

fn id(text: &str) -> FunctionId {
    text.parse().unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Calls, and explains the call.
fn explained(functions: &Functions, root: &CallContext, task: Task, defaults: &Options) -> (Json, String) {
    let explain = Explain::start(functions, task.function(), defaults).unwrap();
    let _ = wait(root.call(task));
    let explanation = explain.finish();
    (serde_json::to_value(&explanation).unwrap(), explanation.to_string())
}

fn register(functions: &Functions, resolver: Resolver) -> Registration {
    functions.app().resolvers().register(resolver).unwrap()
}

fn labelling(name: &'static str, order: i32) -> Resolver {
    Resolver::new(name, order, |_: &ResolveContext<'_>, _: &Options| {
        Ok::<_, Infallible>([LABEL.pair("resolver"), PASSWORD.pair("xyzzy")])
    })
}

/// The key, the value, and who set it, of each pair.
fn pairs(frame: &Json) -> Vec<[&str; 3]> {
    frame["pairs"].as_array().unwrap().iter().map(described).collect()
}

fn described(pair: &Json) -> [&str; 3] {
    let by = pair.get("resolver").unwrap_or(&pair["by"]);
    [&pair["key"], &pair["value"], by].map(|text| text.as_str().unwrap())
}

#[test]
fn each_pair_says_who_set_it_and_from_which_option() {
    let functions = functions();
    let _labelling = register(&functions, labelling("labelling", 900));
    let root: Frame = [NETWORK_KEY.pair("app:other".parse().unwrap())].into_iter().collect();
    let task = Task::new(id("app:inner"))
        .with_options(Options::new().with(&NETWORK, "app:lan".parse().unwrap()))
        .with_pair(LABEL.pair("task"));
    let (json, table) = explained(&functions, &functions.root_in(root), task, &Options::new());

    let [frame] = &json["frames"].as_array().unwrap()[..] else { panic!("{json}") };
    let pid = frame["pid"].as_str().unwrap();
    assert_eq!(
        pairs(frame),
        [
            ["net.overlay", "app:other", "inherited"],
            ["function", "app:inner", "dispatcher"],
            ["pid", pid, "dispatcher"],
            ["attempt", "1", "dispatcher"],
            ["label", r#""task""#, "task"],
            ["net.overlay", "app:lan", "overlay"],
            ["label", r#""resolver""#, "labelling"],
            ["password", "<secret>", "labelling"],
        ]
    );
    let outdone: Vec<_> = frame["pairs"].as_array().unwrap().iter().map(|pair| &pair["outdone"]).collect();
    assert_eq!(outdone, [true, false, false, false, true, false, false, false].each_ref());
    assert_eq!((&frame["unit"], &frame["parent"]), (&json!({ "function": "app:inner" }), &Json::Null));
    let network = json!({ "name": "network", "from": "call", "trusted": true });
    assert_eq!((&frame["options"], &frame["outcome"]), (&json!([network]), &json!("built")));

    let steps = frame["steps"].as_array().unwrap();
    assert!(steps.is_sorted_by_key(|step| step["order"].as_i64()), "{json}");
    let overlay = steps.iter().find(|step| step["resolver"] == "overlay").unwrap();
    assert_eq!((&overlay["order"], &overlay["covers"]), (&json!(200), &json!([network])));
    assert!(overlay["defined_at"].as_str().unwrap().contains("src/overlay/"), "{json}");
    assert!(steps.iter().all(|step| step["nanoseconds"].as_u64() <= frame["nanoseconds"].as_u64()), "{json}");

    for shown in
        ["frame 1, of app:inner", pid, "network (call)", "outdone", "<secret>", "labelling", "built in"]
    {
        assert!(table.contains(shown), "{shown}:\n{table}");
    }
    assert!(!table.contains("xyzzy") && !json.to_string().contains("xyzzy"), "{table}");
}

#[test]
fn nested_calls_come_behind_with_who_made_them_and_where_their_options_are_from() {
    let functions = functions();
    let (json, table) = explained(&functions, &functions.root(), Task::new(id("app:outer")), &Options::new());
    let [outer, by_script, by_preset] = &json["frames"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!(outer["unit"], json!({ "function": "app:outer" }));
    for inner in [by_script, by_preset] {
        assert_eq!(inner["unit"], json!({ "function": "app:inner" }));
        assert_eq!(inner["parent"], json!({ "unit": { "function": "app:outer" }, "pid": outer["pid"] }));
    }
    assert_eq!(by_script["options"], json!([{ "name": "network", "from": "call", "trusted": false }]));
    assert_eq!(by_preset["options"], json!([{ "name": "network", "from": "preset", "trusted": true }]));
    for shown in ["frame 3", "spawned by app:outer", "network (call, untrusted)", "network (preset)"] {
        assert!(table.contains(shown), "{shown}:\n{table}");
    }
}

#[test]
fn each_attempt_has_a_frame_and_defaults_are_told_from_presets() {
    let functions = functions();
    let defaults = Options::new().with(&TIMEOUT, Timeout::new(Duration::from_mins(1)).unwrap());
    let preset = Options::new().with(&RETRY, RetryPolicy::new(2));
    let failing = async |_: CallContext, _: Payload| Err(CallError::new(ErrorKind::Unavailable, "not yet"));
    functions.register(id("app:failing"), defaults.merged_under(&preset), failing).unwrap();
    let (json, table) = explained(&functions, &functions.root(), Task::new(id("app:failing")), &defaults);
    let [first, second] = &json["frames"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!((&first["attempt"], &second["attempt"]), (&json!(1), &json!(2)));
    assert_ne!(first["pid"], second["pid"]);
    let expected = json!([
        { "name": "timeout", "from": "default", "trusted": true },
        { "name": "retry", "from": "preset", "trusted": true },
    ]);
    assert_eq!((&first["options"], &second["options"]), (&expected, &expected));
    assert!(table.contains("options: timeout (default), retry (preset)"), "{table}");
}

#[test]
fn a_refused_frame_says_by_which_resolver_and_why() {
    let functions = functions();
    let _registered = [
        register(&functions, labelling("labelling", 100)),
        register(
            &functions,
            Resolver::new("late", 900, |_: &ResolveContext<'_>, _: &Options| {
                Ok::<Option<Pair>, Infallible>(None)
            }),
        ),
    ];
    let options = Options::new().with(&NETWORK, "app:missing".parse().unwrap());
    let task = Task::new(id("app:inner")).with_options(options);
    let (json, table) = explained(&functions, &functions.root(), task, &Options::new());
    let frame = &json["frames"][0];
    assert_eq!(frame["outcome"], "refused");
    let error = frame["error"].as_str().unwrap();
    assert!(error.starts_with("`overlay` is refused: ") && error.contains("app:missing"), "{error}");
    let steps = frame["steps"].as_array().unwrap();
    assert_eq!(steps.last().unwrap()["resolver"], "overlay", "none ran behind it");
    for shown in ["refused after", "dropped", "app:missing"] {
        assert!(table.contains(shown), "{shown}:\n{table}");
    }
}

#[test]
fn a_frame_whose_resolver_panicked_says_so() {
    let functions = functions();
    let panicking = Resolver::new(
        "panicking",
        900,
        |_: &ResolveContext<'_>, _: &Options| -> Result<[Pair; 0], BoxError> { panic!("out of order") },
    );
    let _panicking = register(&functions, panicking);
    let (json, table) = explained(&functions, &functions.root(), Task::new(id("app:inner")), &Options::new());
    let frame = &json["frames"][0];
    assert_eq!((&frame["outcome"], &frame["error"]), (&json!("panicked"), &json!("out of order")));
    assert!(table.contains("a resolver panicked: out of order"), "{table}");
}

#[test]
fn a_resolver_that_makes_no_pair_is_shown_all_the_same() {
    let functions = functions();
    let idle =
        Resolver::new("idle", 5, |_: &ResolveContext<'_>, _: &Options| Ok::<Option<Pair>, Infallible>(None));
    let _idle = register(&functions, idle);
    let (json, table) = explained(&functions, &functions.root(), Task::new(id("app:inner")), &Options::new());
    assert_eq!(
        (&json["frames"][0]["steps"][0]["resolver"], &json["frames"][0]["steps"][0]["pairs"]),
        (&json!("idle"), &json!(0))
    );
    assert!(table.lines().any(|line| line.contains("idle") && line.contains("no pair")), "{table}");
}

#[test]
fn processes_that_the_call_starts_are_part_of_it_and_what_else_runs_is_not() {
    let functions = functions();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let processes = ProcessManager::with_config(functions.clone(), ManagerConfig::default());
    processes.register_host("app:host".parse().unwrap(), HostConfig::default()).unwrap();
    let calling = async |ctx: ProcessContext, _: Payload| ctx.ctx().call(Task::new(id("app:inner"))).await;
    processes.register("app:worker".parse().unwrap(), Options::new(), calling).unwrap();
    let worker = || Spawn::new("app:host".parse().unwrap(), "app:worker".parse().unwrap());
    let manager = processes.clone();
    let starting = move |ctx: CallContext, _: Payload| {
        let (manager, worker) = (manager.clone(), worker());
        async move { manager.exec(&ctx, worker).await.map_err(CallError::from) }
    };
    functions.register(id("app:starting"), Options::new(), starting).unwrap();

    let explain = Explain::start(&functions, &id("app:starting"), &Options::new()).unwrap();
    runtime.block_on(async {
        processes.exec(&functions.root(), worker()).await.unwrap();
        functions.root().call(Task::new(id("app:inner"))).await.unwrap();
        functions.root().call(Task::new(id("app:starting"))).await.unwrap();
    });
    let explanation = explain.finish();
    let units: Vec<_> = explanation
        .frames
        .iter()
        .filter_map(|frame| frame.unit.as_ref())
        .map(ExplainedUnit::to_string)
        .collect();
    assert_eq!(units, ["app:starting", "process app:worker", "app:inner"]);
    assert_eq!(explanation.frames[2].parent.as_ref().map(|parent| parent.pid), explanation.frames[1].pid);
}

#[test]
fn frames_beyond_the_limit_are_counted() {
    let functions = functions();
    let calling = async |ctx: CallContext, _: Payload| {
        for _ in 0..FRAMES + 4 {
            ctx.call(Task::new(id("app:inner"))).await?;
        }
        Ok(Payload::default())
    };
    functions.register(id("app:many"), Options::new(), calling).unwrap();
    let explain = Explain::start(&functions, &id("app:many"), &Options::new()).unwrap();
    wait(functions.root().call(Task::new(id("app:many")))).unwrap();
    let explanation = explain.finish();
    assert_eq!((explanation.frames.len(), explanation.omitted), (FRAMES, 5));
}

#[test]
fn a_call_that_is_not_made_has_no_frame() {
    let functions = functions();
    let explain = Explain::start(&functions, &id("app:missing"), &Options::new()).unwrap();
    wait(functions.root().call(Task::new(id("app:missing")))).unwrap_err();
    assert_eq!(explain.finish().to_string(), "no frame was built");
}
