//! Redirects, as the origin sees them.

use frame_net::http::{HttpError, Method, RedirectError, Request, StatusCode, UrlError};
use frame_net::{Cause, NetworkError};
use serde_json::json;

use crate::origin::{Answer, Event, Origin, ok, redirect};
use crate::servers::namespace::ipv6_tests;
use crate::support::{Bait, soon};
use crate::{causes, world};

#[tokio::test]
async fn methods_and_bodies_change_as_browsers_change_them() {
    let mut origin = Origin::new(|seen| {
        let status = seen.path()[1..].parse().ok();
        status.map_or_else(|| ok("arrived"), |status| redirect(status, "/arrived"))
    })
    .await;
    let world = world(&json!({}));
    let cases = [
        (301, "GET", "GET"),
        (301, "POST", "GET"),
        (301, "PUT", "PUT"),
        (302, "POST", "GET"),
        (302, "DELETE", "DELETE"),
        (303, "GET", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (307, "POST", "POST"),
        (307, "PUT", "PUT"),
        (308, "POST", "POST"),
        (308, "GET", "GET"),
    ];
    for (status, method, then) in cases {
        let body = if method == "GET" { "" } else { "body" };
        let request = Request::new(method.parse().unwrap(), &origin.url(&format!("/{status}"))).unwrap();
        let request =
            request.header("content-type", "text/x").unwrap().header("x-a", "1").unwrap().body(body);
        let response = world.send(request).await.unwrap();
        assert_eq!(response.url().path(), "/arrived");
        assert_eq!(soon(response.text()).await.unwrap(), "arrived");

        let (first, second) = (origin.request().await, origin.request().await);
        assert_eq!((first.method(), first.body.as_slice()), (method, body.as_bytes()), "{status} {method}");
        let keeps_body = method == then && status != 303;
        assert_eq!((second.method(), second.path()), (then, "/arrived"), "{status} {method}");
        assert_eq!(second.body, if keeps_body { body.as_bytes() } else { b"" }, "{status} {method}");
        assert_eq!(second.header("content-type").is_some(), keeps_body, "{status} {method}");
        assert_eq!(second.header("x-a"), Some("1"));
        assert_eq!(second.header("referer"), None);
        assert_eq!(second.connection, 0, "one connection serves all of them");
    }
    let head = Request::new(Method::HEAD, &origin.url("/arrived")).unwrap();
    assert_eq!(world.send(head).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn secrets_stay_within_an_origin() {
    let mut there = Origin::new(|_| ok("there")).await;
    let to = there.url("/");
    let mut here = Origin::new(move |seen| match seen.path() {
        "/here" => redirect(302, "/here-too"),
        "/here-too" => redirect(307, &to),
        _ => ok(""),
    })
    .await;
    let world = world(&json!({}));
    let secret = ["authorization", "cookie", "proxy-authorization"];
    let mut request = Request::get(&here.url("/here")).unwrap().header("accept", "a").unwrap();
    for name in secret {
        request = request.header(name, "31337").unwrap();
    }
    world.send(request).await.unwrap();
    for _ in 0..2 {
        let seen = here.request().await;
        assert!(secret.iter().all(|name| seen.header(name) == Some("31337")), "{}", seen.head);
    }
    let seen = there.request().await;
    assert!(!seen.head.contains("31337"), "{}", seen.head);
    assert_eq!((seen.header("accept"), seen.header("host")), (Some("a"), Some(&*there.address.to_string())));
}

#[tokio::test]
async fn redirects_end_at_the_limit() {
    let mut origin = Origin::new(|seen| {
        let number: usize = seen.path()[1..].parse().unwrap();
        if number == 0 { ok("done") } else { redirect(302, &format!("/{}", number - 1)) }
    })
    .await;
    let world = world(&json!({}));
    assert_eq!(world.text(&origin.url("/10")).await, "done");
    for _ in 0..=10 {
        origin.request().await;
    }
    let error = world.get(&origin.url("/11")).await.unwrap_err();
    assert!(matches!(error, HttpError::TooManyRedirects { limit: 10, .. }), "{error:?}");
    for number in (1..=11).rev() {
        assert_eq!(origin.request().await.path(), format!("/{number}"));
    }

    let request = Request::get(&origin.url("/2")).unwrap();
    let error = world.send(request.clone().max_redirects(1)).await.unwrap_err();
    assert!(matches!(error, HttpError::TooManyRedirects { limit: 1, .. }), "{error:?}");
    let response = world.send(request.max_redirects(0)).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["location"]),
        (StatusCode::FOUND, &"/1".parse().unwrap())
    );
    assert_eq!(soon(response.text()).await.unwrap(), "moved");
}

#[tokio::test]
async fn the_body_of_a_redirect_is_not_waited_for() {
    let mut origin = Origin::new(|seen| match seen.path() {
        "/" => Answer::Keep("HTTP/1.1 302 X\r\nLocation: /there\r\nContent-Length: 5\r\n\r\n".into()),
        _ => ok("hello"),
    })
    .await;
    assert_eq!(world(&json!({})).text(&origin.url("/")).await, "hello");
    assert_eq!(origin.request().await.connection, 0);
    // What would have to be waited for is closed.
    let events = [origin.event().await, origin.event().await];
    assert!(events.iter().any(|event| matches!(event, Event::Closed(0))), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Request(seen) if seen.connection == 1)));
}

