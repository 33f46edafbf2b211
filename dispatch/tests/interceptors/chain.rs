//! The chain: order, changes while calls run, and what an interceptor can do to a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use frame_dispatch::interceptor::{RETRY, RetryPolicy, TIMEOUT};
use frame_dispatch::{
    BoxFuture, CallContext, CallError, ErrorKind, FUNCTION, Interceptor, InterceptorError, Next, PID,
    Payload, Task,
};
use frame_registry::{FrameOption, Options, frame_option};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::support::{
    Attempts, EXTRA, LABEL, LABELLED, Log, Wrap, fine, functions, id, json_of, read, task, task_with,
};

const BUILT_IN: [&str; 5] = ["timeout", "retry", "rate_limit", "max_concurrent", "traced"];

#[tokio::test]
async fn the_lowest_order_is_outermost_and_ties_stand_in_name_order() {
    let (functions, log) = (functions(), Log::default());
    assert_eq!(functions.interceptors().names(), BUILT_IN);
    for (name, order) in [("b", 10), ("c", i32::MAX), ("a", 10), ("z", -5), ("t", 100), ("u", 100)] {
        functions.interceptors().register(Wrap::logging(name, order, &log)).unwrap();
    }
    assert_eq!(
        functions.interceptors().names(),
        ["z", "a", "b", "t", "timeout", "u", "retry", "rate_limit", "max_concurrent", "traced", "c"]
    );
    let inside = log.clone();
    let function = move |_: CallContext, _: Payload| {
        inside.push("function");
        async { Ok(fine()) }
    };
    functions.register(id("app:f"), Options::new(), function).unwrap();
    functions.root().call(task("app:f")).await.unwrap();
    let begin = ["z", "a", "b", "t", "u", "c"].map(|name| format!("{name} begins"));
    let end = ["c", "u", "t", "b", "a", "z"].map(|name| format!("{name} ends"));
    assert_eq!(log.take(), [&begin[..], &["function".to_owned()], &end[..]].concat());
}

#[tokio::test]
async fn names_are_unique_and_a_name_that_is_removed_is_free() {
    let (functions, log) = (functions(), Log::default());
    Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let interceptors = functions.interceptors();
    interceptors.register(Wrap::logging("a", 1, &log)).unwrap();
    let taken = interceptors.register(Wrap::logging("a", 2, &log)).unwrap_err();
    assert_eq!(taken, InterceptorError::AlreadyRegistered { name: "a" });
    assert_eq!(
        taken.to_string(),
        "an interceptor `a` is registered already; unregister it first, or give this one another name"
    );
    functions.root().call(task("app:f")).await.unwrap();
    assert_eq!(log.take(), ["a begins", "a ends"]);
    assert!(interceptors.unregister("a"));
    assert!(!interceptors.unregister("a"));
    functions.root().call(task("app:f")).await.unwrap();
    assert!(log.take().is_empty());
    interceptors.register(Wrap::logging("a", 2, &log)).unwrap();
    assert_eq!(format!("{interceptors:?}").matches("\"a\"").count(), 1);
}

#[tokio::test]
async fn an_interceptor_is_replaced_in_one_step_if_there_is_one_of_its_name() {
    let (functions, log) = (functions(), Log::default());
    Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let interceptors = functions.interceptors();
    let error = interceptors.replace(Wrap::logging("a", 1, &log)).unwrap_err();
    assert_eq!(error.to_string(), "no interceptor `a` is registered; register this one");
    assert!(!interceptors.contains("a"));
    interceptors.register(Wrap::logging("a", 1, &log)).unwrap();
    interceptors.register(Wrap::logging("b", 2, &log)).unwrap();
    interceptors.replace(Wrap::logging("a", 3, &log)).unwrap();
    assert!(interceptors.contains("a"));
    assert_eq!(interceptors.names()[..2], ["b", "a"], "in the place of its own order");
    functions.root().call(task("app:f")).await.unwrap();
    assert_eq!(log.take(), ["b begins", "a begins", "a ends", "b ends"]);
}

