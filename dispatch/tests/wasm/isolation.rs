//! Calls of different tenants, interleaved at random, see nothing of each other.

use std::sync::Arc;

use frame_dispatch::{Payload, Task};
use frame_registry::Options;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::proptest;
use proptest::test_runner::Config;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::common::{GATE, TENANT, add_guest, functions, id};

/// For each call its tenant, what it writes, and how many other calls are let go on before it.
fn calls() -> impl Strategy<Value = Vec<(u8, Vec<u8>, usize)>> {
    vec((0_u8..4, vec(1_u8..=255, 1..64), any::<usize>()), 1..40)
}

proptest! {
    #![proptest_config(Config { cases: 32, ..Config::default() })]
    #[test]
    fn tenants_never_see_each_others_memory_globals_or_frame(calls in calls(), threads in 1_usize..4) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let functions = functions();
            let remember = add_guest(&functions, "remember");
            add_guest(&functions, "frame");
            let mut running = JoinSet::new();
            let mut gates = Vec::new();
            for (tenant, content, place) in calls {
                let tenant = format!("tenant {tenant}");
                let gate = Arc::new(Semaphore::new(0));
                gates.insert(place % (gates.len() + 1), Arc::clone(&gate));
                let options = Options::new().with(&TENANT, tenant.clone());
                let remembers = Task::new(id("app:remember"))
                    .with_payload(content.clone())
                    .with_options(options.clone())
                    .with_pair(GATE.pair(gate));
                let reads = Task::new(id("app:frame")).with_payload(b"tenant".to_vec()).with_options(options);
                let root = functions.root();
                running.spawn(async move {
                    let (found, own) = tokio::join!(root.call(remembers), root.call(reads));
                    let expected = [&[0; 4][..], &vec![0; content.len()], &content].concat();
                    assert_eq!(found.unwrap(), Payload::from(expected), "no calls before, nothing left, its own");
                    assert_eq!(own.unwrap(), Payload::from(json!(tenant)));
                });
            }
            for gate in gates {
                gate.add_permits(1);
                tokio::task::yield_now().await;
            }
            while let Some(ended) = running.join_next().await {
                ended.unwrap();
            }
            assert_eq!(remember.statistics().running, 0);
        });
    }
}
