//! Headers that the configuration adds to requests.

use frame_net::http::{DefaultHeader, HttpClient, HttpConfig, HttpError, Request};
use serde_json::{Value, json};

use crate::origin::{Origin, ok, redirect};
use crate::support::soon;
use crate::tls::{Authority, overlay};
use crate::{World, isolating_relay, relay, world_with};

fn config(headers: &Value) -> HttpConfig {
    serde_json::from_value(json!({ "headers": headers })).unwrap()
}

/// Makes a request through a network, and reads the response.
async fn send(world: &World, options: &Value, request: Request) {
    let response = soon(world.client.send(&world.dialer(options), request)).await.unwrap();
    soon(response.text()).await.unwrap();
}

#[tokio::test]
async fn a_request_has_the_defaults_that_it_has_not_itself() {
    let mut origin = Origin::new(|_| ok("")).await;
    let config = config(&json!({ "user-agent": "shop/1.0", "Accept-Language": "en", "x-a": "1" }));
    let world = world_with(&json!({}), config);
    let get = |url: &str| Request::get(url).unwrap();
    let url = origin.url("/");
    let own = get(&url).header("Accept-Language", "de").unwrap().header("x-a", "2").unwrap();
    send(&world, &json!({}), own.header("x-a", "3").unwrap()).await;
    let expected = "accept-language: de\r\nx-a: 2\r\nx-a: 3\r\nuser-agent: shop/1.0\r\naccept-encoding: gzip, br, zstd\r\n";
    let head = origin.request().await.head;
    assert!(head.ends_with(&format!("{expected}\r\n")), "{head}");
    send(&world, &json!({}), get(&url)).await;
    let head = origin.request().await.head;
    assert!(head.contains("accept-language: en\r\n") && head.contains("x-a: 1\r\n"), "{head}");
}

#[tokio::test]
async fn the_first_default_that_is_for_a_server_counts() {
    let mut origin = Origin::new(|_| ok("")).await;
    let (proxy, _asked) = relay(origin.address).await;
    let config = config(&json!({ "x-site": [
        { "value": "port", "hosts": ["a.internal:8000-8099"] },
        { "value": "network", "hosts": ["a.internal"], "networks": ["app:proxy"] },
        { "value": "all", "hosts": ["*.internal", "127.0.0.1"] },
    ] }));
    let world = world_with(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }), config);
    let (through, clearnet) = (json!({ "network": "app:proxy" }), json!({}));
    let here = origin.url("/");
    for (options, url, expected) in [
        (&through, "http://a.internal:8080/", Some("port")),
        (&through, "http://a.internal/", Some("network")),
        (&through, "http://b.internal/", Some("all")),
        (&through, "http://elsewhere/", None),
        (&clearnet, here.as_str(), Some("all")),
    ] {
        send(&world, options, Request::get(url).unwrap()).await;
        assert_eq!(origin.request().await.header("x-site"), expected, "{url}");
    }
}

#[tokio::test]
async fn what_is_for_some_hosts_does_not_go_along_to_others() {
    let mut origin = Origin::new(|seen| match seen.path() {
        "/same" => redirect(307, "/arrived"),
        "/other" => redirect(307, "http://b.internal/arrived"),
        _ => ok(""),
    })
    .await;
    let (proxy, _asked) = relay(origin.address).await;
    let hosts = json!(["*.internal"]);
    let config = config(&json!({
        "user-agent": "shop/1.0",
        "x-team": { "value": "blue", "hosts": hosts },
        "authorization": { "value": "Bearer 31337", "hosts": hosts, "allow_http": true },
        "x-own": { "value": "31337", "hosts": hosts, "sensitive": true, "allow_http": true },
    }));
    let world = world_with(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }), config);
    let bound = ["x-team", "authorization", "x-own"];
    for (path, keeps) in [("same", true), ("other", false)] {
        let request = Request::get(&format!("http://a.internal/{path}")).unwrap();
        send(&world, &json!({ "network": "app:proxy" }), request).await;
        let (first, second) = (origin.request().await, origin.request().await);
        for name in bound {
            assert!(first.header(name).is_some(), "{path} {name}");
            assert_eq!(second.header(name).is_some(), keeps, "{path} {name}");
        }
        assert_eq!((second.path(), second.header("user-agent")), ("/arrived", Some("shop/1.0")));
    }
}