#[tokio::test]
async fn options_are_merged_then_interceptors_run_then_the_frame_is_made() {
    let (functions, log) = (functions(), Log::default());
    let seen = log.clone();
    let looks = Wrap::new("sees", 1000, move |ctx, task, next| {
        let label = task.options().get(&LABEL).unwrap();
        seen.push(format!("{label} {} {:?}", next.preset().get(&LABEL).unwrap(), ctx.frame().get(&PID)));
        next.call(ctx, task)
    });
    functions.interceptors().register(looks).unwrap();
    let labels = async |ctx: CallContext, _: Payload| {
        assert!(ctx.frame().get(&PID).is_some());
        Ok(Payload::from(json!(ctx.frame().get(&LABELLED))))
    };
    functions.register(id("app:f"), read(&json!({ "label": "preset" })), labels).unwrap();
    functions.root().call(task("app:f")).await.unwrap();
    let shown = functions.root().call(task_with("app:f", &json!({ "label": "call" }))).await.unwrap();
    assert_eq!(json_of(shown), "call");
    assert_eq!(log.take(), ["preset preset None", "call preset None"]);
}

#[tokio::test]
async fn what_an_interceptor_changes_the_resolvers_and_the_function_see() {
    let functions = functions();
    let changes = Wrap::new("changes", 0, |ctx, mut task, next| {
        task.options_mut().set(&LABEL, "changed".to_owned());
        *task.payload_mut() = json!([task.payload().as_json(), next.function()]).into();
        next.call(ctx, task)
    });
    functions.interceptors().register(changes).unwrap();
    let labels = async |ctx: CallContext, payload: Payload| {
        Ok(Payload::from(json!([ctx.frame().get(&LABELLED), payload.as_json()])))
    };
    functions.register(id("app:f"), Options::new(), labels).unwrap();
    let shown = functions.root().call(task("app:f").with_payload(json!(1))).await.unwrap();
    assert_eq!(json_of(shown), json!(["changed", [1, "app:f"]]));
}

#[tokio::test]
async fn an_interceptor_can_answer_itself() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let answers = Wrap::new("answers", 0, |_, _, _| Box::pin(async { Ok(json!("answer").into()) }));
    functions.interceptors().register(answers).unwrap();
    assert_eq!(json_of(functions.root().call(task("app:f")).await.unwrap()), "answer");
    assert!(attempts.seen().is_empty());
}

#[tokio::test]
async fn an_interceptor_can_call_the_rest_twice_and_each_time_there_is_a_fresh_frame() {
    let (functions, log) = (functions(), Log::default());
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let twice = Wrap::new("twice", 0, |ctx, task, next| {
        Box::pin(async move {
            next.call(ctx, task.clone()).await?;
            next.call(ctx, task).await
        })
    });
    functions.interceptors().register(twice).unwrap();
    functions.interceptors().register(Wrap::logging("inside", 1, &log)).unwrap();
    functions.root().call(task("app:f")).await.unwrap();
    let seen = attempts.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].pid < seen[1].pid);
    assert_eq!(log.take(), ["inside begins", "inside ends", "inside begins", "inside ends"]);
}

#[tokio::test]
async fn an_interceptor_sees_what_comes_of_a_call_and_can_change_it() {
    let functions = functions();
    Attempts::register(&functions, "app:f", Options::new(), |_| Err(CallError::invalid("never")));
    let catches = Wrap::new("catches", 0, |ctx, task, next| {
        Box::pin(async move {
            let error = next.call(ctx, task).await.unwrap_err();
            Ok(json!(error.message()).into())
        })
    });
    functions.interceptors().register(catches).unwrap();
    assert_eq!(json_of(functions.root().call(task("app:f")).await.unwrap()), "never");
}

