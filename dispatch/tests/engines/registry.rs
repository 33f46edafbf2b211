//! Functions by id: PARITY X1, X2, X3, X11 and X12 in three languages.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_dispatch::wasm::{WasmConfig, WasmEngine};
use frame_dispatch::{
    BoxFuture, CallContext, CallError, ErrorKind, Interceptor, Next, PID, Payload, Stopped, Task,
};
use frame_registry::Options;
use serde_json::json;
use tokio::time::Instant;

use crate::language::{Behaviour, LANGUAGES, Language, Limits, TENANT, functions, id, options, seen, task};

#[tokio::test]
async fn functions_are_registered_replaced_and_removed_by_id() {
    for language in LANGUAGES {
        let functions = functions();
        let root = functions.root();
        let preset = options(&json!({ "tenant": "preset" }));
        language.register_with(&functions, "app:f", Behaviour::Frame, &preset, Limits::default()).unwrap();
        assert_eq!(seen(&root, task("app:f"), "tenant").await.unwrap(), json!("preset"), "{language:?}");

        let taken =
            language.register_with(&functions, "app:f", Behaviour::Echo, &Options::new(), Limits::default());
        assert!(taken.unwrap_err().to_string().contains("replace it"), "{language:?}");

        let retired = language.replace(&functions, "app:f", Behaviour::Frame, &Options::new()).unwrap();
        retired.drained().await;
        assert!(
            functions.options(&id("app:f")).unwrap().is_empty(),
            "the options of the other are gone with it"
        );
        assert_eq!(seen(&root, task("app:f"), "tenant").await.unwrap(), json!(null), "{language:?}");

        functions.unregister(&id("app:f")).unwrap().drained().await;
        assert_eq!(root.call(task("app:f")).await.unwrap_err().kind(), ErrorKind::NotFound);
        let absent = language.replace(&functions, "app:f", Behaviour::Echo, &Options::new());
        assert!(absent.unwrap_err().to_string().contains("register it"), "{language:?}");
    }
}

#[tokio::test]
async fn options_of_the_call_go_over_those_of_the_entry_key_by_key() {
    for language in LANGUAGES {
        let functions = functions();
        let preset = options(&json!({ "tenant": "preset", "timeout": "1h" }));
        language.register_with(&functions, "app:f", Behaviour::Frame, &preset, Limits::default()).unwrap();
        let call = task("app:f").with_options(options(&json!({ "tenant": "call" })));
        assert_eq!(seen(&functions.root(), call, "tenant").await.unwrap(), json!("call"), "{language:?}");
        let mut copy = functions.options(&id("app:f")).unwrap();
        copy.set(&TENANT, "changed".to_owned());
        let given = seen(&functions.root(), task("app:f"), "tenant").await.unwrap();
        assert_eq!(given, json!("preset"), "{language:?}: what `options` gives is a copy");
    }
}

/// Says what it saw, and passes on.
struct Watching {
    order: i32,
    name: &'static str,
    saw: Arc<Mutex<Vec<String>>>,
}

impl Interceptor for Watching {
    fn name(&self) -> &'static str {
        self.name
    }

    fn order(&self) -> i32 {
        self.order
    }

    fn intercept<'a>(
        &'a self,
        ctx: &'a CallContext,
        task: Task,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, CallError>> {
        Box::pin(async move {
            let tenant = task.options().get(&TENANT).cloned();
            let pid = ctx.frame().get(&PID).is_some();
            self.saw.lock().unwrap().push(format!("{} in {tenant:?} {pid}", self.name));
            let result = next.call(ctx, task).await;
            self.saw.lock().unwrap().push(format!("{} out {}", self.name, result.is_ok()));
            result
        })
    }
}

#[tokio::test]
async fn options_are_merged_then_come_interceptors_and_then_the_frame() {
    for language in LANGUAGES {
        let functions = functions();
        let preset = options(&json!({ "tenant": "preset" }));
        language.register_with(&functions, "app:f", Behaviour::Echo, &preset, Limits::default()).unwrap();
        let saw: Arc<Mutex<Vec<String>>> = Arc::default();
        for (order, name) in [(7, "inner"), (-7, "outer")] {
            functions.interceptors().register(Watching { order, name, saw: Arc::clone(&saw) }).unwrap();
        }
        functions.root().call(task("app:f")).await.unwrap();
        let refused = task("app:f").with_options(options(&json!({ "tenant": "nobody" })));
        assert_eq!(functions.root().call(refused).await.unwrap_err().kind(), ErrorKind::Denied);
        let expected = [
            r#"outer in Some("preset") false"#,
            r#"inner in Some("preset") false"#,
            "inner out true",
            "outer out true",
            r#"outer in Some("nobody") false"#,
            r#"inner in Some("nobody") false"#,
            "inner out false",
            "outer out false",
        ];
        assert_eq!(*saw.lock().unwrap(), expected, "{language:?}");
    }
}

