//! Bodies that are streams, in both directions.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use frame_net::http::multipart::{Form, Part};
use frame_net::http::{
    Body, BodyError, Bytes, HeaderMap, HeaderValue, HttpConfig, HttpError, RedirectError, Version,
};
use hyper::body::Frame;

use crate::causes;
use crate::stage::{Stage, fed};
use crate::support::soon;

fn reader(text: &'static str) -> Body {
    Body::from_reader(text.as_bytes())
}

fn default() -> HttpConfig {
    HttpConfig::default()
}

fn limited(change: impl Fn(&mut HttpConfig)) -> HttpConfig {
    let mut config = default();
    change(&mut config);
    config
}

/// A stream of so many bytes, in pieces.
fn pieces(count: usize, len: usize) -> Body {
    Body::from_reader(ReadZeros(count * len, len))
}

struct ReadZeros(usize, usize);

impl tokio::io::AsyncRead for ReadZeros {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let len = self.0.min(self.1).min(buffer.remaining());
        buffer.put_slice(&vec![0; len]);
        self.0 -= len;
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_body_of_known_length_says_so_and_one_of_unknown_length_is_sent_in_chunks() {
    let [http1, http2] = Stage::both(&default()).await;
    assert_eq!(http1.text(http1.post("/told").body(reader("hello"))).await, "|chunked||{}|hello");
    assert_eq!(http1.text(http1.get("/told").body(reader("hello"))).await, "|chunked||{}|hello");
    assert_eq!(http2.text(http2.post("/told").body(reader("hello"))).await, "|||{}|hello");
    for stage in [http1, http2] {
        let body = reader("hello").with_length(5);
        assert_eq!(stage.text(stage.post("/told").body(body)).await, "5|||{}|hello");
        let body = reader("").with_length(0);
        assert_eq!(stage.text(stage.post("/told").body(body)).await, "0|||{}|");
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_it_says_fails_the_request() {
    for stage in Stage::both(&default()).await {
        for (length, words) in
            [(4, "4 bytes, and it has more"), (6, "6 bytes, and it has fewer"), (0, "it has more")]
        {
            let error =
                stage.send(stage.post("/count").body(reader("hello").with_length(length))).await.unwrap_err();
            assert!(matches!(error, HttpError::RequestBody(BodyError::Length { .. })), "{error:?}");
            assert!(causes(&error).contains(words) && !error.is_retryable(), "{}", causes(&error));
        }
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_fails_the_request_and_says_why() {
    struct Broken;

    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Err(io::Error::other("the disk is gone")))
        }
    }

    for stage in Stage::both(&default()).await {
        let error = stage.send(stage.post("/count").body(Body::from_reader(Broken))).await.unwrap_err();
        assert!(matches!(error, HttpError::RequestBody(BodyError::Read(_))), "{error:?}");
        assert!(causes(&error).contains("the disk is gone"), "{}", causes(&error));
    }
}

#[tokio::test]
async fn a_stream_is_sent_while_it_is_made_and_the_response_read_meanwhile() {
    for stage in Stage::both(&default()).await {
        let (feed, body) = fed();
        feed.send(Frame::data("one".into())).unwrap();
        let mut response = stage.send(stage.post("/echo").body(body).streamed()).await.unwrap();
        assert_eq!(soon(response.chunk()).await.unwrap().unwrap(), "one");
        feed.send(Frame::data("two".into())).unwrap();
        assert_eq!(soon(response.chunk()).await.unwrap().unwrap(), "two");
        drop(feed);
        assert!(soon(response.chunk()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn little_of_a_stream_can_be_sent_again_where_a_redirect_leads() {
    for stage in Stage::both(&default()).await {
        assert_eq!(stage.text(stage.post("/redirect/count").body(pieces(2, 1000))).await, "2000");
        let error = stage.send(stage.post("/redirect/count").body(pieces(10, 10_000))).await.unwrap_err();
        assert!(matches!(error, HttpError::Redirect { source: RedirectError::Streamed, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_stream_that_was_sent_cannot_be_sent_by_a_clone() {
    let stage = Stage::http1(default()).await;
    let request = stage.post("/count").body(pieces(10, 10_000));
    assert_eq!(stage.text(request.clone()).await, "100000");
    let error = stage.send(request).await.unwrap_err();
    assert!(matches!(error, HttpError::RequestBody(BodyError::Used)), "{error:?}");
    assert_eq!(stage.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn streams_have_a_limit_of_length_of_their_own() {
    let config = limited(|config| {
        (config.max_request_body, config.max_response_body) = (10, 10);
        config.max_streamed_body = Some(100_000);
    });
    for stage in Stage::both(&config).await {
        assert_eq!(stage.text(stage.post("/count").body(pieces(10, 10_000))).await, "100000");
        let error = stage.send(stage.post("/count").body(pieces(11, 10_000))).await.unwrap_err();
        assert!(matches!(error, HttpError::RequestBody(BodyError::TooLarge { limit: 100_000 })), "{error:?}");
        assert!(causes(&error).contains("`max_streamed_body`"));

        let read = async |path| stage.send(stage.get(path).streamed()).await.unwrap().bytes().await;
        assert_eq!(soon(read("/bytes/100000")).await.unwrap().len(), 100_000);
        let error = soon(read("/bytes/100001")).await.unwrap_err();
        assert!(error.to_string().ends_with("the limit of `max_streamed_body`"), "{error}");
        let error = soon(stage.send(stage.get("/bytes/100")).await.unwrap().bytes()).await.unwrap_err();
        assert!(error.to_string().ends_with("the limit of `max_response_body`"), "{error}");
    }
}

#[tokio::test]
async fn a_stream_may_take_longer_than_other_requests_while_something_moves() {
    let config = limited(|config| config.time_limit = Duration::from_millis(100));
    for stage in Stage::both(&config).await {
        let mut response = stage.send(stage.get("/drip").streamed()).await.unwrap();
        for _ in 0..20 {
            assert_eq!(soon(response.chunk()).await.unwrap().unwrap(), "drop");
        }
        // With a limit of its own it may not.
        let request = stage.get("/drip").streamed().time_limit(Duration::from_millis(100));
        let mut response = stage.send(request).await.unwrap();
        let error = loop {
            if let Err(error) = soon(response.chunk()).await {
                break error;
            }
        };
        assert!(matches!(error, HttpError::TimedOut { .. }), "{error:?}");

        let (feed, body) = fed();
        let sent = stage.send(stage.post("/count").body(body));
        let feeding = async move {
            for _ in 0..20 {
                feed.send(Frame::data("drop".into())).unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (response, ()) = tokio::join!(sent, feeding);
        assert_eq!(soon(response.unwrap().text()).await.unwrap(), "80");
    }
}

fn assert_stalled(error: &HttpError) {
    assert!(matches!(error, HttpError::Stalled { .. }) && error.is_retryable(), "{error:?}");
    assert!(error.to_string().ends_with("for 100ms, the limit of `stall_limit`"), "{error}");
}

#[tokio::test]
async fn a_stream_that_stands_still_ends_with_the_setting_that_says_so() {
    let config = limited(|config| config.stall_limit = Duration::from_millis(100));
    for mut stage in Stage::both(&config).await {
        let mut response = stage.send(stage.get("/stall").streamed()).await.unwrap();
        assert_eq!(soon(response.chunk()).await.unwrap().unwrap(), "begun");
        assert_stalled(&soon(response.chunk()).await.unwrap_err());
        assert_stalled(&soon(response.chunk()).await.unwrap_err());
        drop(response);
        assert_eq!(stage.closed().await, 0);

        // The server takes no more of it; there is no more; and there is no answer.
        let (feed, silent) = fed();
        for body in [pieces(1000, 10_000), silent, pieces(1, 1)] {
            assert_stalled(&stage.send(stage.post("/deaf").body(body)).await.unwrap_err());
        }
        drop(feed);
        // The time for the answer counts from when the body was sent.
        let request = stage.post("/deaf").body(pieces(1, 1)).answer_limit(Duration::from_millis(50));
        let error = stage.send(request).await.unwrap_err();
        assert!(matches!(error, HttpError::AnswerTimedOut { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_half_way_closes_its_connection_and_no_other() {
    for mut stage in Stage::both(&default()).await {
        assert_eq!(stage.text(stage.get("/connection")).await, "0");
        let mut response = stage.send(stage.get("/bytes/100000000").streamed()).await.unwrap();
        assert!(soon(response.chunk()).await.unwrap().is_some());
        let is_http2 = response.version() == Version::HTTP_2;
        drop(response);
        assert_eq!(stage.closed().await, usize::from(is_http2));
        let next = stage.text(stage.get("/connection")).await;
        assert_eq!(next, if is_http2 { "0" } else { "1" });
        // One that was read to its end serves others.
        let stream = stage.text(stage.get("/connection").streamed()).await;
        assert_eq!(stream, if is_http2 { "2" } else { "1" });
        assert_eq!(stage.text(stage.get("/connection")).await, next);
    }
}

#[tokio::test]
async fn streams_that_are_not_read_hold_up_no_other_request() {
    for stage in Stage::both(&default()).await {
        let mut unread = Vec::new();
        for _ in 0..8 {
            unread.push(stage.send(stage.get("/bytes/100000000").streamed()).await.unwrap());
        }
        let text = stage.send(stage.get("/bytes/10000000")).await.unwrap();
        assert_eq!(soon(text.bytes()).await.unwrap().len(), 10_000_000);
    }
}

#[tokio::test]
async fn trailers_follow_a_body_in_both_directions() {
    for stage in Stage::both(&default()).await {
        let mut response = stage.send(stage.get("/trailers").accept_trailers()).await.unwrap();
        assert_eq!(response.headers()["x-te"], "trailers");
        assert!(response.trailers().is_none());
        assert_eq!(soon(response.chunk()).await.unwrap().unwrap(), "body");
        assert!(soon(response.chunk()).await.unwrap().is_none());
        assert_eq!(response.trailers().unwrap()["x-sum"], "42");

        let name: frame_net::http::HeaderName = "x-sum".parse().unwrap();
        let send = |data: &'static str, trailer: &'static str| {
            let (feed, body) = fed();
            let trailers: HeaderMap =
                [(trailer.parse().unwrap(), HeaderValue::from_static("42"))].into_iter().collect();
            feed.send(Frame::data(Bytes::from_static(data.as_bytes()))).unwrap();
            feed.send(Frame::trailers(trailers)).unwrap();
            stage.send(stage.post("/told").body(body.with_trailers([name.clone()])))
        };
        let told = soon(send("hello", "x-sum").await.unwrap().text()).await.unwrap();
        assert!(told.ends_with(r#"|x-sum|{"x-sum": "42"}|hello"#), "{told}");
        let error = send("hello", "x-other").await.unwrap_err();
        assert!(matches!(error, HttpError::RequestBody(BodyError::Trailer { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn trailers_that_no_body_can_have_are_refused() {
    for stage in Stage::both(&default()).await {
        for name in ["content-length", "host", "authorization", "content-type", "set-cookie"] {
            let body = reader("hello").with_trailers([name.parse().unwrap()]);
            let error = stage.send(stage.post("/told").body(body)).await.unwrap_err();
            assert!(error.to_string().contains(name) && !error.is_retryable(), "{error}");
        }
        assert_eq!(stage.requests.load(Ordering::SeqCst), 0);
    }
}

fn form(part: Body) -> Form {
    let part = Part::stream(part).file_name("a.txt").content_type("text/plain").unwrap();
    Form::new().text("first", "1").part("file", part).text("last", "2")
}

/// What `/told` says of a form: its framing, and what is in it.
async fn told(stage: &Stage, form: Form) -> (String, String) {
    let text = stage.text(stage.post("/told").multipart(form).unwrap()).await;
    let (framing, body) = text.split_once("|--").unwrap();
    let (boundary, _) = body.split_once("\r\n").unwrap();
    (framing.to_owned(), format!("--{}", body.replace(boundary, "B")))
}

#[tokio::test]
async fn a_part_that_is_a_stream_is_sent_between_the_others() {
    let body = "--B\r\nContent-Disposition: form-data; name=\"first\"\r\n\r\n1\r\n--B\r\nContent-Disposition: form-data; \
                name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nhello\r\n--B\r\nContent-Disposition: \
                form-data; name=\"last\"\r\n\r\n2\r\n--B--\r\n";
    // Each boundary has 31 bytes more than in `body`.
    let length = format!("{}|||{{}}", body.len() + 4 * 31);
    let [http1, http2] = Stage::both(&default()).await;
    assert_eq!(told(&http1, form(reader("hello"))).await, ("|chunked||{}".to_owned(), body.to_owned()));
    assert_eq!(told(&http2, form(reader("hello"))).await, ("|||{}".to_owned(), body.to_owned()));
    for stage in [http1, http2] {
        // What is known to be as long is framed as if it were whole.
        for part in [Body::from("hello"), reader("hello").with_length(5)] {
            assert_eq!(told(&stage, form(part)).await, (length.clone(), body.to_owned()));
        }
        let empty = form(reader("").with_length(0));
        assert!(told(&stage, empty).await.1.contains("text/plain\r\n\r\n\r\n--B\r\n"));
        let two = Form::new().part("a", Part::stream(reader("x"))).part("b", Part::stream(reader("y")));
        let (_, body) = told(&stage, two).await;
        assert!(body.contains("name=\"a\"\r\n\r\nx\r\n--B\r\nContent"), "{body}");
        assert!(body.ends_with("name=\"b\"\r\n\r\ny\r\n--B--\r\n"), "{body}");
    }
}

#[tokio::test]
async fn a_part_of_another_length_than_it_says_fails_the_request() {
    for stage in Stage::both(&default()).await {
        for (length, words) in [(4, "4 bytes, and it has more"), (6, "6 bytes, and it has fewer")] {
            let request = stage.post("/count").multipart(form(reader("hello").with_length(length))).unwrap();
            let error = stage.send(request).await.unwrap_err();
            assert!(matches!(error, HttpError::RequestBody(BodyError::Read(_))), "{error:?}");
            let causes = causes(&error);
            assert!(causes.contains("part 2 of the form") && causes.contains(words), "{causes}");
        }
        let (feed, part) = fed();
        let name = "x-sum".parse::<frame_net::http::HeaderName>().unwrap();
        let trailers = [(name.clone(), HeaderValue::from_static("42"))].into_iter().collect();
        feed.send(Frame::trailers(trailers)).unwrap();
        let request = stage.post("/count").multipart(form(part.with_trailers([name]))).unwrap();
        let error = stage.send(request).await.unwrap_err();
        assert!(causes(&error).contains("trailer"), "{}", causes(&error));
    }
}

#[tokio::test]
async fn a_form_with_a_stream_is_sent_once() {
    for stage in Stage::both(&default()).await {
        let form = form(pieces(10, 10_000));
        let request = stage.post("/redirect/count").multipart(form.clone()).unwrap();
        let error = stage.send(request).await.unwrap_err();
        assert!(matches!(error, HttpError::Redirect { source: RedirectError::Streamed, .. }), "{error:?}");
        let error = stage.post("/count").multipart(form).unwrap_err();
        assert!(matches!(error, HttpError::RequestBody(BodyError::Used)), "{error:?}");
    }
    let stage = Stage::http1(default()).await;
    let body = pieces(1, 10);
    stage.text(stage.post("/count").body(body.clone())).await;
    let error = stage.post("/count").multipart(form(body)).unwrap_err();
    assert!(matches!(error, HttpError::RequestBody(BodyError::Used)), "{error:?}");
}

#[tokio::test]
async fn a_small_stream_is_sent_again_where_the_server_has_closed_the_connection() {
    use crate::origin::{Answer, Origin, ok};
    let mut origin = Origin::new(|seen| match (seen.connection, seen.path()) {
        (0, "/second") => Answer::Close(Vec::new()),
        _ => ok(String::from_utf8_lossy(&seen.body)),
    })
    .await;
    let world = crate::world(&serde_json::json!({}));
    world.text(&origin.url("/first")).await;
    origin.request().await;
    let request =
        frame_net::http::Request::new(frame_net::http::Method::PUT, &origin.url("/second")).unwrap();
    let response = world.send(request.body(reader("hello").with_length(5))).await.unwrap();
    assert_eq!(soon(response.text()).await.unwrap(), "hello");
    assert_eq!(origin.request().await.connection, 0);
}

#[tokio::test]
async fn a_stream_counts_as_a_connection_of_its_unit_while_it_lives() {
    let stage = Stage::http1(default()).await;
    let (app, _networks) = crate::support::app(serde_json::json!({
        "clearnet": { "allow": ["127.0.0.0/8"] }, "limits": { "connections": 10, "connections_per_unit": 2 },
    }));
    let dialer = frame_net::dialer(&crate::support::frame(&app, &serde_json::json!({})), &app).unwrap();
    let send = |path: &'static str| {
        let request = stage.get(path).streamed();
        soon(stage.world.client.send(&dialer, request))
    };
    let first = send("/stall").await.unwrap();
    let _second = send("/stall").await.unwrap();
    let error = send("/stall").await.unwrap_err();
    assert!(causes(&error).contains('2'), "{}", causes(&error));
    drop(first);
    send("/stall").await.unwrap();
}