#[tokio::test]
async fn an_interceptor_that_reads_options_runs_where_one_of_them_is_set() {
    let (functions, log) = (functions(), Log::default());
    Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    functions.interceptors().register(Wrap::logging("a", 0, &log).reading(EXTRA.declared())).unwrap();
    functions.root().call(task_with("app:f", &json!({ "label": "x" }))).await.unwrap();
    assert!(log.take().is_empty());
    functions.root().call(task_with("app:f", &json!({ "extra": 1 }))).await.unwrap();
    assert_eq!(log.take().len(), 2);
}

#[tokio::test]
async fn a_plain_option_that_nobody_reads_is_refused() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let error = functions.root().call(task_with("app:f", &json!({ "extra": 1 }))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        "call of `app:f`: the option `extra` is set, and no interceptor that reads it is registered; register one, or \
         leave the option out"
    );
    for (name, value) in [
        ("timeout", json!("1s")),
        ("retry", json!(2)),
        ("rate_limit", json!("1/s")),
        ("max_concurrent", json!(1)),
        ("traced", json!(true)),
    ] {
        let task = || task_with("app:f", &json!({ name: value }));
        functions.root().call(task()).await.unwrap();
        assert!(functions.interceptors().unregister(name));
        let error = functions.root().call(task()).await.unwrap_err();
        assert!(error.message().starts_with(&format!("the option `{name}` is set, and no")), "{error}");
    }
    assert_eq!(attempts.seen().len(), BUILT_IN.len());
}

/// An interceptor `sets` of the order, which changes the options of every call.
fn sets(order: i32, change: impl Fn(&mut Options) + Send + Sync + 'static) -> Wrap {
    Wrap::new("sets", order, move |ctx, mut task, next| {
        change(task.options_mut());
        next.call(ctx, task)
    })
}

fn set_extra(options: &mut Options) {
    options.set(&EXTRA, 1);
}

#[tokio::test]
async fn an_option_that_is_set_further_inside_than_it_is_read_is_refused() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let retries = |options: &mut Options| {
        options.set(&RETRY, RetryPolicy::new(2));
    };
    functions.interceptors().register(sets(201, retries)).unwrap();
    let refused = "the option `retry` was set by the interceptor `sets`, which is further inside than `retry`, which \
                   reads it; give `sets` a lower order";
    // Also where the reader saw another value.
    for options in [json!({}), json!({ "retry": 1 }), json!({ "retry": 3 }), json!({ "timeout": "1h" })] {
        let error = functions.root().call(task_with("app:f", &options)).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, refused), "{options}");
    }
    assert!(attempts.seen().is_empty());
    functions.root().call(task_with("app:f", &json!({ "retry": 2 }))).await.expect("it is what it was");
    functions.interceptors().unregister("sets");
    functions.interceptors().register(sets(199, retries)).unwrap();
    functions.root().call(task("app:f")).await.unwrap();
    functions.root().call(task_with("app:f", &json!({ "retry": 1 }))).await.unwrap();
    assert_eq!(attempts.seen().len(), 3);
}

