//! Functions: registered, called, nested, refused.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use frame_dispatch::{
    BoxFuture, CallContext, CallError, ErrorKind, FUNCTION, Function, FunctionId, Functions, FunctionsError,
    Host, PID, Payload, Pid, Task,
};
use frame_registry::{
    App, FrameOption, FrameResolvers, Key, Options, Pair, ResolveContext, frame_option, frame_resolver,
};
use serde_json::json;

#[frame_option(name = "tenant")]
static TENANT: FrameOption<String>;
#[frame_option(name = "later", runtime)]
static LATER: FrameOption<bool>;

static TENANT_KEY: Key<String> = Key::new("tenant").inherit();
static SEEN: Key<u32> = Key::new("seen");

#[frame_resolver(order = 100, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {
    match options.get(&TENANT) {
        Some(tenant) if tenant == "nobody" => Err("nobody is no tenant".to_owned()),
        Some(tenant) if tenant == "anarchy" => panic!("out of order"),
        _ => Ok(options.pair(&TENANT, &TENANT_KEY)),
    }
}

fn functions() -> Functions {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    Functions::new(app.build())
}

fn id(text: &str) -> FunctionId {
    text.parse().unwrap()
}

fn tenant_option(tenant: &str) -> Options {
    Options::new().with(&TENANT, tenant.to_owned())
}

/// What it was called with, as JSON.
async fn show(ctx: CallContext, payload: Payload) -> Result<Payload, CallError> {
    let frame = ctx.frame();
    Ok(Payload::from(json!({
        "payload": payload.as_json(),
        "tenant": frame.get(&TENANT_KEY),
        "seen": frame.get(&SEEN),
        "function": frame.get(&FUNCTION).map(ToString::to_string),
        "pid": frame.get(&PID).map(|pid| pid.number()),
    })))
}

/// Calls the function that its payload names.
async fn nest(ctx: CallContext, payload: Payload) -> Result<Payload, CallError> {
    let inner = payload.as_json().and_then(|json| json.as_str()).unwrap().to_owned();
    ctx.call(Task::new(id(&inner))).await
}

async fn called(functions: &Functions, task: Task) -> serde_json::Value {
    functions.root().call(task).await.unwrap().as_json().unwrap().clone()
}

#[tokio::test]
async fn options_of_the_call_go_over_those_of_the_entry() {
    let functions = functions();
    functions.register(id("app:show"), tenant_option("entry"), show).unwrap();
    assert_eq!(called(&functions, Task::new(id("app:show"))).await["tenant"], "entry");
    let task = Task::new(id("app:show")).with_options(tenant_option("call"));
    assert_eq!(called(&functions, task).await["tenant"], "call");
    assert_eq!(
        functions.options(&id("app:show")).unwrap().get(&TENANT).unwrap(),
        "entry",
        "a copy, unchanged"
    );
}

#[tokio::test]
async fn a_frame_has_id_and_a_fresh_pid_then_the_tasks_pairs_then_what_is_resolved() {
    let functions = functions();
    functions.register(id("app:show"), Options::new(), show).unwrap();
    let task = || {
        let pairs = Task::new(id("app:show")).with_pair(SEEN.pair(1)).with_pair(SEEN.pair(2));
        pairs.with_pair(TENANT_KEY.pair("pair".to_owned())).with_payload(json!([1]))
    };
    let first = called(&functions, task()).await;
    assert_eq!(first["function"], "app:show");
    assert_eq!(
        (&first["seen"], &first["tenant"], &first["payload"]),
        (&json!(2), &json!("pair"), &json!([1]))
    );
    let second = called(&functions, task().with_options(tenant_option("option"))).await;
    assert_eq!(second["tenant"], "option", "a resolver wins over a pair");
    assert!(second["pid"].as_u64() > first["pid"].as_u64());
    let own = Pid::next(Host::named("test"));
    let given = called(&functions, task().with_pair(PID.pair(own))).await;
    assert_eq!(given["pid"], own.number(), "the task's pairs win over id and PID");
}

#[tokio::test]
async fn a_nested_call_inherits_through_the_functions_own_frame() {
    let functions = functions();
    functions.register(id("app:show"), Options::new(), show).unwrap();
    functions.register(id("app:nest"), Options::new(), nest).unwrap();
    let task = Task::new(id("app:nest"))
        .with_payload(json!("app:show"))
        .with_options(tenant_option("outer"))
        .with_pair(SEEN.pair(1));
    let inner = called(&functions, task).await;
    assert_eq!((&inner["tenant"], &inner["seen"]), (&json!("outer"), &json!(null)), "only what is inherited");
    assert_eq!(inner["function"], "app:show");
}

