//! What is sent, and what comes back.

use frame_net::http::{HttpError, Method, Request, StatusCode, UrlError, Version};
use frame_net::{NetworkError, Route};
use serde_json::{Value, json};

use crate::origin::{Answer, Event, Origin, ok, response};
use crate::support::soon;
use crate::{causes, world};

#[tokio::test]
async fn a_request_has_nothing_in_it_but_what_it_must_have() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let world = world(&json!({}));
    let url = origin.url("/a%20b?c=d#e");
    let response = world.get(&url).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_11));
    assert_eq!((response.url().as_str(), response.route()), (url.as_str(), &Route::Clearnet));
    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!(soon(response.bytes()).await.unwrap(), "hello");
    let expected = format!(
        "GET /a%20b?c=d HTTP/1.1\r\nhost: {}\r\naccept-encoding: gzip, br, zstd\r\n\r\n",
        origin.address
    );
    assert_eq!(origin.request().await.head, expected);
}

#[tokio::test]
async fn headers_and_bodies_arrive() {
    let mut origin = Origin::new(|seen| response(201, &[], String::from_utf8_lossy(&seen.body))).await;
    let world = world(&json!({}));
    let request = Request::post(&origin.url("/")).unwrap();
    let request = request.header("x-a", "1").unwrap().header("x-a", "2").unwrap().body("body");
    let response = world.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(soon(response.text()).await.unwrap(), "body");
    let seen = origin.request().await;
    assert_eq!((seen.method(), seen.header("content-length")), ("POST", Some("4")));
    assert!(seen.head.contains("x-a: 1\r\nx-a: 2\r\n"), "{}", seen.head);
}

#[tokio::test]
async fn an_empty_post_says_that_it_is_empty() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = world(&json!({}));
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        world.send(Request::new(method.clone(), &origin.url("/")).unwrap()).await.unwrap();
        let seen = origin.request().await;
        let says = ["POST", "PUT", "PATCH"].contains(&method.as_str());
        assert_eq!(seen.header("content-length"), says.then_some("0"), "{method}");
    }
}

