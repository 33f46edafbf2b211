//! Calls that end before they are done: PARITY X9, X13 and X14 in three languages.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use frame_dispatch::ErrorKind;
use serde_json::json;
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::language::{Behaviour, LANGUAGES, Language, Limits, functions, options, task};

/// Also where the thread has nothing else to run: the call itself has to let the timer have its turn.
#[tokio::test]
async fn a_deadline_reaches_a_function_that_runs_without_end() {
    for language in LANGUAGES {
        let functions = functions();
        let function = language.register(&functions, "app:spin", Behaviour::Spin);
        let hasty = functions.root().with_timeout(Duration::from_millis(30));
        let error = hasty.call(task("app:spin")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline, "{language:?}: {error}");
        let timed = task("app:spin").with_options(options(&json!({ "timeout": "30ms" })));
        let error = functions.root().call(timed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline, "{language:?}: {error}");
        function.assert_idle();
    }
}

/// Tokio by itself looks at timers after 61 polls of a task that wakes itself, and each takes a whole slice here.
#[tokio::test]
async fn a_timer_waits_for_a_few_slices_of_a_guest_and_not_for_many() {
    for language in [Language::Lua, Language::Wasm] {
        let functions = functions();
        let function = language.register(&functions, "app:spin", Behaviour::Spin);
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&polls);
        let guest = tokio::spawn(async move {
            let root = functions.root();
            let mut call = pin!(root.call(task("app:spin")));
            poll_fn(|context| {
                counted.fetch_add(1, Ordering::Relaxed);
                call.as_mut().poll(context)
            })
            .await
        });
        while polls.load(Ordering::Relaxed) == 0 {
            yield_now().await;
        }
        let before = polls.load(Ordering::Relaxed);
        sleep(Duration::from_millis(2)).await;
        let slices = polls.load(Ordering::Relaxed) - before;
        guest.abort();
        assert!(guest.await.unwrap_err().is_cancelled());
        function.assert_idle();
        assert!((1..20).contains(&slices), "{language:?}: {slices} slices");
    }
}

#[tokio::test]
async fn cancelling_reaches_a_function_that_runs_without_end_behind_two_others() {
    for language in LANGUAGES {
        for between in LANGUAGES {
            let functions = functions();
            let function = language.register(&functions, "app:spin", Behaviour::Spin);
            let nested = between.register(&functions, "app:nest", Behaviour::Call);
            let token = CancellationToken::new();
            let ctx = functions.root().with_cancellation(token.clone());
            let payload = between.calling("app:spin", &json!(1), None);
            let (outcome, ()) = tokio::join!(biased; ctx.call(task("app:nest").with_payload(payload)), async {
                tokio::task::yield_now().await;
                token.cancel();
            });
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{between:?} calls {language:?}: {error}");
            function.assert_idle();
            nested.assert_idle();
        }
    }
}

#[tokio::test]
async fn dropping_a_call_ends_it() {
    for language in LANGUAGES {
        let functions = functions();
        let function = language.register(&functions, "app:spin", Behaviour::Spin);
        let root = functions.root();
        let mut call = Box::pin(root.call(task("app:spin")));
        for _ in 0..3 {
            let polled = poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx))).await;
            assert!(polled.is_pending(), "{language:?}");
        }
        drop(call);
        function.assert_idle();
        functions.unregister(&"app:spin".parse().unwrap()).unwrap().drained().await;
    }
}

#[tokio::test]
async fn memory_without_end_is_refused_and_the_next_call_works() {
    for language in [Language::Lua, Language::Wasm] {
        let functions = functions();
        let limits = Limits { memory: 4 << 20, ..Limits::default() };
        let hoard = language
            .register_with(&functions, "app:hoard", Behaviour::Hoard, &options(&json!({})), limits)
            .unwrap();
        for _ in 0..3 {
            let error = functions.root().call(task("app:hoard")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exhausted, "{language:?}: {error}");
        }
        hoard.assert_idle();
        language.register(&functions, "app:echo", Behaviour::Echo);
        assert!(functions.root().call(task("app:echo")).await.is_ok());
    }
}
