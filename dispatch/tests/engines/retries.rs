//! Interceptors around functions of each language: PARITY X4, X7 and X8.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use frame_dispatch::ErrorKind;
use frame_registry::{Options, Pair, ResolveContext, Resolver};
use serde_json::json;

use crate::language::{Behaviour, LANGUAGES, functions, options, task};

#[tokio::test(start_paused = true)]
async fn every_attempt_makes_a_frame_of_its_own() {
    for language in LANGUAGES {
        let functions = functions();
        language.register(&functions, "app:f", Behaviour::Unavailable);
        let resolved: Arc<Mutex<u32>> = Arc::default();
        let counts = Arc::clone(&resolved);
        let counting = Resolver::new("counting", 300, move |_: &ResolveContext<'_>, _: &Options| {
            *counts.lock().unwrap() += 1;
            Ok::<Option<Pair>, Infallible>(None)
        });
        let registration = functions.app().resolvers().register(counting).unwrap();
        let retried = task("app:f").with_options(options(&json!({ "retry": 4 })));
        let error = functions.root().call(retried).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Unavailable, true),
            "{language:?}: {error}"
        );
        assert_eq!(*resolved.lock().unwrap(), 4, "{language:?}");
        registration.unregister();
    }
}

#[tokio::test]
async fn what_a_retry_cannot_help_is_not_tried_again() {
    for language in LANGUAGES {
        let functions = functions();
        for (name, behaviour, kind) in [
            ("app:invalid", Behaviour::Invalid, ErrorKind::Invalid),
            ("app:break", Behaviour::Break, ErrorKind::Internal),
        ] {
            language.register(&functions, name, behaviour);
            // Delays of an hour: a second attempt would not be overlooked.
            let policy = json!({ "retry": { "attempts": 3, "first_delay": "1h", "max_delay": "1h" } });
            let error = functions.root().call(task(name).with_options(options(&policy))).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{language:?}: {error}");
            assert!(!error.is_retryable(), "{language:?}");
            assert_eq!(error.function().unwrap().as_str(), name);
        }
    }
}

#[tokio::test]
async fn a_break_is_the_failure_of_the_call_and_the_next_one_works() {
    for language in LANGUAGES {
        let functions = functions();
        let broken = language.register(&functions, "app:break", Behaviour::Break);
        language.register(&functions, "app:echo", Behaviour::Echo);
        for _ in 0..3 {
            let error = functions.root().call(task("app:break")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal, "{language:?}: {error}");
        }
        let given = functions.root().call(task("app:echo").with_payload(json!([1, "two"]))).await.unwrap();
        assert_eq!(given, json!([1, "two"]).into(), "{language:?}");
        broken.assert_idle();
    }
}