#[tokio::test]
async fn json_goes_both_ways() {
    let mut origin = Origin::new(|_| ok(r#"{ "b": [2] }"#)).await;
    let world = world(&json!({}));
    let request = Request::post(&origin.url("/")).unwrap().json(&json!({ "a": 1 })).unwrap();
    let response = world.send(request).await.unwrap();
    assert_eq!(soon(response.json::<Value>()).await.unwrap(), json!({ "b": [2] }));
    let seen = origin.request().await;
    assert_eq!(
        (seen.body.as_slice(), seen.header("content-type")),
        (&br#"{"a":1}"#[..], Some("application/json"))
    );

    let error = soon(world.get(&origin.url("/")).await.unwrap().json::<Vec<u8>>()).await.unwrap_err();
    assert!(matches!(error, HttpError::Decode { .. }) && !error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn what_is_no_json_is_not_shown() {
    /// Says what it has.
    struct Broken;
    impl serde::Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("31337"))
        }
    }
    let origin = Origin::new(|_| ok(r#"{"token":"31337"}"#)).await;
    let response = world(&json!({})).get(&origin.url("/")).await.unwrap();
    let decode = soon(response.json::<std::collections::HashMap<String, u32>>()).await.unwrap_err();
    assert!(
        matches!(decode, HttpError::Decode { source, .. } if (source.line(), source.column()) == (1, 16))
    );
    let encode = Request::post(&origin.url("/")).unwrap().json(&Broken).unwrap_err();
    for error in [decode, encode] {
        let shown = format!("{} {error:?}", causes(&error));
        assert!(!shown.contains("31337"), "{shown}");
    }
}

#[tokio::test]
async fn text_is_utf_8() {
    let origin = Origin::new(|_| {
        crate::origin::Answer::Keep(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe".to_vec())
    })
    .await;
    let world = world(&json!({}));
    let error = soon(world.get(&origin.url("/")).await.unwrap().text()).await.unwrap_err();
    assert!(matches!(error, HttpError::NotUtf8 { .. }), "{error:?}");
}

#[tokio::test]
async fn the_answer_to_head_has_no_body_whatever_it_says() {
    let mut origin = Origin::new(|seen| {
        let body = if seen.method() == "HEAD" { "" } else { "hello" };
        crate::origin::Answer::Keep(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}").into())
    })
    .await;
    let world = world(&json!({}));
    let head = world.send(Request::new(Method::HEAD, &origin.url("/")).unwrap()).await.unwrap();
    assert_eq!(head.headers()["content-length"], "5");
    assert_eq!(soon(head.bytes()).await.unwrap(), "");
    assert_eq!(world.text(&origin.url("/")).await, "hello");
    assert_eq!((origin.request().await.connection, origin.request().await.connection), (0, 0));
}

#[tokio::test]
async fn an_error_status_is_a_response() {
    let origin = Origin::new(|_| response(404, &[], "no")).await;
    let response = world(&json!({})).get(&origin.url("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(soon(response.text()).await.unwrap(), "no");
}

#[tokio::test]
async fn requests_are_made_at_the_same_time() {
    let mut origin = Origin::new(|seen| ok(seen.path())).await;
    let world = world(&json!({}));
    let requests: Vec<_> = (0..50)
        .map(|index| {
            let (client, dialer) = (world.client.clone(), world.dialer(&json!({})));
            let request = Request::get(&origin.url(&format!("/{index}"))).unwrap();
            tokio::spawn(async move { client.send(&dialer, request).await.unwrap().text().await.unwrap() })
        })
        .collect();
    for (index, request) in requests.into_iter().enumerate() {
        assert_eq!(soon(request).await.unwrap(), format!("/{index}"));
    }
    for _ in 0..50 {
        while !matches!(origin.event().await, crate::origin::Event::Request(_)) {}
    }
}

#[test]
fn no_header_makes_two_requests_of_one() {
    let request = Request::get("http://h/").unwrap();
    let reserved = [
        "Connection",
        "Content-Length",
        "Expect",
        "Host",
        "HTTP2-Settings",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    ];
    for name in reserved {
        let error = request.clone().header(name, "1").unwrap_err();
        assert!(matches!(error, HttpError::ReservedHeader { .. }), "{name}: {error:?}");
    }
    for (name, value) in
        [("a b", "1"), ("", "1"), ("a:b", "1"), ("a", "1\r\nb: 2"), ("a", "1\0"), ("a\n", "1")]
    {
        let error = request.clone().header(name, value).unwrap_err();
        assert!(matches!(error, HttpError::InvalidHeader), "{name:?}: {error:?}");
    }
    let error = Request::new(Method::CONNECT, "http://h/").unwrap_err();
    assert!(matches!(error, HttpError::Method { .. }) && !error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_request_has_as_many_headers_as_allowed_and_no_more() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let mut request = Request::post(&origin.url("/")).unwrap();
    for number in 0..1000 {
        request = request.header(format!("x-{number}"), "").unwrap();
    }
    let with_one_more = [request.clone().header("x-0", ""), request.clone().json(&json!({}))];
    for error in with_one_more.map(Result::unwrap_err) {
        assert!(matches!(error, HttpError::TooManyHeaders { limit: 1000 }), "{error:?}");
    }
    world(&json!({})).send(request).await.unwrap();
    assert!(origin.request().await.head.contains("\r\nx-999: \r\n"));
}

#[test]
fn a_url_with_a_user_or_of_another_scheme_is_refused_and_not_shown() {
    let error = |url: &str| {
        let error = Request::get(url).unwrap_err();
        let shown = format!("{} {error:?}", causes(&error));
        assert!(!shown.contains("31337"), "{shown}");
        let HttpError::Url(error) = error else { panic!("{error:?}") };
        error
    };
    assert_eq!(error("http://31337@h/"), UrlError::Userinfo);
    assert_eq!(error("http://u:31337@h/"), UrlError::Userinfo);
    assert_eq!(error("ftp://h/31337"), UrlError::Scheme);
    assert!(matches!(error("31337"), UrlError::Invalid(_)));
}

#[tokio::test]
async fn nothing_that_is_shown_has_secrets_in_it() {
    let origin = Origin::new(|_| response(200, &[("Set-Cookie", "31337")], "31337")).await;
    let world = world(&json!({}));
    let request = Request::post(&origin.url("/31337?31337#31337")).unwrap();
    let request = request.header("authorization", "31337").unwrap().body("31337");
    let mut shown = vec![format!("{request:?} {:?}", world.client)];
    let response = world.send(request).await.unwrap();
    shown.push(format!("{response:?}"));
    let request = Request::get("http://127.0.0.1:1/31337?31337").unwrap().header("cookie", "31337").unwrap();
    let error = world.send(request).await.unwrap_err();
    assert!(matches!(&error, HttpError::Network(error) if matches!(**error, NetworkError::Connect { .. })));
    assert!(error.to_string().contains("127.0.0.1:1 through clearnet"), "{error}");
    shown.push(format!("{} {error:?}", causes(&error)));
    for shown in shown {
        assert!(!shown.contains("31337"), "{shown}");
    }
}

#[tokio::test]
async fn trailers_are_there_behind_the_body() {
    let origin = Origin::new(|seen| match seen.path() {
        "/none" => ok("hello"),
        _ => Answer::Keep(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n"
                .into(),
        ),
    })
    .await;
    let world = world(&json!({}));
    for (path, sum) in [("/some", Some("5")), ("/none", None)] {
        let mut response = world.get(&origin.url(path)).await.unwrap();
        assert!(response.trailers().is_none(), "nobody knows yet");
        while let Some(chunk) = soon(response.chunk()).await.unwrap() {
            assert_eq!(chunk, "hello");
        }
        let trailers = response.trailers();
        assert_eq!(trailers.map(|trailers| trailers["x-sum"].to_str().unwrap()), sum);
    }
}

#[tokio::test]
async fn a_server_that_switches_protocols_unasked_gets_no_further_request() {
    let origin = Origin::new(|_| {
        Answer::Keep(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n".to_vec())
    })
    .await;
    let world = world(&json!({}));
    for _ in 0..2 {
        let response = world.get(&origin.url("/")).await.unwrap();
        assert_eq!(response.status().as_u16(), 101);
        assert_eq!(soon(response.bytes()).await.unwrap(), "");
    }
    let mut origin = origin;
    let mut connections = Vec::new();
    while connections.len() < 2 {
        if let Event::Request(seen) = origin.event().await {
            connections.push(seen.connection);
        }
    }
    assert_eq!(connections, [0, 1]);
}