#[tokio::test]
async fn a_sensitive_default_is_sent_over_https_only() {
    let headers = json!({ "x-key": { "value": "31337", "hosts": ["shop.internal"], "sensitive": true } });
    let mut plain = Origin::new(|_| ok("")).await;
    let authority = Authority::new();
    let mut safe = Origin::tls(authority.server("shop.internal", &[]), |_| ok("")).await;
    let options = json!({ "network": "app:proxy" });

    let world = overlay(plain.address, config(&headers)).await;
    send(&world, &options, Request::get("http://shop.internal/").unwrap()).await;
    assert_eq!(plain.request().await.header("x-key"), None);

    let mut trusted = authority.trusted();
    trusted.headers = config(&headers).headers;
    let world = overlay(safe.address, trusted).await;
    send(&world, &options, Request::get("https://shop.internal/").unwrap()).await;
    assert_eq!(safe.request().await.header("x-key"), Some("31337"));
}

#[tokio::test]
async fn defaults_do_not_link_what_is_kept_apart() {
    let mut origin = Origin::new(|_| ok("")).await;
    let (proxy, _asked) = isolating_relay(origin.address).await;
    let networks = json!({ "app:proxy": { "kind": "socks5", "proxy": proxy, "isolate": true } });
    let config = config(&json!({
        "user-agent": "shop/1.0",
        "accept-language": { "value": "en", "isolated": true },
    }));
    let world = world_with(&networks, config);
    let clearnet = origin.url("/");
    for (options, url, is_apart) in [
        (json!({ "network": "app:proxy", "isolation": "a" }), "http://shop.internal/", true),
        // Each request has a connection of its own.
        (json!({ "network": "app:proxy" }), "http://shop.internal/", true),
        (json!({}), clearnet.as_str(), false),
    ] {
        let mut request = Request::get(url).unwrap();
        if is_apart {
            request = request.header("x-own", "1").unwrap();
        }
        send(&world, &options, request).await;
        let seen = loop {
            if let crate::origin::Event::Request(seen) = origin.event().await {
                break seen;
            }
        };
        assert_eq!(seen.header("user-agent").is_none(), is_apart, "{options}");
        assert_eq!(seen.header("x-own").is_some(), is_apart);
        assert_eq!(seen.header("accept-language"), Some("en"));
    }
}

#[test]
fn defaults_that_cannot_be_are_refused_and_not_shown() {
    let cases = [
        (json!({ "authorization": "31337" }), "needs `hosts`"),
        (json!({ "x-a": { "value": "31337", "sensitive": true } }), "needs `hosts`"),
        (
            json!({ "x-a": [{ "value": "1", "hosts": ["a"] }, { "value": "31337", "sensitive": true }] }),
            "needs `hosts`",
        ),
        (json!({ "host": "31337" }), "cannot be given the header `host`"),
        (json!({ "a b": "31337" }), "not a valid name of a header"),
        (json!({ "x-a": "31337\n" }), "not a valid value of a header"),
        (json!({ "x-a": { "value": "31337", "host": ["a"] } }), "unknown field `host`"),
        (json!({ "x-a": { "hosts": ["a"] } }), "missing field `value`"),
    ];
    for (headers, expected) in cases {
        let error = serde_json::from_value::<HttpConfig>(json!({ "headers": headers })).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected) && !error.contains("31337"), "{headers}: {error}");
    }
    let many: serde_json::Map<_, _> = (0..101).map(|number| (format!("x-{number}"), json!("a"))).collect();
    let error = serde_json::from_value::<HttpConfig>(json!({ "headers": many })).unwrap_err();
    assert!(error.to_string().contains("at most 100"), "{error}");
}

#[test]
fn code_is_held_to_the_same() {
    let mut config = HttpConfig::default();
    config.headers = vec![DefaultHeader::new("authorization", "31337").unwrap()];
    let error = HttpClient::new(config.clone()).unwrap_err();
    assert!(matches!(&error, HttpError::SecretForAll { name } if name == "authorization"), "{error:?}");
    assert_eq!(error.setting().unwrap().to_string(), "headers.authorization");
    assert!(!format!("{config:?}{error:?}").contains("31337"));
    assert!(matches!(DefaultHeader::new("te", "x"), Err(HttpError::ReservedHeader { .. })));
    config.headers = vec![DefaultHeader::new("x-a", "b").unwrap(); 101];
    let error = HttpClient::new(config).unwrap_err();
    assert!(matches!(error, HttpError::Config { setting: "headers", max: 100 }), "{error:?}");
}
