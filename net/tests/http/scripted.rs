//! Servers of HTTP/2 that send the frames a test says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frame_net::http::{Body, HttpConfig, HttpError, Method, Request, Response};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::server::TlsStream;

use crate::World;
use crate::support::soon;
use crate::tls::{Authority, overlay};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// `:status: 200`, of HPACK's static table.
const OK: u8 = 0x88;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header of HPACK that is in no table.
fn field(name: &str, value: &str) -> Vec<u8> {
    let len = |text: &str| u8::try_from(text.len()).ok().filter(|len| *len < 127).unwrap();
    [&[0, len(name)], name.as_bytes(), &[len(value)], value.as_bytes()].concat()
}

fn head(stream: u32, fields: &[(&str, &str)], flags: u8) -> Vec<u8> {
    let fields = fields.iter().flat_map(|(name, value)| field(name, value));
    let payload: Vec<u8> = std::iter::once(OK).chain(fields).collect();
    frame(HEADERS, END_HEADERS | flags, stream, &payload)
}

fn whole(stream: u32, body: &str) -> Vec<u8> {
    [head(stream, &[], 0), frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// What a script answers to a request.
enum Move {
    Send(Vec<u8>),
    /// Sends, and closes the connection.
    Close(Vec<u8>),
}

use Move::{Close, Send};

/// A world that leads to a server which answers the request of a connection and a stream as `script` says, and what
/// arrived there: connection and stream.
async fn stage(
    script: impl Fn(usize, u32) -> Move + std::marker::Send + Sync + 'static,
) -> (World, UnboundedReceiver<(usize, u32)>) {
    stage_with(HttpConfig::default(), script).await
}

async fn stage_with(
    config: HttpConfig,
    script: impl Fn(usize, u32) -> Move + std::marker::Send + Sync + 'static,
) -> (World, UnboundedReceiver<(usize, u32)>) {
    let authority = Authority::new();
    let acceptor = authority.server("shop.internal", &[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let (sender, seen) = unbounded_channel();
    let script = Arc::new(script);
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, script, sender) = (acceptor.clone(), Arc::clone(&script), sender.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                // The client closes when it likes.
                let _ = serve(stream, |stream| {
                    let _ = sender.send((connection, stream));
                    script(connection, stream)
                })
                .await;
            });
        }
    });
    let mut config = config;
    config.trust = authority.trusted().trust;
    (overlay(address, config).await, seen)
}

async fn serve(mut stream: TlsStream<TcpStream>, mut answer: impl FnMut(u32) -> Move) -> std::io::Result<()> {
    const PREFACE: usize = 24;
    stream.read_exact(&mut [0; PREFACE]).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let [a, b, c, kind, flags, id @ ..] = header;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        stream.read_exact(&mut payload).await?;
        let id = u32::from_be_bytes(id);
        let is_end = (kind == HEADERS || kind == DATA) && flags & END_STREAM != 0;
        if kind == SETTINGS && flags & ACK == 0 {
            stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await?;
        } else if is_end {
            match answer(id) {
                Send(bytes) => stream.write_all(&bytes).await?,
                Close(bytes) => {
                    stream.write_all(&bytes).await?;
                    return stream.shutdown().await;
                }
            }
        }
    }
}

async fn send(world: &World, method: Method) -> Result<Response, HttpError> {
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let request = Request::new(method, "https://shop.internal/").unwrap().body("body");
    soon(world.client.send(&dialer, request)).await
}

async fn text(world: &World, method: Method) -> Result<String, HttpError> {
    soon(send(world, method).await?.text()).await
}

#[tokio::test]
async fn a_stream_that_the_server_refuses_is_sent_again_whatever_its_method() {
    let (world, mut seen) = stage(|_, stream| match stream {
        1 => Send(reset(1, REFUSED_STREAM)),
        stream => Send(whole(stream, "hello")),
    })
    .await;
    assert_eq!(text(&world, Method::POST).await.unwrap(), "hello");
    assert_eq!((seen.recv().await, seen.recv().await), (Some((0, 1)), Some((0, 3))));
}

