//! Bodies that servers compress.

use std::io::Write as _;

use frame_net::http::{HttpConfig, HttpError, Request};
use serde_json::json;

use crate::origin::{Answer, Origin, Seen};
use crate::servers::web::Web;
use crate::support::soon;
use crate::{causes, world, world_with};

fn encoded(coding: &str, data: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            encoder.write_all(data).unwrap();
            encoder.into_inner()
        }
        "zstd" => zstd::encode_all(data, 3).unwrap(),
        other => panic!("{other}"),
    }
}

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

fn answer(coding: &str, body: &[u8]) -> Answer {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", body.len());
    Answer::Keep([head.as_bytes(), body].concat())
}

/// An origin whose paths are `/coding/what`.
async fn origin() -> Origin {
    Origin::new(|seen: &Seen| {
        let (coding, what) = seen.path()[1..].split_once('/').unwrap();
        let hello = || encoded(coding, b"hello");
        match what {
            "hello" => answer(coding, &hello()),
            "empty" => answer(coding, b""),
            "cut" => answer(coding, &hello()[..hello().len() - 1]),
            "followed" => answer(coding, &[&hello()[..], b"!"].concat()),
            "bomb" => answer(coding, &encoded(coding, &vec![0; 100 << 20])),
            "nothing" => Answer::Keep(format!("HTTP/1.1 204 X\r\nContent-Encoding: {coding}\r\n\r\n").into()),
            other => panic!("{other}"),
        }
    })
    .await
}

#[tokio::test]
async fn what_the_client_asks_for_is_decoded_and_the_headers_stay() {
    let mut origin = origin().await;
    let world = world(&json!({}));
    for coding in CODINGS {
        let response = world.get(&origin.url(&format!("/{coding}/hello"))).await.unwrap();
        assert!(response.is_decoded());
        assert_eq!(response.headers()["content-encoding"], coding);
        assert_eq!(response.headers()["content-length"], encoded(coding, b"hello").len().to_string());
        assert_eq!(soon(response.text()).await.unwrap(), "hello");
        let seen = origin.request().await;
        assert_eq!((seen.connection, seen.header("accept-encoding")), (0, Some("gzip, br, zstd")));
        for path in ["empty", "nothing"] {
            assert_eq!(world.text(&origin.url(&format!("/{coding}/{path}"))).await, "");
            assert_eq!(origin.request().await.connection, 0);
        }
    }
}

#[tokio::test]
async fn a_request_that_decides_itself_gets_the_bytes_as_they_were_sent() {
    let mut origin = origin().await;
    let world = world(&json!({}));
    let request = || Request::get(&origin.url("/gzip/hello")).unwrap();
    let requests = [
        (request().decode(false), None),
        (request().header("accept-encoding", "gzip").unwrap(), Some("gzip")),
        (request().header("range", "bytes=0-").unwrap(), None),
    ];
    for (request, accepted) in requests {
        let response = world.send(request).await.unwrap();
        assert!(!response.is_decoded());
        assert_eq!(soon(response.bytes()).await.unwrap(), encoded("gzip", b"hello"));
        assert_eq!(origin.request().await.header("accept-encoding"), accepted);
    }
}

#[tokio::test]
async fn what_is_damaged_is_an_error_and_the_connection_serves_others() {
    let mut origin = origin().await;
    let world = world(&json!({}));
    for coding in CODINGS {
        for what in ["cut", "followed"] {
            let response = world.get(&origin.url(&format!("/{coding}/{what}"))).await.unwrap();
            let error = soon(response.bytes()).await.unwrap_err();
            assert!(
                matches!(&error, HttpError::Encoding { encoding, .. } if *encoding == coding),
                "{what}: {error:?}"
            );
            assert!(!error.is_retryable());
            assert!(error.to_string().ends_with(&format!("is not valid {coding}")), "{}", causes(&error));
            assert_eq!(origin.request().await.connection, 0);
        }
    }
}

#[tokio::test]
async fn a_bomb_ends_at_the_limit_of_decoded_bytes() {
    let origin = origin().await;
    let world = world(&json!({}));
    for coding in CODINGS {
        let mut response = world.get(&origin.url(&format!("/{coding}/bomb"))).await.unwrap();
        let mut len = 0;
        let error = loop {
            match soon(response.chunk()).await {
                Ok(chunk) => {
                    let chunk = chunk.expect("it is longer than the limit");
                    assert!(chunk.len() <= 32 << 10);
                    len += chunk.len();
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, HttpError::BodyTooLarge { .. }), "{error:?}");
        assert!(len <= 16 << 20 && len > (16 << 20) - (64 << 10), "{len}");
        let response = world.get(&origin.url(&format!("/{coding}/bomb"))).await.unwrap();
        assert!(matches!(soon(response.bytes()).await, Err(HttpError::BodyTooLarge { .. })));
    }
}

#[tokio::test]
async fn what_decodes_to_nothing_ends_at_the_limit_of_sent_bytes() {
    // Empty members, again and again.
    let empty = encoded("gzip", b"").repeat(1000);
    let origin = Origin::new(move |_| answer("gzip", &empty)).await;
    let mut config = HttpConfig::default();
    config.max_response_body = 10_000;
    let world = world_with(&json!({}), config);
    let error = soon(world.get(&origin.url("/")).await.unwrap().bytes()).await.unwrap_err();
    assert!(matches!(error, HttpError::BodyTooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn decoders_take_as_much_memory_as_their_unit_may_have() {
    let origin = origin().await;
    let mut config = HttpConfig::default();
    config.max_decoder_memory = 10 << 20;
    let world = world_with(&json!({}), config);
    let get = async || world.get(&origin.url("/br/bomb")).await.unwrap();
    let mut first = get().await;
    soon(first.chunk()).await.unwrap();
    let error = soon(get().await.chunk()).await.unwrap_err();
    assert!(matches!(error, HttpError::DecoderMemory { .. }) && error.is_retryable(), "{error:?}");
    assert!(error.to_string().ends_with("the limit of `max_decoder_memory`"), "{error}");
    drop(first);
    soon(get().await.chunk()).await.unwrap();
}

#[tokio::test]
async fn a_coding_that_is_not_known_is_left_as_it_is() {
    let origin = Origin::new(|_| answer("compress", b"x")).await;
    assert_eq!(world(&json!({})).text(&origin.url("/")).await, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nginx_compresses_is_decoded() {
    let text = "frame ".repeat(200);
    let settings =
        format!("gzip on; gzip_min_length 1; gzip_types *; location / {{ return 200 \"{text}\"; }}");
    let Some(server) = Web::nginx(None, &settings).await else { return };
    let response = world(&json!({})).get(&format!("http://{}/", server.address)).await.unwrap();
    assert!(response.is_decoded());
    assert_eq!(soon(response.text()).await.unwrap(), text);
}
