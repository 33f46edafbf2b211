//! What becomes of requests when their call ends, and how many there are at once.

use std::time::Duration;

use frame_dispatch::ErrorKind;
use serde_json::json;
use tokio::runtime::Handle;

use super::guest::{Ask, DROPS_FUTURES, Outcome, World, soon};
use super::origin::{Event, Origin, ok};

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
async fn a_call_has_sixteen_requests_under_way() {
    let origin = Origin::new(|_| ok("there")).await;
    let world = World::new(&json!({}));
    let ask = Ask { count: 40, ..Ask::get(origin.address) };
    let outcomes = world.call(&ask, &json!({})).await.unwrap();
    let refused = outcomes.iter().filter(|&outcome| *outcome == Outcome::Failed("connection-limit-reached"));
    assert_eq!(refused.count(), 24, "{outcomes:?}");
    let answered = outcomes.into_iter().filter(|outcome| matches!(outcome, Outcome::Response(_)));
    assert!(answered.map(Outcome::response).filter(|answer| answer.text() == "there").count() == 16);
    // Of one call, and not of all.
    let (ask, none) = (Ask { count: 16, ..Ask::get(origin.address) }, json!({}));
    let (one, other) = tokio::join!(world.call(&ask, &none), world.call(&ask, &none));
    for outcome in one.unwrap().into_iter().chain(other.unwrap()) {
        assert_eq!(outcome.response().text(), "there");
    }
}