#[tokio::test]
async fn a_request_above_the_last_stream_of_a_goaway_goes_over_another_connection() {
    for code in [NO_ERROR, 1] {
        let (world, mut seen) = stage(move |connection, stream| match connection {
            0 => Send(go_away(0, code)),
            _ => Send(whole(stream, "hello")),
        })
        .await;
        assert_eq!(text(&world, Method::POST).await.unwrap(), "hello");
        assert_eq!((seen.recv().await, seen.recv().await), (Some((0, 1)), Some((1, 1))));
    }
}

#[tokio::test]
async fn a_storm_of_goaway_ends_after_a_bounded_number_of_attempts() {
    let (world, mut seen) = stage(|_, _| Send(go_away(0, NO_ERROR))).await;
    let error = text(&world, Method::POST).await.unwrap_err();
    assert!(matches!(error, HttpError::Unprocessed { attempts: 8, .. }), "{error:?}");
    assert!(error.is_retryable());
    drop(world);
    let mut attempts = 0;
    while let Ok(Some(_)) = tokio::time::timeout(std::time::Duration::from_millis(1), seen.recv()).await {
        attempts += 1;
    }
    assert_eq!(attempts, 8);
}

#[tokio::test]
async fn a_push_ends_its_connection_and_serves_nobody() {
    const PUSHED: u32 = 2;
    // `:method: GET`, `:scheme: https` and `:path: /`, of the static table.
    let promised =
        [&PUSHED.to_be_bytes()[..], &[0x82, 0x87, 0x84], &field(":authority", "shop.internal")].concat();
    let push = move |stream| {
        let promise = frame(PUSH_PROMISE, END_HEADERS, stream, &promised);
        Send([promise, whole(PUSHED, "pushed"), whole(stream, "asked")].concat())
    };
    let (world, mut seen) = stage(move |connection, stream| match connection {
        0 => push(stream),
        _ => Send(whole(stream, "asked")),
    })
    .await;
    let error = text(&world, Method::POST).await.unwrap_err();
    assert!(matches!(error, HttpError::Protocol { .. }), "{error:?}");
    assert_eq!(text(&world, Method::GET).await.unwrap(), "asked");
    assert_eq!([soon(seen.recv()).await, soon(seen.recv()).await], [Some((0, 1)), Some((1, 1))]);
}

#[tokio::test]
async fn what_the_server_may_have_processed_is_sent_once() {
    type Script = fn(usize, u32) -> Move;
    let scripts: [(&str, Script); 4] = [
        ("goaway that includes the stream", |_, stream| Close(go_away(stream, NO_ERROR))),
        ("reset of another kind", |_, stream| Send(reset(stream, 2))),
        ("a wish for calm", |_, _| Send(go_away(0, ENHANCE_YOUR_CALM))),
        ("the end of the connection", |_, _| Close(Vec::new())),
    ];
    for (what, script) in scripts {
        let (world, mut seen) = stage(script).await;
        let error = text(&world, Method::POST).await.unwrap_err();
        assert!(matches!(error, HttpError::Broken { .. }), "{what}: {error:?}");
        assert_eq!(seen.recv().await, Some((0, 1)), "{what}");
        assert!(seen.try_recv().is_err(), "{what}");
    }
}