#[tokio::test]
async fn a_function_whose_frame_is_refused_does_not_start() {
    let functions = functions();
    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    let counted = move |_: CallContext, _: Payload| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Ok(Payload::default()) }
    };
    functions.register(id("app:counted"), Options::new(), counted).unwrap();
    let refused = [
        (tenant_option("nobody"), "frame resolver `tenant`"),
        (Options::new().with(&LATER, true), "option `later`"),
        (tenant_option("anarchy"), "panicked: out of order"),
    ];
    for (options, cause) in refused {
        let error =
            functions.root().call(Task::new(id("app:counted")).with_options(options)).await.unwrap_err();
        assert_eq!((error.kind(), error.function()), (ErrorKind::Denied, Some(&id("app:counted"))));
        assert_eq!(error.to_string(), "call of `app:counted`: its frame was refused, so it did not start");
        let source = error.source().unwrap();
        assert!(source.to_string().starts_with(cause), "{source}");
    }
    assert_eq!(started.load(Ordering::Relaxed), 0);
    functions.root().call(Task::new(id("app:counted"))).await.unwrap();
    assert_eq!(started.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn functions_are_registered_replaced_and_removed_by_id() {
    let functions = functions();
    let task = || Task::new(id("app:show"));
    let error = functions.root().call(task()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "call of `app:show`: no function is registered by this id");
    let missing = functions.replace(id("app:show"), Options::new(), show).unwrap_err();
    assert_eq!(missing, FunctionsError::NotRegistered { id: id("app:show") });

    functions.register(id("app:show"), tenant_option("old"), show).unwrap();
    let taken = functions.register(id("app:show"), Options::new(), show).unwrap_err();
    assert_eq!(taken, FunctionsError::AlreadyRegistered { id: id("app:show") });
    assert_eq!(called(&functions, task()).await["tenant"], "old");

    functions.replace(id("app:show"), Options::new(), show).unwrap();
    assert_eq!(called(&functions, task()).await["tenant"], json!(null), "the old options are gone");
    assert_eq!(functions.ids(), [id("app:show")]);
    assert!(functions.unregister(&id("app:show")).is_some());
    assert!(functions.unregister(&id("app:show")).is_none());
    functions.root().call(task()).await.unwrap_err();
}

#[tokio::test]
async fn a_call_that_has_begun_goes_on_with_the_function_it_began_with() {
    let functions = functions();
    let (entered, has_entered) = tokio::sync::oneshot::channel();
    let (leave, may_leave) = tokio::sync::oneshot::channel::<()>();
    let channels = std::sync::Mutex::new(Some((entered, may_leave)));
    let slow = move |_: CallContext, _: Payload| {
        let (entered, may_leave) = channels.lock().unwrap().take().expect("called once");
        async move {
            entered.send(()).unwrap();
            may_leave.await.unwrap();
            Ok(Payload::from(json!("old")))
        }
    };
    functions.register(id("app:f"), Options::new(), slow).unwrap();
    let others = functions.clone();
    let root = functions.root();
    let (old, ()) = tokio::join!(root.call(Task::new(id("app:f"))), async {
        has_entered.await.unwrap();
        others.replace(id("app:f"), Options::new(), show).unwrap();
        leave.send(()).unwrap();
    });
    assert_eq!(old.unwrap().as_json(), Some(&json!("old")));
    assert_eq!(called(&functions, Task::new(id("app:f"))).await["function"], "app:f");
}

#[tokio::test]
async fn a_panic_is_the_failure_of_the_function_that_panicked() {
    let functions = functions();
    functions
        .register(id("app:late"), Options::new(), async |_: CallContext, _: Payload| {
            panic!("out of {}", "order")
        })
        .unwrap();
    let early = |_: CallContext, _: Payload| -> std::future::Ready<Result<Payload, CallError>> {
        panic!("too early")
    };
    functions.register(id("app:early"), Options::new(), early).unwrap();
    functions.register(id("app:nest"), Options::new(), nest).unwrap();
    for (inner, message) in [("app:late", "out of order"), ("app:early", "too early")] {
        let error =
            functions.root().call(Task::new(id("app:nest")).with_payload(json!(inner))).await.unwrap_err();
        assert_eq!((error.kind(), error.function()), (ErrorKind::Internal, Some(&id(inner))));
        assert_eq!(error.to_string(), format!("call of `{inner}`: panicked: {message}"));
    }
}

#[tokio::test]
async fn dropping_a_call_drops_the_function() {
    let functions = functions();
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let forever = move |_: CallContext, _: Payload| {
        let held = Arc::clone(&held);
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok(Payload::default())
        }
    };
    functions.register(id("app:forever"), Options::new(), forever).unwrap();
    let root = functions.root();
    let mut call = Box::pin(root.call(Task::new(id("app:forever"))));
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_pending())).await);
    assert_eq!(Arc::strong_count(&alive), 3);
    drop(call);
    assert_eq!(Arc::strong_count(&alive), 2);
}

/// Returns its text.
struct Says(&'static str);

impl Function for Says {
    fn call(&self, _: CallContext, _: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        Box::pin(async { Ok(json!(self.0).into()) })
    }
}

#[tokio::test]
async fn many_functions_are_put_in_one_step_over_those_that_are_there() {
    let functions = functions();
    functions.apply([(id("app:old"), Options::new(), Says("old"))]).unwrap();
    let new = ["app:old", "app:new"].map(|name| (id(name), tenant_option("entry"), Says("new")));
    let retired = functions.apply(new).unwrap();
    assert_eq!(retired.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["app:old"]);
    for name in ["app:old", "app:new"] {
        assert_eq!(functions.options(&id(name)), Some(tenant_option("entry")));
        assert_eq!(called(&functions, Task::new(id(name))).await, "new");
    }
    for (_, retired) in retired {
        retired.drained().await;
    }
    functions.stop(tokio::time::Instant::now()).await;
    let refused = functions.apply([(id("app:late"), Options::new(), Says("late"))]).unwrap_err();
    assert_eq!(refused, FunctionsError::Stopping { id: id("app:late") });
}