/// What is wrong with a new version shows when it is built, which is before anything is replaced.
#[tokio::test]
async fn a_new_version_that_cannot_be_built_leaves_the_old() {
    let lua = LuaEngine::builder().build().unwrap();
    let error = lua.function("new.lua", "return return", LuaConfig::default()).unwrap_err();
    assert!(error.to_string().contains("new.lua:1"), "{error}");
    let wasm = WasmEngine::new().unwrap();
    assert!(wasm.function(b"\0asm\x0d\0\x01\0nonsense", WasmConfig::default()).is_err());
}

#[tokio::test]
async fn the_old_version_finishes_the_calls_that_it_admitted() {
    for language in LANGUAGES {
        let functions = functions();
        let entered = Arc::new(tokio::sync::Notify::new());
        let may_go_on = Arc::new(tokio::sync::Notify::new());
        let (enter, go_on) = (Arc::clone(&entered), Arc::clone(&may_go_on));
        functions
            .register(id("app:gate"), Options::new(), move |_: CallContext, payload: Payload| {
                let (enter, go_on) = (Arc::clone(&enter), Arc::clone(&go_on));
                async move {
                    enter.notify_one();
                    go_on.notified().await;
                    Ok(payload)
                }
            })
            .unwrap();
        language.register(&functions, "app:f", Behaviour::Call);
        let root = functions.root();
        let old = task("app:f").with_payload(language.calling("app:gate", &json!("old"), None));
        let (outcome, retired) = tokio::join!(root.call(old), async {
            entered.notified().await;
            let retired = language.replace(&functions, "app:f", Behaviour::Echo, &Options::new()).unwrap();
            let new = root.call(task("app:f").with_payload(json!("new"))).await.unwrap();
            assert_eq!(new, json!("new").into(), "{language:?}");
            may_go_on.notify_one();
            retired
        });
        assert_eq!(outcome.unwrap(), json!("old").into(), "{language:?}");
        retired.drained().await;
    }
}

#[tokio::test]
async fn stopping_closes_admission_drains_and_ends_what_is_left_at_the_deadline() {
    for language in LANGUAGES {
        let functions = functions();
        let started = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&started);
        functions
            .register(id("app:started"), Options::new(), move |_: CallContext, payload: Payload| {
                counts.fetch_add(1, Ordering::SeqCst);
                async { Ok(payload) }
            })
            .unwrap();
        let spins = language.register(&functions, "app:spin", Behaviour::Spin);
        language.register(&functions, "app:call", Behaviour::Call);
        let root = functions.root();
        let quick = task("app:call").with_payload(language.calling("app:started", &json!(1), None));
        let stuck = task("app:call").with_payload(language.calling("app:spin", &json!(1), None));
        let deadline = Instant::now() + Duration::from_millis(50);
        let (quick, stuck, stopped) =
            tokio::join!(biased; root.call(quick), root.call(stuck), functions.stop(deadline));
        assert_eq!(quick.unwrap(), json!(1).into(), "{language:?}");
        assert_eq!(started.load(Ordering::SeqCst), 1);
        assert_eq!(stuck.unwrap_err().kind(), ErrorKind::Cancelled, "{language:?}");
        assert_eq!(
            stopped,
            Stopped { cancelled: 2, running: 0 },
            "{language:?}: the call, and that inside it"
        );
        assert_eq!(root.call(task("app:call")).await.unwrap_err().kind(), ErrorKind::Unavailable);
        spins.assert_idle();
    }
}

#[tokio::test]
async fn calls_beyond_the_size_wait_for_their_turn_and_no_longer_than_their_deadline() {
    for language in LANGUAGES {
        let functions = functions();
        let limits = Limits { calls: 1, ..Limits::default() };
        // Natively the limit is that of the interceptor.
        let preset = match language {
            Language::Native => options(&json!({ "max_concurrent": 1 })),
            Language::Lua | Language::Wasm => Options::new(),
        };
        let entered = Arc::new(tokio::sync::Notify::new());
        let may_go_on = Arc::new(tokio::sync::Notify::new());
        let (enter, go_on) = (Arc::clone(&entered), Arc::clone(&may_go_on));
        functions
            .register(id("app:gate"), Options::new(), move |_: CallContext, payload: Payload| {
                let (enter, go_on) = (Arc::clone(&enter), Arc::clone(&go_on));
                async move {
                    enter.notify_one();
                    go_on.notified().await;
                    Ok(payload)
                }
            })
            .unwrap();
        let function = language.register_with(&functions, "app:f", Behaviour::Call, &preset, limits).unwrap();
        let call = || task("app:f").with_payload(language.calling("app:gate", &json!(1), None));
        let root = functions.root();
        let (first, second, ()) = tokio::join!(biased; root.call(call()), root.call(call()), async {
            entered.notified().await;
            let hasty = root.with_timeout(Duration::from_millis(20));
            let error = hasty.call(call()).await.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, true), "{language:?}: {error}");
            may_go_on.notify_one();
            entered.notified().await;
            may_go_on.notify_one();
        });
        assert_eq!((first.unwrap(), second.unwrap()), (json!(1).into(), json!(1).into()), "{language:?}");
        function.assert_idle();
    }
}
