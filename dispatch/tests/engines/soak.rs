//! Ten thousand calls at once, ended at random: nothing is left of any of them.

use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::{CallError, ErrorKind, Payload};
use frame_registry::Key;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::language::{Behaviour, LANGUAGES, Language, Limits, Registered, functions, options, task};

const CALLS: usize = 10_000;
const BEHAVIOURS: [(&str, Behaviour); 5] = [
    ("echo", Behaviour::Echo),
    ("call", Behaviour::Call),
    ("unavailable", Behaviour::Unavailable),
    ("break", Behaviour::Break),
    ("spin", Behaviour::Spin),
];
static HELD: Key<Arc<()>> = Key::new("held").inherit();

fn name(language: Language, behaviour: &str) -> String {
    format!("{language:?}:{behaviour}")
}

#[test]
fn nothing_is_left_of_calls_that_end_at_random() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let functions = functions();
    let limits = Limits { calls: 16, ..Limits::default() };
    let registered: Vec<Registered> = LANGUAGES
        .into_iter()
        .flat_map(|language| BEHAVIOURS.map(|(behaviour, does)| (language, behaviour, does)))
        .map(|(language, behaviour, does)| {
            let name = name(language, behaviour);
            // Thousands of panics would print as many backtraces.
            let is_panic = language == Language::Native && does == Behaviour::Break;
            let does = if is_panic { Behaviour::Invalid } else { does };
            language.register_with(&functions, &name, does, &options(&json!({})), limits).unwrap()
        })
        .collect();
    let held = Arc::new(());
    let mut random = fastrand::Rng::with_seed(7);
    let mut pick = |below: usize| random.usize(0..below);

    let callers: Vec<_> = (0..CALLS)
        .map(|_| {
            let language = LANGUAGES[pick(3)];
            let (behaviour, _) = BEHAVIOURS[pick(BEHAVIOURS.len())];
            let inner = name(LANGUAGES[pick(3)], BEHAVIOURS[pick(BEHAVIOURS.len())].0);
            let payload: Payload = match behaviour {
                "call" => language.calling(&inner, &json!(1), None),
                _ => json!({ "some": ["payload", 1] }).into(),
            };
            let task = task(&name(language, behaviour))
                .with_payload(payload)
                .with_pair(HELD.pair(Arc::clone(&held)));
            let after = Duration::from_micros(pick(40_000) as u64);
            let root = functions.root();
            match pick(3) {
                0 => runtime.spawn(async move { ended(root.with_timeout(after).call(task).await) }),
                1 => runtime.spawn(async move {
                    let token = CancellationToken::new();
                    let _ends = token.clone().drop_guard();
                    let ctx = root.with_cancellation(token.clone());
                    let cancel = async {
                        tokio::time::sleep(after).await;
                        token.cancel();
                        std::future::pending::<()>().await;
                    };
                    tokio::select! {
                        outcome = ctx.call(task) => ended(outcome),
                        () = cancel => unreachable!("it is pending"),
                    }
                }),
                _ => runtime.spawn(async move {
                    // What is over is dropped, wherever it is.
                    let _ = tokio::time::timeout(after, root.call(task)).await;
                }),
            }
        })
        .collect();
    runtime.block_on(async {
        for caller in callers {
            caller.await.unwrap();
        }
    });

    for function in &registered {
        function.assert_idle();
    }
    assert_eq!(Arc::strong_count(&held), 1, "no frame is left");
    // A task is counted for a moment after it was joined.
    let all_gone = async {
        while runtime.metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), all_gone).await }).unwrap();
    for language in LANGUAGES {
        let echo = task(&name(language, "echo")).with_payload(json!("still"));
        assert_eq!(runtime.block_on(functions.root().call(echo)).unwrap(), json!("still").into());
        for (behaviour, _) in BEHAVIOURS {
            let id = name(language, behaviour).parse().unwrap();
            runtime.block_on(functions.unregister(&id).unwrap().drained());
        }
    }
}

/// However it ended, it says so in one of the ways that there are for that.
fn ended(outcome: Result<Payload, CallError>) {
    if let Err(error) = outcome {
        let expected = [
            ErrorKind::Cancelled,
            ErrorKind::Deadline,
            ErrorKind::Exhausted,
            ErrorKind::Internal,
            ErrorKind::Invalid,
            ErrorKind::Unavailable,
        ];
        assert!(expected.contains(&error.kind()), "{error:?}");
    }
}