#[tokio::test]
async fn a_loop_ends() {
    let origin = Origin::new(|_| redirect(301, "/")).await;
    let error = world(&json!({})).get(&origin.url("/")).await.unwrap_err();
    assert!(matches!(error, HttpError::TooManyRedirects { .. }) && !error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_redirect_to_another_scheme_or_with_a_user_is_refused() {
    let bait = Bait::new();
    let with_user = format!("http://31337@{}/", bait.endpoint());
    let origin = {
        let with_user = with_user.clone();
        Origin::new(move |seen| {
            redirect(302, if seen.path() == "/user" { &with_user } else { "file:///31337" })
        })
        .await
    };
    let world = world(&json!({}));
    for (path, expected) in [("/user", UrlError::Userinfo), ("/file", UrlError::Scheme)] {
        let error = world.get(&origin.url(path)).await.unwrap_err();
        assert!(!format!("{} {error:?}", causes(&error)).contains("31337"), "{error:?}");
        let HttpError::Redirect { source: RedirectError::Url(why), peer, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!((why, peer.endpoint), (expected, origin.address.try_into().unwrap()));
    }
    bait.assert_untouched();
}

#[tokio::test]
async fn a_redirect_that_says_nothing_is_a_response() {
    let origin = Origin::new(|seen| match seen.path() {
        "/304" => crate::origin::response(304, &[("Location", "/x")], ""),
        _ => crate::origin::response(302, &[], "where?"),
    })
    .await;
    let world = world(&json!({}));
    assert_eq!(world.get(&origin.url("/302")).await.unwrap().status(), StatusCode::FOUND);
    assert_eq!(world.get(&origin.url("/304")).await.unwrap().status(), StatusCode::NOT_MODIFIED);
}

ipv6_tests! {
    /// Clearnet here reaches 127.0.0.0/8, because the origin is there, and no other address that is not public.
    async fn a_redirect_does_not_get_around_the_guard_of_clearnet() {
        let bait = std::net::TcpListener::bind("[::1]:0").unwrap();
        bait.set_nonblocking(true).unwrap();
        let to_bait = format!("http://{}/", bait.local_addr().unwrap());
        let origin = Origin::new(move |seen| match seen.path() {
            "/loopback" => redirect(302, &to_bait),
            path => redirect(302, &format!("http:/{path}/")),
        })
        .await;
        let world = world(&json!({}));
        // The origin's own address is special, so the guard decides.
        for path in ["/loopback", "/10.0.0.1", "/192.168.0.1", "/169.254.169.254", "/[fd00::1]", "/0xa000001"] {
            let error = world.get(&origin.url(path)).await.unwrap_err();
            assert!(!error.is_retryable(), "{path}: {}", causes(&error));
            let HttpError::Network(error) = error else { panic!("{path}: {error:?}") };
            let NetworkError::Connect { source, .. } = &*error else { panic!("{path}: {error:?}") };
            assert!(matches!(source.cause(), Cause::Denied(_)), "{path}: {source:?}");
        }
        assert_eq!(bait.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
