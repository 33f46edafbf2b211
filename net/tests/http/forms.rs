//! Queries, forms, parts and credentials, as a server sees them.

use frame_net::http::multipart::{Form, Part};
use frame_net::http::{CredentialsError, HttpError, Method, Request, UrlError};
use serde_json::json;

use crate::origin::{Origin, ok, redirect};
use crate::support::soon;
use crate::world;

#[tokio::test]
async fn each_method_has_a_request_of_its_own() {
    let mut origin = Origin::new(|_| ok("hello")).await;
    let world = world(&json!({}));
    let url = origin.url("/");
    for (request, method) in [
        (Request::get(&url), "GET"),
        (Request::post(&url), "POST"),
        (Request::put(&url), "PUT"),
        (Request::patch(&url), "PATCH"),
        (Request::delete(&url), "DELETE"),
        (Request::new("PURGE".parse::<Method>().unwrap(), &url), "PURGE"),
    ] {
        let response = world.send(request.unwrap()).await.unwrap();
        assert_eq!(soon(response.text()).await.unwrap(), "hello");
        assert_eq!(origin.request().await.method(), method);
    }
}

#[tokio::test]
async fn a_response_to_head_has_no_body_whatever_its_headers_say() {
    // A server that does send the body breaks the protocol, so this one does not.
    let mut origin = Origin::new(|seen| match seen.method() {
        "HEAD" => crate::origin::Answer::Keep(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec()),
        _ => ok("hello"),
    })
    .await;
    let world = world(&json!({}));
    let response = world.send(Request::head(&origin.url("/")).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!(soon(response.bytes()).await.unwrap(), "");
    assert_eq!(world.text(&origin.url("/")).await, "hello");
    assert_eq!((origin.request().await.connection, origin.request().await.connection), (0, 0));
}

#[tokio::test]
async fn a_query_is_appended_in_its_order() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = world(&json!({}));
    let request = Request::get(&origin.url("/find?a=%20#fragment")).unwrap();
    let request = request.query([("z", "1"), ("a b", "c&d=e"), ("z", "ü?#/")]).unwrap();
    let request = request.query([(&b"bytes"[..], &[0xff, 0][..])]).unwrap();
    world.send(request).await.unwrap();
    assert_eq!(origin.request().await.path(), "/find?a=%20&z=1&a+b=c%26d%3De&z=%C3%BC%3F%23%2F&bytes=%FF%00");
    let none: [(&str, &str); 0] = [];
    world.send(Request::get(&origin.url("/find")).unwrap().query(none).unwrap()).await.unwrap();
    assert_eq!(origin.request().await.path(), "/find");
}

#[tokio::test]
async fn a_query_that_no_request_can_carry_is_refused() {
    let origin = Origin::new(|_| ok("")).await;
    let with = |len: usize| Request::get(&origin.url("/")).unwrap().query([("a", "x".repeat(len))]);
    assert!(world(&json!({})).send(with(60_000).unwrap()).await.is_ok());
    for (len, letter) in [(70_000, "x"), (1 << 20, "x"), (30_000, "%")] {
        let query = [("a", letter.repeat(len))];
        let error = Request::get(&origin.url("/")).unwrap().query(query).unwrap_err();
        assert!(matches!(error, HttpError::Url(UrlError::TooLong { limit: 65_534 })), "{error:?}");
    }
}

#[tokio::test]
async fn a_form_is_sent_as_browsers_send_it() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = world(&json!({}));
    let url = origin.url("/");
    let post = || Request::post(&url).unwrap();
    let form = [("name", "Ada L."), ("mail", "a+b@c.example"), ("tag", "1"), ("tag", "2")];
    world.send(post().form(form).unwrap()).await.unwrap();
    let seen = origin.request().await;
    assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(seen.body, b"name=Ada+L.&mail=a%2Bb%40c.example&tag=1&tag=2");

    let typed = "application/x-www-form-urlencoded; charset=utf-8";
    let before = post().header("content-type", typed).unwrap().form(form).unwrap();
    let after = post().form(form).unwrap().header("content-type", typed).unwrap();
    for request in [before, after] {
        world.send(request).await.unwrap();
        let head = origin.request().await.head;
        assert_eq!(head.matches("content-type").count(), 1, "{head}");
        assert!(head.contains(&format!("content-type: {typed}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn the_body_that_is_set_last_says_what_it_is() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = world(&json!({}));
    let request = Request::post(&origin.url("/")).unwrap().json(&json!([1])).unwrap();
    let request = request.multipart(Form::new()).unwrap().form([("a", "b")]).unwrap();
    world.send(request).await.unwrap();
    let seen = origin.request().await;
    assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(seen.body, b"a=b");
    let request = Request::post(&origin.url("/")).unwrap().multipart(Form::new()).unwrap().body("plain");
    world.send(request).await.unwrap();
    assert_eq!(origin.request().await.header("content-type"), None);
}

#[tokio::test]
async fn parts_are_sent_with_their_names_and_types() {
    let mut origin = Origin::new(|_| ok("")).await;
    let world = world(&json!({}));
    let photo = Part::bytes(vec![0xff, 0, 13, 10]).file_name("m\"e.png").content_type("image/png").unwrap();
    let form = Form::new().text("user", "Ada\r\n").part("photo", photo);
    let url = origin.url("/");
    let post = || Request::post(&url).unwrap();
    world.send(post().multipart(form).unwrap()).await.unwrap();
    let seen = origin.request().await;
    let boundary =
        seen.header("content-type").unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
    let expected = [
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nAda\r\n\r\n")
            .as_bytes(),
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"m%22e.png\"\r\n\
             Content-Type: image/png\r\n\r\n"
        )
        .as_bytes(),
        &[0xff, 0, 13, 10, 13, 10],
        format!("--{boundary}--\r\n").as_bytes(),
    ]
    .concat();
    assert_eq!(seen.body, expected);

    let error = post().header("content-type", "x/y").unwrap().multipart(Form::new()).unwrap_err();
    assert!(matches!(error, HttpError::ReservedHeader { .. }), "{error:?}");
    let error = post().multipart(Form::new()).unwrap().header("content-type", "x/y").unwrap_err();
    assert!(matches!(error, HttpError::ReservedHeader { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_stay_within_an_origin() {
    let mut there = Origin::new(|_| ok("there")).await;
    let to = there.url("/");
    let mut here = Origin::new(move |_| redirect(302, &to)).await;
    let world = world(&json!({}));
    let url = here.url("/");
    let get = || Request::get(&url).unwrap();
    let replaced = get().bearer_auth("old").unwrap().basic_auth("Aladdin", "open sesame").unwrap();
    for (request, expected) in [
        (replaced, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (get().bearer_auth("mF_9.B5f-4.1JqM").unwrap(), "Bearer mF_9.B5f-4.1JqM"),
    ] {
        let response = world.send(request).await.unwrap();
        assert_eq!((response.redirects(), response.url().as_str()), (1, there.url("/").as_str()));
        assert_eq!(soon(response.text()).await.unwrap(), "there");
        let seen = here.request().await;
        assert_eq!(seen.head.matches("authorization").count(), 1, "{}", seen.head);
        assert_eq!(seen.header("authorization"), Some(expected));
        assert_eq!(there.request().await.header("authorization"), None);
    }
    let error = get().basic_auth("a:b", "31337").unwrap_err();
    assert!(matches!(error, HttpError::Credentials(CredentialsError::Colon)));
    assert!(!format!("{error:?}").contains("31337"));
}
