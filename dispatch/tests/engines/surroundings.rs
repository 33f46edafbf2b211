//! What a function sees and passes on: PARITY X4, X5, X6 and X15 in three languages.

use std::collections::HashSet;
use std::sync::Arc;

use frame_dispatch::{ErrorKind, Host, PID, Pid};
use frame_registry::Key;
use serde_json::json;

use crate::language::{Behaviour, LANGUAGES, Language, NOTE, functions, json_of, options, seen, task};

#[tokio::test]
async fn every_call_has_a_new_pid_whose_host_is_the_function() {
    for language in LANGUAGES {
        let functions = functions();
        language.register(&functions, "app:f", Behaviour::Frame);
        let mut pids = HashSet::new();
        for _ in 0..20 {
            let pid = seen(&functions.root(), task("app:f"), "pid").await.unwrap();
            let pid = pid.as_str().unwrap().to_owned();
            assert!(pid.starts_with("{app:f|0x"), "{language:?}: {pid}");
            assert!(pids.insert(pid), "{language:?}");
        }
        assert_eq!(seen(&functions.root(), task("app:f"), "function").await.unwrap(), json!("app:f"));
        assert_eq!(seen(&functions.root(), task("app:f"), "attempt").await.unwrap(), json!(1));
    }
}

#[tokio::test]
async fn the_last_pair_of_a_key_wins_own_then_the_tasks_then_the_resolved() {
    for language in LANGUAGES {
        let functions = functions();
        language.register(&functions, "app:f", Behaviour::Frame);
        let root = functions.root();
        let own = Pid::next(Host::named("own"));
        let pid = seen(&root, task("app:f").with_pair(PID.pair(own)), "pid").await.unwrap();
        assert_eq!(pid, json!(own.to_string()), "{language:?}");
        let noted = || {
            task("app:f").with_pair(NOTE.pair("first".to_owned())).with_pair(NOTE.pair("task's".to_owned()))
        };
        assert_eq!(seen(&root, noted(), "note").await.unwrap(), json!("task's"), "{language:?}");
        let stern = noted().with_options(options(&json!({ "tenant": "stern" })));
        assert_eq!(seen(&root, stern, "note").await.unwrap(), json!("resolved"), "{language:?}");
    }
}

#[tokio::test]
async fn a_function_sees_public_keys_only() {
    static TOKEN: Key<String> = Key::new("token");
    for language in LANGUAGES {
        let functions = functions();
        language.register(&functions, "app:f", Behaviour::Frame);
        let secret = task("app:f").with_pair(TOKEN.pair("xyzzy".to_owned()));
        assert_eq!(seen(&functions.root(), secret, "token").await.unwrap(), json!(null), "{language:?}");
        assert_eq!(
            seen(&functions.root(), task("app:f"), "absent").await.unwrap(),
            json!(null),
            "{language:?}"
        );
    }
}

/// Each of the nine ways through two languages: what is inherited is that of the function in between, not that of the app.
#[tokio::test]
async fn a_nested_call_inherits_from_the_frame_of_the_function_that_makes_it() {
    for outer in LANGUAGES {
        for inner in LANGUAGES {
            let functions = functions();
            outer.register(&functions, "app:outer", Behaviour::Call);
            inner.register(&functions, "app:inner", Behaviour::Frame);
            let ways = format!("{outer:?} calls {inner:?}");
            let call = |key: &str, nested: Option<serde_json::Value>| {
                let payload = outer.calling("app:inner", &json!(key), nested.as_ref());
                task("app:outer").with_payload(payload).with_options(options(&json!({ "tenant": "outer" })))
            };
            let root = functions.root();
            let own = root.call(call("tenant", None)).await.unwrap();
            assert_eq!(json_of(&own), json!("outer"), "{ways}");
            let over = root.call(call("tenant", Some(json!({ "tenant": "nested" })))).await.unwrap();
            assert_eq!(json_of(&over), json!("nested"), "{ways}");
            let id = root.call(call("function", None)).await.unwrap();
            assert_eq!(json_of(&id), json!("app:inner"), "{ways}");
        }
    }
}

/// One gate: what a resolver refuses, it refuses whoever asks, and then nothing is started.
#[tokio::test]
async fn what_a_resolver_refuses_no_language_gets_around() {
    for outer in LANGUAGES {
        let functions = functions();
        outer.register(&functions, "app:outer", Behaviour::Call);
        Language::Native.register(&functions, "app:inner", Behaviour::Break);
        let refused = |nested: serde_json::Value| {
            task("app:outer").with_payload(outer.calling("app:inner", &json!(1), Some(&nested)))
        };
        let root = functions.root();
        let error = root.call(refused(json!({ "tenant": "nobody" }))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{outer:?}: {error}");
        let error = root.call(refused(json!({ "tennant": "acme" }))).await.unwrap_err();
        assert!(chain(&error).contains("did you mean `tenant`"), "{outer:?}: {}", chain(&error));
        assert_eq!(error.kind(), ErrorKind::Invalid, "{outer:?}");
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Nothing keeps a frame behind the call that it is of.
#[tokio::test]
async fn a_frame_is_released_with_its_call() {
    static HELD: Key<Arc<()>> = Key::new("held").inherit();
    for language in LANGUAGES {
        let functions = functions();
        language.register(&functions, "app:outer", Behaviour::Call);
        for behaviour in [Behaviour::Echo, Behaviour::Unavailable, Behaviour::Break] {
            let held = Arc::new(());
            language.register(&functions, "app:inner", behaviour);
            let payload = language.calling("app:inner", &json!(1), None);
            let task = task("app:outer").with_payload(payload).with_pair(HELD.pair(Arc::clone(&held)));
            let outcome = functions.root().call(task).await;
            assert_eq!(outcome.is_ok(), behaviour == Behaviour::Echo, "{language:?}, {behaviour:?}");
            assert_eq!(Arc::strong_count(&held), 1, "{language:?}, {behaviour:?}");
            functions.unregister(&"app:inner".parse().unwrap()).unwrap().drained().await;
        }
    }
}