#[tokio::test]
async fn every_option_that_is_built_in_is_refused_where_it_is_changed_further_inside_than_it_is_read() {
    for (name, given, changed) in [
        ("timeout", json!("1h"), json!("1s")),
        ("retry", json!(1), json!(5)),
        ("rate_limit", json!("9/s"), json!("1/s")),
        ("max_concurrent", json!(9), json!(1)),
        ("traced", json!(false), json!(true)),
    ] {
        for (order, message) in [
            (501, format!("the option `{name}` was set by the interceptor `sets`, which is further inside")),
            (99, String::new()),
        ] {
            let functions = functions();
            Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
            let value = changed.clone();
            let changes = sets(order, move |options| options.set_json(name, &value).unwrap());
            functions.interceptors().register(changes).unwrap();
            let outcome = functions.root().call(task_with("app:f", &json!({ name: given }))).await;
            let error = outcome.err().map(|error| error.message().to_owned()).unwrap_or_default();
            assert!(
                error.starts_with(&message) && error.is_empty() == message.is_empty(),
                "{name} {order}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn an_option_of_ones_own_is_refused_where_it_is_changed_further_inside_than_it_is_read() {
    let functions = functions();
    let log = Log::default();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    functions.interceptors().register(Wrap::logging("reads", 0, &log).reading(EXTRA.declared())).unwrap();
    functions.interceptors().register(sets(1, set_extra)).unwrap();
    let error = functions.root().call(task_with("app:f", &json!({ "extra": 2 }))).await.unwrap_err();
    assert!(error.message().contains("further inside than `reads`"), "{error}");
    assert!(attempts.seen().is_empty());
    functions.root().call(task_with("app:f", &json!({ "extra": 1 }))).await.expect("it is what it was");
}

/// The value of an option that cannot be compared.
#[derive(Debug)]
struct Opaque;

#[frame_option(name = "opaque", dispatcher)]
static OPAQUE: FrameOption<Arc<Opaque>>;

#[tokio::test]
async fn a_value_that_cannot_be_compared_counts_as_changed_unless_it_is_a_copy() {
    let functions = functions();
    let log = Log::default();
    Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    functions.interceptors().register(Wrap::logging("reads", 0, &log).reading(OPAQUE.declared())).unwrap();
    let given = || task("app:f").with_options(Options::new().with(&OPAQUE, Arc::new(Opaque)));
    let copies = |options: &mut Options| *options = options.clone();
    functions.interceptors().register(sets(1, copies)).unwrap();
    functions.root().call(given()).await.expect("it is the same value");
    functions.interceptors().unregister("sets");
    let replaces = |options: &mut Options| {
        options.set(&OPAQUE, Arc::new(Opaque));
    };
    functions.interceptors().register(sets(1, replaces)).unwrap();
    let error = functions.root().call(given()).await.unwrap_err();
    assert!(error.message().contains("further inside than `reads`"), "{error}");
}

#[tokio::test]
async fn an_option_is_refused_that_its_reader_did_not_see_though_it_saw_another() {
    let functions = functions();
    let log = Log::default();
    Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let reads = Wrap::logging("reads", 0, &log).reading(EXTRA.declared()).reading(LABEL.declared());
    functions.interceptors().register(reads).unwrap();
    functions.interceptors().register(sets(1, set_extra)).unwrap();
    let error = functions.root().call(task_with("app:f", &json!({ "label": "x" }))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("further inside than `reads`"), "{error}");
}

#[tokio::test]
async fn who_reads_an_option_may_set_it_and_a_second_reader_further_inside_sees_what_is_set() {
    let functions = functions();
    let attempts = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let own = sets(0, set_extra).reading(EXTRA.declared());
    functions.interceptors().register(own).unwrap();
    functions.root().call(task_with("app:f", &json!({ "extra": 2 }))).await.unwrap();
    functions.interceptors().unregister("sets");
    let log = Log::default();
    for (name, order) in [("outside", 0), ("inside", 2)] {
        functions
            .interceptors()
            .register(Wrap::logging(name, order, &log).reading(EXTRA.declared()))
            .unwrap();
    }
    functions.interceptors().register(sets(1, set_extra)).unwrap();
    functions.root().call(task("app:f")).await.unwrap();
    assert_eq!(
        (log.take(), attempts.seen().len()),
        (vec!["inside begins".to_owned(), "inside ends".to_owned()], 2)
    );
}

#[tokio::test]
async fn no_number_of_interceptors_hides_what_is_set_too_far_inside() {
    const NAMES: &str = "abcdefghijklmnopqrstuvwxyz";
    let (functions, log) = (functions(), Log::default());
    Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let names = (0..NAMES.len() - 3).flat_map(|start| (1..4).map(move |len| &NAMES[start..start + len]));
    for (order, name) in (-1000..).zip(names) {
        functions.interceptors().register(Wrap::logging(name, order, &log)).unwrap();
    }
    assert!(functions.interceptors().names().len() > 64);
    let timeout = json!("1h");
    let changes = sets(101, move |options| options.set_json("timeout", &timeout).unwrap());
    functions.interceptors().register(changes).unwrap();
    let error = functions.root().call(task("app:f")).await.unwrap_err();
    assert!(error.message().contains("further inside than `timeout`"), "{error}");
    functions.root().call(task_with("app:f", &json!({ "timeout": "1h" }))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_interceptor_that_knows_no_bounds_is_ended_by_them() {
    let functions = functions();
    Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let hangs = |order| Wrap::new("hangs", order, |_, _, _| Box::pin(std::future::pending()));
    functions.interceptors().register(hangs(0)).unwrap();
    let ctx = functions.root().with_timeout(Duration::from_secs(1));
    assert_eq!(ctx.call(task("app:f")).await.unwrap_err().kind(), ErrorKind::Deadline);
    functions.interceptors().unregister("hangs");
    functions.interceptors().register(hangs(101)).unwrap();
    let error = functions.root().call(task_with("app:f", &json!({ "timeout": "1s" }))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
}

#[tokio::test]
async fn a_call_that_has_begun_goes_on_with_the_interceptors_it_began_with() {
    let (functions, log) = (functions(), Log::default());
    Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let (entered, has_entered) = oneshot::channel();
    let (leave, may_leave) = oneshot::channel::<()>();
    let channels = std::sync::Mutex::new(Some((entered, may_leave)));
    let holds = Wrap::new("holds", 0, move |ctx, task, next| {
        let (entered, may_leave) = channels.lock().unwrap().take().unwrap();
        Box::pin(async move {
            entered.send(()).unwrap();
            may_leave.await.unwrap();
            next.call(ctx, task).await
        })
    });
    functions.interceptors().register(holds).unwrap();
    functions.interceptors().register(Wrap::logging("old", 1, &log)).unwrap();
    let root = functions.root();
    let (outcome, ()) = tokio::join!(root.call(task("app:f")), async {
        has_entered.await.unwrap();
        assert!(functions.interceptors().unregister("old"));
        functions.interceptors().register(Wrap::logging("new", 1, &log)).unwrap();
        leave.send(()).unwrap();
    });
    outcome.unwrap();
    assert_eq!(log.take(), ["old begins", "old ends"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn interceptors_come_and_go_while_calls_run() {
    const ROUNDS: usize = 300;
    let functions = functions();
    let add = |name, order| {
        Wrap::new(name, order, move |ctx, mut task, next| {
            let number = task.payload().as_json().unwrap().as_u64().unwrap();
            *task.payload_mut() = json!(number * 10 + u64::from(order.unsigned_abs())).into();
            next.call(ctx, task)
        })
    };
    functions
        .register(id("app:f"), Options::new(), async |_: CallContext, payload: Payload| Ok(payload))
        .unwrap();
    let (is_done, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (functions, is_done, seen) = (functions.clone(), is_done.clone(), seen.clone());
        callers.spawn(async move {
            while !is_done.load(Ordering::Relaxed) {
                let payload = functions.root().call(task("app:f").with_payload(json!(0))).await.unwrap();
                let payload = json_of(payload).as_u64().unwrap();
                // In order, each once, and never a part of a change.
                assert!([0, 1, 12, 123, 13, 2, 23, 3].contains(&payload), "{payload}");
                seen.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
    }
    let mut writers = JoinSet::new();
    for (name, order) in [("one", 1), ("two", 2), ("three", 3)] {
        let functions = functions.clone();
        writers.spawn(async move {
            for _ in 0..ROUNDS {
                functions.interceptors().register(add(name, order)).unwrap();
                tokio::task::yield_now().await;
                assert!(functions.interceptors().unregister(name));
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    is_done.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert_eq!(functions.interceptors().names(), BUILT_IN);
}

#[tokio::test]
async fn options_of_a_call_are_its_own_and_not_those_of_what_it_calls() {
    let functions = functions();
    let nests = async |ctx: CallContext, _: Payload| ctx.call(task("app:inner")).await;
    functions.register(id("app:outer"), Options::new(), nests).unwrap();
    let inner = Attempts::register(&functions, "app:inner", Options::new(), |_| Ok(fine()));
    let log = Log::default();
    let seen = log.clone();
    let looks = Wrap::new("sees", 0, move |ctx, task, next| {
        let is_set = task.options().contains(&TIMEOUT);
        seen.push(format!("{} {is_set} {:?}", next.function(), ctx.frame().get(&FUNCTION).is_some()));
        next.call(ctx, task)
    });
    functions.interceptors().register(looks).unwrap();
    functions.root().call(task_with("app:outer", &json!({ "timeout": "1h" }))).await.unwrap();
    assert_eq!(log.take(), ["app:outer true false", "app:inner false true"]);
    assert_eq!(inner.numbers(), [1]);
}

#[tokio::test]
async fn a_panic_of_an_interceptor_is_the_failure_of_the_call() {
    let functions = functions();
    Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let before = Wrap::new("before", 0, |_, _, _| panic!("before there is a future"));
    let inside = Wrap::new("inside", 0, |_, _, _| Box::pin(async { panic!("inside of it") }));
    for (interceptor, message) in [(before, "before there is a future"), (inside, "inside of it")] {
        let name = interceptor.name();
        functions.interceptors().register(interceptor).unwrap();
        let error = functions.root().call(task("app:f")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.to_string(), format!("call of `app:f`: panicked: {message}"));
        assert!(functions.interceptors().unregister(name));
    }
    functions.root().call(task("app:f")).await.unwrap();
}

#[tokio::test]
async fn a_panic_of_what_asks_whether_an_interceptor_applies_is_the_failure_of_the_call() {
    struct Asks(i32);

    impl Interceptor for Asks {
        fn name(&self) -> &'static str {
            "asks"
        }

        fn order(&self) -> i32 {
            self.0
        }

        fn applies(&self, _: &Task) -> bool {
            panic!("out of order")
        }

        fn intercept<'a>(
            &'a self,
            ctx: &'a CallContext,
            task: Task,
            next: Next<'a>,
        ) -> BoxFuture<'a, Result<Payload, CallError>> {
            next.call(ctx, task)
        }
    }

    let (functions, log) = (functions(), Log::default());
    Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    functions.interceptors().register(Wrap::logging("a", 0, &log)).unwrap();
    // As the first of all, and inside of another, which sees the failure.
    for (order, seen) in [(-1, 0), (1, 2)] {
        functions.interceptors().register(Asks(order)).unwrap();
        let error = functions.root().call(task("app:f")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.to_string(), "call of `app:f`: panicked: out of order");
        assert_eq!(log.take().len(), seen);
        assert!(functions.interceptors().unregister("asks"));
    }
    functions.root().call(task("app:f")).await.unwrap();
}

#[tokio::test]
async fn an_interceptor_cannot_go_on_with_another_function() {
    let functions = functions();
    let f = Attempts::register(&functions, "app:f", Options::new(), |_| Ok(fine()));
    let g = Attempts::register(&functions, "app:g", Options::new(), |_| Ok(fine()));
    let swaps = Wrap::new("swaps", 0, |ctx, _, next| next.call(ctx, task("app:g")));
    functions.interceptors().register(swaps).unwrap();
    let error = functions.root().call(task("app:f")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("went on with a call of `app:g`"), "{error}");
    assert_eq!((f.numbers().len(), g.numbers().len()), (0, 0));
}
