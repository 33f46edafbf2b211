//! What becomes of requests when their call ends, and how many there are at once.

use std::time::Duration;

use frame_dispatch::ErrorKind;
use frame_dispatch::wasm::WasmConfig;
use serde_json::json;
use tokio::runtime::Handle;

use super::guest::{Ask, DROPS_FUTURES, EIGHT_TIMES, KEEPS_HANDLES, ONLY_COUNTS, Outcome, World, soon};
use super::origin::{Event, Origin, ok, response};

#[tokio::test]
async fn a_call_whose_time_is_over_closes_its_connection() {
    let mut origin = Origin::silent().await;
    let world = World::new(&json!({}));
    let root = world.functions.root().with_timeout(Duration::from_millis(500));
    let error = soon(root.call(World::task(&Ask::get(origin.address), &json!({})))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
    // On a slow machine there may have been no time to ask for anything.
    loop {
        match origin.event().await {
            Event::Closed => break,
            Event::Request(_) => {}
        }
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_nothing_behind() {
    let mut origin = Origin::silent().await;
    let world = World::new(&json!({}));
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let ask = Ask { count: 8, ..Ask::get(origin.address) };
    let before = tasks();
    for _ in 0..3 {
        let root = world.functions.root();
        let mut call = Box::pin(root.call(World::task(&ask, &json!({}))));
        for _ in 0..8 {
            tokio::select! {
                result = &mut call => panic!("{result:?}"),
                event = origin.event() => assert!(matches!(event, Event::Request(_)), "{event:?}"),
            }
        }
        drop(call);
        for _ in 0..8 {
            origin.closed().await;
        }
        soon(async {
            while tasks() > before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_closes_its_connection_while_the_call_goes_on() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = World::new(&json!({}));
    // The places of those that are dropped are free again.
    let ask = Ask { count: 16, ..Ask::get(origin.address).does(DROPS_FUTURES) };
    for _ in 0..3 {
        let outcomes = world.call(&ask, &json!({})).await.unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Refused(6)), "{outcomes:?}");
    }
    let ask = Ask::get(origin.address).header("X-Last", "yes");
    assert_eq!(world.ask(&ask, None).await.response().status, 200);
    loop {
        let event = origin.event().await;
        if matches!(event, Event::Request(seen) if seen.header("x-last").is_some()) {
            break;
        }
    }
}

#[tokio::test]
async fn a_call_has_sixteen_requests_under_way_and_further_ones_wait() {
    let origin = Origin::new(|_| ok("there")).await;
    let world = World::new(&json!({}));
    let ask = Ask { count: 40, ..Ask::get(origin.address) };
    for outcome in world.call(&ask, &json!({})).await.unwrap() {
        assert_eq!(outcome.response().text(), "there");
    }
    // Where nothing is answered those that wait are refused in time.
    let silent = Origin::silent().await;
    let world =
        World::with(&json!({ "clearnet": { "allow": ["127.0.0.0/8"] } }), json!({ "time_limit": "300ms" }));
    let ask = Ask { count: 20, ..Ask::get(silent.address) };
    let outcomes = world.call(&ask, &json!({})).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Failed(_))), "{outcomes:?}");
    let world = World::new(&json!({}));
    // Of one call, and not of all.
    let (ask, none) = (Ask { count: 16, ..Ask::get(origin.address) }, json!({}));
    let (one, other) = tokio::join!(world.call(&ask, &none), world.call(&ask, &none));
    for outcome in one.unwrap().into_iter().chain(other.unwrap()) {
        assert_eq!(outcome.response().text(), "there");
    }
}

#[tokio::test]
async fn a_call_with_too_much_of_the_hosts_memory_is_exhausted_and_names_the_limit() {
    let origin = Origin::new(|_| ok("there")).await;
    // A handle counts 256 bytes, so that there may be 64 of them.
    let world = World::limited(WasmConfig::default().with_host_memory(16 << 10));
    assert_eq!(world.ask(&Ask::get(origin.address), None).await.response().text(), "there");
    let ask = Ask { count: 190, ..Ask::get(origin.address) };
    let error = world.call(&ask, &json!({})).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
    assert!(error.message().contains("16384 bytes of the limit `host_memory`"), "{error}");
}

#[tokio::test]
async fn a_guest_that_keeps_its_handles_makes_many_requests_within_the_default() {
    let origin = Origin::new(|_| ok("there")).await;
    let world = World::new(&json!({}));
    let ask = Ask { count: 190, ..Ask::get(origin.address) }.does(EIGHT_TIMES | KEEPS_HANDLES);
    let outcomes = world.call(&ask, &json!({})).await.unwrap();
    assert_eq!(outcomes.len(), 8 * 190);
    for outcome in outcomes {
        assert_eq!(outcome.response().text(), "there");
    }
    // Seven handles each are more than 10 000 of them, which count 256 bytes.
    let world = World::limited(WasmConfig::default().with_host_memory(2 << 20));
    let error = world.call(&ask, &json!({})).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
    assert!(error.message().contains("2097152 bytes of the limit `host_memory`"), "{error}");
}

#[tokio::test]
async fn a_guest_that_keeps_a_handle_for_each_read_reads_a_long_body_within_the_default() {
    const LENGTH: usize = 10 << 20;
    let body = "x".repeat(LENGTH);
    let origin = Origin::new(move |_| ok(&body)).await;
    let world = World::new(&json!({}));
    let ask = Ask::get(origin.address).does(ONLY_COUNTS | KEEPS_HANDLES);
    let answer = world.ask(&ask, None).await.response();
    assert_eq!((answer.length, answer.ended), (LENGTH, Ok(())));
}

#[tokio::test]
async fn headers_that_are_kept_count_with_their_bytes() {
    let long = format!("X-Long: {}\r\n", "x".repeat(30_000));
    let origin = Origin::new(move |_| response("200 OK", &long, "there")).await;
    let ask = Ask { count: 20, ..Ask::get(origin.address) }.does(KEEPS_HANDLES);
    assert_eq!(World::new(&json!({})).call(&ask, &json!({})).await.unwrap().len(), 20);
    let world = World::limited(WasmConfig::default().with_host_memory(300 << 10));
    let error = world.call(&ask, &json!({})).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, false), "{error}");
    assert!(error.message().contains("307200 bytes of the limit `host_memory`"), "{error}");
}

#[tokio::test]
async fn large_responses_that_are_dropped_do_not_count_any_more() {
    let long = format!("X-Long: {}\r\n", "x".repeat(30_000));
    let origin = Origin::new(move |_| response("200 OK", &long, "there")).await;
    let ask = Ask { count: 20, ..Ask::get(origin.address) };
    // One response at a time is within this, and handles alone are.
    let world = World::limited(WasmConfig::default().with_host_memory(300 << 10));
    assert_eq!(world.call(&ask, &json!({})).await.unwrap().len(), 20);
}