#[tokio::test]
async fn an_idempotent_request_outlives_a_connection_that_had_been_used() {
    let script = |connection, stream| match (connection, stream) {
        (0, 3) => Close(Vec::new()),
        (_, stream) => Send(whole(stream, "hello")),
    };
    let (world, mut seen) = stage(script).await;
    for _ in 0..2 {
        assert_eq!(text(&world, Method::PUT).await.unwrap(), "hello");
    }
    let places = [seen.recv().await, seen.recv().await, seen.recv().await];
    assert_eq!(places, [Some((0, 1)), Some((0, 3)), Some((1, 1))]);

    let (world, _seen) = stage(script).await;
    assert_eq!(text(&world, Method::POST).await.unwrap(), "hello");
    let error = text(&world, Method::POST).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn a_body_that_is_reset_is_not_whole() {
    let cut = |fields: &'static [(&'static str, &'static str)], data: &'static [u8], code| {
        move |_, stream| {
            let data = if data.is_empty() { Vec::new() } else { frame(DATA, 0, stream, data) };
            Send([head(stream, fields, 0), data, reset(stream, code)].concat())
        }
    };
    for code in [NO_ERROR, 8] {
        for (fields, data) in [
            (&[("content-length", "1000")][..], &b"hell"[..]),
            (&[][..], b"hell"),
            (&[][..], b""),
            (&[("content-length", "4")][..], b"hell"),
        ] {
            let (world, _seen) = stage(cut(fields, data, code)).await;
            let error = text(&world, Method::GET).await.unwrap_err();
            assert!(matches!(error, HttpError::Broken { .. }), "{code} {fields:?} {data:?}: {error:?}");
            assert!(error.is_retryable());
        }
    }
}

#[tokio::test]
async fn a_body_that_ends_before_the_reset_is_whole() {
    let (world, _seen) =
        stage(|_, stream| Send([whole(stream, "hello"), reset(stream, NO_ERROR)].concat())).await;
    assert_eq!(text(&world, Method::POST).await.unwrap(), "hello");
    // The length of a response to `HEAD` is that of the body it does not have.
    let (world, _seen) =
        stage(|_, stream| Send(head(stream, &[("content-length", "1000")], END_STREAM))).await;
    assert_eq!(text(&world, Method::HEAD).await.unwrap(), "");
}

#[tokio::test]
async fn a_body_of_another_length_than_its_own_is_not_whole() {
    for length in ["3", "1000"] {
        let fields = [("content-length", length)];
        let (world, _seen) = stage(move |_, stream| {
            Send([head(stream, &fields, 0), frame(DATA, END_STREAM, stream, b"hell")].concat())
        })
        .await;
        let error = text(&world, Method::GET).await.unwrap_err();
        let is_refused = matches!(error, HttpError::Broken { .. } | HttpError::Protocol { .. });
        assert!(is_refused, "{length}: {error:?}");
    }
}

fn limited(change: impl Fn(&mut HttpConfig)) -> HttpConfig {
    let mut config = HttpConfig::default();
    change(&mut config);
    config
}

#[tokio::test]
async fn the_limits_of_a_head_name_their_setting_over_http_2() {
    let many = |_, stream| {
        let names: Vec<String> = (0..200).map(|number| format!("x-{number}")).collect();
        let fields: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        Send(head(stream, &fields, END_STREAM))
    };
    let (world, _seen) = stage(many).await;
    let error = text(&world, Method::GET).await.unwrap_err();
    assert!(matches!(error, HttpError::TooManyResponseHeaders { limit: 100, .. }), "{error:?}");
    assert!(error.to_string().contains("`max_response_headers`") && !error.is_retryable(), "{error}");

    let long = |_, stream| {
        let value = "v".repeat(100);
        let names: Vec<String> = (0..90).map(|number| format!("x-{number}")).collect();
        let fields: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
        Send(head(stream, &fields, END_STREAM))
    };
    let (world, _seen) = stage_with(limited(|config| config.max_response_head = 8 << 10), long).await;
    let error = text(&world, Method::GET).await.unwrap_err();
    assert!(matches!(error, HttpError::HeadTooLarge { limit: 8192, .. }), "{error:?}");
    assert!(error.to_string().contains("`max_response_head`") && !error.is_retryable(), "{error}");
}

/// The head of a response in as many frames as it needs.
fn long_head(stream: u32, block: &[u8]) -> Vec<u8> {
    long_block(stream, &[b"\x88", block].concat())
}

/// A head or trailers that end the stream.
fn long_block(stream: u32, block: &[u8]) -> Vec<u8> {
    const MAX_FRAME: usize = 16 << 10;
    const CONTINUATION: u8 = 9;
    let last = (block.len() - 1) / MAX_FRAME;
    let parts = block.chunks(MAX_FRAME).enumerate().map(|(index, part)| {
        let kind = if index == 0 { HEADERS } else { CONTINUATION };
        let flags = if index == 0 { END_STREAM } else { 0 } | if index == last { END_HEADERS } else { 0 };
        frame(kind, flags, stream, part)
    });
    parts.collect::<Vec<_>>().concat()
}

/// A field with a value of this length, and with an index in the dynamic table if it is to have one.
fn long_field(name: &str, len: usize, has_index: bool) -> Vec<u8> {
    let mut field = vec![if has_index { 0x40 } else { 0 }, u8::try_from(name.len()).unwrap()];
    field.extend_from_slice(name.as_bytes());
    match len.checked_sub(127) {
        None => field.push(u8::try_from(len).unwrap()),
        Some(mut rest) => {
            field.push(127);
            while rest >= 128 {
                field.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            field.push(u8::try_from(rest).unwrap());
        }
    }
    field.resize(field.len() + len, b'v');
    field
}

#[tokio::test]
async fn a_head_that_is_far_beyond_its_limit_over_http_2_names_the_setting() {
    // Around four times the limit h2 refused heads without a reason; around sixteen times it closes the connection.
    for times in [1, 2, 4, 5, 8, 9, 15, 17, 40, 100] {
        let block = (0..times).flat_map(|number| long_field(&format!("x-{number}"), 64 << 10, false));
        let block: Vec<u8> = block.collect();
        let (world, _seen) = stage(move |_, stream| Send(long_head(stream, &block))).await;
        let error = text(&world, Method::GET).await.unwrap_err();
        assert!(matches!(error, HttpError::HeadTooLarge { limit: 0x1_0000, .. }), "{times}: {error:?}");
        assert!(!error.is_retryable());
    }
    for count in [101, 1_000, 8_000, 10_000, 16_000] {
        let block: Vec<u8> = (0..count).flat_map(|_| long_field("a", 1, false)).collect();
        let (world, _seen) = stage(move |_, stream| Send(long_head(stream, &block))).await;
        let error = text(&world, Method::GET).await.unwrap_err();
        assert!(matches!(error, HttpError::TooManyResponseHeaders { limit: 100, .. }), "{count}: {error:?}");
    }
}

#[tokio::test]
async fn a_head_that_is_large_once_it_is_decompressed_names_the_setting() {
    // The one field is repeated by its index in the dynamic table, in a byte.
    for (count, is_many) in [(20, false), (99, false), (101, true), (4_000, true)] {
        let block = [long_field("x", 3900, true), vec![0xbe; count - 1]].concat();
        let (world, _seen) = stage(move |_, stream| Send(long_head(stream, &block))).await;
        let error = text(&world, Method::GET).await.unwrap_err();
        let is_right = match error {
            HttpError::TooManyResponseHeaders { .. } => is_many,
            HttpError::HeadTooLarge { .. } => !is_many,
            _ => false,
        };
        assert!(is_right, "{count}: {error:?}");
    }
}

#[tokio::test]
async fn only_the_request_of_the_head_that_is_too_large_fails() {
    let (world, _seen) = stage(|_, stream| match stream {
        1 => Send(long_head(stream, &long_field("x", 600 << 10, false))),
        // A field that HTTP/2 forbids is not a head that is too large.
        3 => Send(long_head(stream, &long_field("connection", 5, false))),
        _ => Send(whole(stream, "hello")),
    })
    .await;
    let error = text(&world, Method::GET).await.unwrap_err();
    assert!(matches!(error, HttpError::HeadTooLarge { .. }), "{error:?}");
    let error = text(&world, Method::GET).await.unwrap_err();
    assert!(matches!(error, HttpError::Protocol { .. }), "{error:?}");
    assert_eq!(text(&world, Method::GET).await.unwrap(), "hello");
}

/// A response with this body, and trailers of this header block.
fn with_trailers(stream: u32, body: &str, block: &[u8]) -> Vec<u8> {
    [head(stream, &[], 0), frame(DATA, 0, stream, body.as_bytes()), long_block(stream, block)].concat()
}

#[tokio::test]
async fn the_limits_of_trailers_name_their_setting_over_http_2() {
    let fields = |count: usize| (0..count).flat_map(|_| long_field("a", 1, false)).collect::<Vec<u8>>();
    let large = |times: usize| (0..times).flat_map(|_| long_field("a", 64 << 10, false)).collect::<Vec<u8>>();
    let repeated = |count: usize| [long_field("x", 3900, true), vec![0xbe; count - 1]].concat();
    let cases = [101, 102, 1_000, 8_000, 16_000].map(|count| (fields(count), 100, "max_response_headers"));
    let bytes = [1, 2, 5, 9, 17, 40].map(|times| (large(times), 1 << 16, "max_response_head"));
    let decompressed =
        [(repeated(20), 1 << 16, "max_response_head"), (repeated(4_000), 100, "max_response_headers")];
    for (block, most, name) in cases.into_iter().chain(bytes).chain(decompressed) {
        let len = block.len();
        let (world, _seen) = stage(move |_, stream| Send(with_trailers(stream, "hello", &block))).await;
        let error = text(&world, Method::GET).await.unwrap_err();
        let HttpError::TrailersTooLarge { limit, setting, .. } = error else { panic!("{len}: {error:?}") };
        assert_eq!((limit, setting), (most, name), "{len}");
        let shown = HttpError::to_string(&error);
        assert!(shown.ends_with(&format!("exceed {most}, the limit of `{name}`")), "{shown}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn trailers_within_their_limits_and_other_responses_are_whole() {
    let fit: Vec<u8> = (0..100).flat_map(|_| long_field("a", 1, false)).collect();
    let (world, _seen) = stage(move |_, stream| match stream {
        1 => Send(with_trailers(stream, "hello", &long_field("x", 600 << 10, false))),
        5 => Send(with_trailers(stream, "hello", &long_field("connection", 5, false))),
        _ => Send(with_trailers(stream, "hello", &fit)),
    })
    .await;
    let error = text(&world, Method::GET).await.unwrap_err();
    assert!(matches!(error, HttpError::TrailersTooLarge { .. }), "{error:?}");
    assert_eq!(text(&world, Method::GET).await.unwrap(), "hello");
    let error = text(&world, Method::GET).await.unwrap_err();
    assert!(matches!(error, HttpError::Protocol { .. }), "{error:?}");
    assert_eq!(text(&world, Method::GET).await.unwrap(), "hello");
}

#[tokio::test]
async fn interim_responses_over_http_2_are_bounded() {
    // `:status` has index 8 in HPACK's static table; here with another value.
    let hint = |stream| frame(HEADERS, END_HEADERS, stream, b"\x08\x03103");
    let hints =
        move |count| move |_, stream| Send([hint(stream).repeat(count), whole(stream, "hello")].concat());
    let (world, _seen) = stage(hints(32)).await;
    assert_eq!(text(&world, Method::GET).await.unwrap(), "hello");
    let (world, _seen) = stage(hints(33)).await;
    let error = text(&world, Method::GET).await.unwrap_err();
    assert!(matches!(error, HttpError::TooManyInterim { limit: 32, .. }), "{error:?}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_stream_waits_for_a_busy_server_no_longer_than_it_may_stand_still() {
    let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]);
    let (world, _) = stage(move |_, stream| Send([settings.clone(), head(stream, &[], 0)].concat())).await;
    let busy = send(&world, Method::GET).await.unwrap();
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let request = Request::post("https://shop.internal/").unwrap().body(Body::from_reader(&b"body"[..]));
    let limit = Duration::from_millis(100);
    let error = soon(world.client.send(&dialer, request.stall_limit(limit))).await.unwrap_err();
    assert!(matches!(error, HttpError::Stalled { limit: stalled, .. } if stalled == limit), "{error:?}");
    drop(busy);
}
