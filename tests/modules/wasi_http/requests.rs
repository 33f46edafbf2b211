//! What is sent, where it goes, and what comes back.

use std::sync::Arc;

use frame_dispatch::ErrorKind;
use serde_json::json;

use super::guest::{Ask, GATE, Gate, ONLY_COUNTS, Outcome, SENDS_TRAILERS, SKIPS_TO_TRAILERS, WAITS, World};
use super::origin::{Origin, ok, response};
use crate::relay::Relay;

#[tokio::test]
async fn a_guest_gets_what_a_server_answers() {
    let mut origin = Origin::new(|_| response("201 Created", "X-Answer: 42\r\n", "hello")).await;
    let world = World::new(&json!({}));
    let ask =
        Ask { path: "/greet?whom=all".to_owned(), ..Ask::get(origin.address).header("X-Question", "what") };
    let answer = world.ask(&ask, None).await.response();
    assert_eq!((answer.status, answer.text(), answer.ended), (201, "hello", Ok(())));
    assert_eq!(answer.headers, "x-answer: 42\ncontent-length: 5\n");
    let seen = origin.request().await;
    assert!(seen.head.starts_with("GET /greet?whom=all HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("host"), Some(origin.address.to_string().as_str()));
    assert_eq!(seen.header("x-question"), Some("what"));
    assert_eq!((seen.header("user-agent"), seen.header("accept-encoding")), (None, None));
}

#[tokio::test]
async fn a_guest_sends_a_body() {
    let mut origin = Origin::new(|seen| ok(&seen.body.len().to_string())).await;
    let world = World::new(&json!({}));
    let body: Vec<u8> = (0..300_000_u32).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
    let ask = Ask::post(origin.address, body.clone());
    let length = body.len().to_string();
    for (ask, says) in [(ask.clone(), None), (ask.header("Content-Length", &length), Some(length.as_str()))] {
        let answer = world.ask(&ask, None).await.response();
        assert_eq!(answer.text(), length);
        let seen = origin.request().await;
        assert_eq!(seen.header("content-length"), says);
        assert_eq!(seen.header("transfer-encoding"), says.is_none().then_some("chunked"));
        assert!(seen.body == body, "the body is another");
    }
}

#[tokio::test]
async fn methods_are_sent_as_they_are() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = World::new(&json!({}));
    for (method, sent) in
        [((4, ""), "DELETE"), ((6, ""), "OPTIONS"), ((8, ""), "PATCH"), ((9, "PROPFIND"), "PROPFIND")]
    {
        let ask = Ask { method: (method.0, method.1.to_owned()), ..Ask::get(origin.address) };
        assert_eq!(world.ask(&ask, None).await.response().status, 200);
        assert!(origin.request().await.head.starts_with(sent), "{sent}");
    }
}

#[tokio::test]
async fn a_request_goes_through_the_network_of_the_frame() {
    let mut origin = Origin::new(|_| ok("over there")).await;
    let address = origin.address;
    let relay = Relay::bind("127.0.0.1:0").await.unwrap().with_source("127.0.0.2".parse().unwrap());
    let proxy = relay.local_addr().unwrap().to_string();
    tokio::spawn(relay.serve(move |request| {
        assert_eq!(request.to.to_string(), "shop.internal:80");
        Ok(address)
    }));
    let world = World::new(&json!({ "app:overlay": { "kind": "socks5", "proxy": proxy } }));

    let answer = world.ask(&Ask::get("shop.internal"), Some("app:overlay")).await.response();
    assert_eq!(answer.text(), "over there");
    assert_eq!(origin.request().await.from.ip().to_string(), "127.0.0.2", "it comes from the relay");
    world.ask(&Ask::get(address), None).await.response();
    assert_eq!(origin.request().await.from.ip().to_string(), "127.0.0.1", "another call is on clearnet");
}

#[tokio::test]
async fn a_call_whose_network_is_unknown_does_not_begin() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = World::new(&json!({}));
    let ask = Ask::get(origin.address);
    let error = world.call(&ask, &json!({ "network": "app:nowhere" })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(origin.is_untouched());
}

#[tokio::test]
async fn a_redirect_is_for_the_guest_to_follow() {
    let mut origin = Origin::new(|_| response("302 Found", "Location: /elsewhere\r\n", "")).await;
    let answer = World::new(&json!({})).ask(&Ask::get(origin.address), None).await.response();
    assert_eq!(answer.status, 302);
    assert!(answer.headers.contains("location: /elsewhere\n"), "{}", answer.headers);
    origin.request().await;
    assert!(origin.is_untouched(), "nobody went elsewhere");
}

#[tokio::test]
async fn a_default_header_gives_way_to_that_of_the_guest() {
    let mut origin = Origin::new(|_| ok("")).await;
    let networks = json!({ "clearnet": { "allow": ["127.0.0.0/8"] } });
    let world = World::with(&networks, json!({ "headers": { "user-agent": "shop/1.0", "x-team": "blue" } }));
    world.ask(&Ask::get(origin.address).header("X-Team", "green"), None).await.response();
    let seen = origin.request().await;
    assert_eq!((seen.header("user-agent"), seen.header("x-team")), (Some("shop/1.0"), Some("green")));
}

#[tokio::test]
async fn requests_beyond_the_connections_to_a_host_wait() {
    let mut origin = Origin::new(|_| ok("there")).await;
    let networks = json!({ "clearnet": { "allow": ["127.0.0.0/8"] } });
    let world = World::with(&networks, json!({ "max_connections_per_host": 1 }));
    let ask = Ask { count: 10, ..Ask::get(origin.address) };
    for outcome in world.call(&ask, &json!({})).await.unwrap() {
        assert_eq!(outcome.response().text(), "there");
    }
    let first = origin.request().await;
    for _ in 1..10 {
        assert_eq!(origin.request().await.from, first.from, "they share the one connection");
    }

    // A response that is not read holds its connection.
    let long = Origin::new(|_| ok(&"x".repeat(1 << 20))).await;
    let client = json!({ "max_connections_per_host": 1, "time_limit": "300ms" });
    let world = World::with(&networks, client);
    let gate = Gate::new();
    let task = World::task(&Ask::get(long.address).does(ONLY_COUNTS | WAITS), &json!({}));
    let (root, task) = (world.functions.root(), task.with_pair(GATE.pair(Arc::clone(&gate))));
    let holder = tokio::spawn(async move { root.call(task).await });
    gate.reached().await;
    let outcome = world.ask(&Ask::get(long.address), None).await;
    assert_eq!(outcome, Outcome::Failed("connection-limit-reached"));
    holder.abort();
}

#[tokio::test]
async fn what_the_client_decides_on_is_no_header_of_the_guest() {
    /// The case of `header-error`.
    const FORBIDDEN: u8 = 1;
    let mut origin = Origin::new(|_| ok("")).await;
    let world = World::new(&json!({}));
    for name in ["Host", "Connection", "Transfer-Encoding", "Upgrade", "Proxy-Authorization", "TE", "Expect"]
    {
        let ask = Ask::get(origin.address).header(name, "x");
        assert_eq!(world.ask(&ask, None).await, Outcome::Headers(FORBIDDEN), "{name}");
    }
    assert!(origin.is_untouched());
}

#[tokio::test]
async fn what_is_no_address_is_not_asked() {
    let world = World::new(&json!({}));
    for authority in ["user:secret@127.0.0.1:1", "127.0.0.1:0", "127.0.0.1:99999", "a..b", "1.2.3.4.5"] {
        let outcome = world.ask(&Ask::get(authority), None).await;
        assert!(
            matches!(outcome, Outcome::Failed("HTTP-request-URI-invalid") | Outcome::Refused(_)),
            "{authority}: {outcome:?}"
        );
    }
    let connect = Ask { method: (5, String::new()), ..Ask::get("127.0.0.1:1") };
    assert_eq!(world.ask(&connect, None).await, Outcome::Failed("HTTP-request-method-invalid"));
}

#[tokio::test]
async fn trailers_of_a_response_come_behind_its_body() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                   5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n";
    let origin = Origin::new(move |_| chunked.into()).await;
    let world = World::new(&json!({}));
    let answer = world.ask(&Ask::get(origin.address), None).await.response();
    assert_eq!((answer.text(), answer.trailers.as_str()), ("hello", "x-sum: 5\n"));
    assert_eq!(answer.headers, "trailer: X-Sum\n");
    let answer = world.ask(&Ask::get(origin.address).does(SKIPS_TO_TRAILERS), None).await.response();
    assert_eq!(
        (answer.text(), answer.trailers.as_str()),
        ("", "x-sum: 5\n"),
        "they are there without the body, too"
    );
}

#[tokio::test]
async fn trailers_of_a_request_are_sent_if_they_are_announced() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = World::new(&json!({}));
    let ask = Ask::post(origin.address, "body").does(SENDS_TRAILERS);
    let told = ask.clone().header("X-Sum", "4");
    assert_eq!(world.ask(&told, None).await, Outcome::Failed("HTTP-request-trailer-section-size"));
    origin.closed().await;
    let forbidden = told.clone().header("Trailer", "X-Sum, Content-Type");
    assert_eq!(world.ask(&forbidden, None).await, Outcome::Failed("HTTP-request-denied"));
    let announced = told.header("Trailer", "X-Sum");
    assert_eq!(world.ask(&announced, None).await.response().status, 200);
    let seen = origin.request().await;
    assert_eq!((seen.body.as_slice(), seen.header("trailer")), (&b"body"[..], Some("x-sum")));
    assert!(seen.trailers.contains("x-sum: 4\n"), "{}", seen.trailers);
    assert_eq!(world.ask(&ask, None).await.response().status, 200, "none are none");
}
