//! Settings that make no tunnel.

use frame_net::NetworkConfig;
use serde_json::{Value, json};

use crate::pair::{ID, LEFT, OTHER, left, public};
use crate::support::app;

/// The error and all its causes, of the settings of the left end with this change.
fn error(change: impl FnOnce(&mut Value)) -> String {
    let mut settings = left("auto", "127.0.0.1:1");
    settings["kind"] = json!("wireguard");
    change(&mut settings);
    let config: NetworkConfig = serde_json::from_value(settings).unwrap();
    let (_, networks) = app(json!({}));
    let error = networks.create(ID.parse().unwrap(), &config).unwrap_err();
    assert!(!error.is_retryable() && networks.ids().is_empty());
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    for secret in [LEFT, OTHER] {
        assert!(!text.contains(secret) && !format!("{error:?}").contains(secret), "{text}");
    }
    text
}

#[tokio::test]
async fn an_error_says_what_is_wrong() {
    type Case = (&'static str, fn(&mut Value));
    let cases: &[Case] = &[
        ("`private_key` is no key: a key is 32 bytes in base64", |s| s["private_key"] = json!("x")),
        ("this is 3 bytes", |s| s["private_key"] = json!("AQID")),
        ("nothing but zeros", |s| s["private_key"] = json!(format!("{}=", "A".repeat(43)))),
        ("private_key", |s| s["private_key"] = json!(31337)),
        ("missing key `private_key`", |s| drop(s.as_object_mut().unwrap().remove("private_key"))),
        ("missing key `peers`", |s| drop(s.as_object_mut().unwrap().remove("peers"))),
        ("unknown key `adresses`; did you mean `addresses`?", |s| s["adresses"] = json!([])),
        ("unknown key `peers[0].allowed_ip`", |s| s["peers"][0]["allowed_ip"] = json!([])),
        ("has to have 1 to 8 addresses, and has 0", |s| s["addresses"] = json!([])),
        ("and has 9", |s| s["addresses"] = (1..10).map(|i| json!(format!("10.0.0.{i}"))).collect()),
        ("`10.9.0.1/33` is not a valid prefix or address", |s| s["addresses"] = json!(["10.9.0.1/33"])),
        ("10.9.0.1 more than once", |s| s["addresses"] = json!(["10.9.0.1/24", "10.9.0.1"])),
        ("224.0.0.1 in `addresses` is not an address of one host", |s| s["addresses"] = json!(["224.0.0.1"])),
        ("the `mtu` is 1279, and has to be at least 1280", |s| s["mtu"] = json!(1279)),
        ("at most 65455", |s| s["mtu"] = json!(65456)),
        ("at least 576", |s| (s["addresses"], s["mtu"]) = (json!(["10.9.0.1"]), json!(575))),
        ("`peers` is empty", |s| s["peers"] = json!([])),
        ("this is not base64", |s| s["peers"][0]["public_key"] = json!("?")),
        ("has the public key of this end", |s| s["peers"][0]["public_key"] = json!(public(LEFT))),
        ("is in `peers` more than once", |s| {
            let peer = s["peers"][0].clone();
            s["peers"].as_array_mut().unwrap().push(peer);
        }),
        ("10.9.0.0/24 is in `allowed_ips` more than once", |s| {
            s["peers"][0]["allowed_ips"] = json!(["10.9.0.7/24"]);
            let other = json!({ "public_key": public(OTHER), "allowed_ips": ["10.9.0.0/24"] });
            s["peers"].as_array_mut().unwrap().push(other);
        }),
        ("are empty, so nothing can be sent to it", |s| s["peers"][0]["allowed_ips"] = json!([])),
        ("`preshared_key` of the peer", |s| s["peers"][0]["preshared_key"] = json!("AQID")),
        ("the port is missing", |s| s["peers"][0]["endpoint"] = json!("vpn.example")),
        ("192.0.2.53 in `dns` is in no peer's", |s| s["dns"] = json!(["192.0.2.53"])),
        ("longer than zero", |s| s["deadline"] = json!("0s")),
        ("write \"5s\"", |s| s["deadline"] = json!(5)),
        ("has to be whole seconds, at most 65535", |s| s["peers"][0]["keepalive"] = json!("1500ms")),
        ("has to be whole seconds, at most 65535", |s| s["peers"][0]["keepalive"] = json!("1day")),
        ("unknown stack `kernl`; did you mean `kernel`?", |s| s["stack"] = json!("kernl")),
        ("unknown stack `lwip`; it is one of `auto`, `kernel` and `user`", |s| s["stack"] = json!("lwip")),
        ("from 1 to 65535", |s| s["max_connections"] = json!(0)),
        ("cannot be bound to port 7", |s| (s["bind"], s["listen_port"]) = (json!("192.0.2.1"), json!(7))),
    ];
    for (expected, change) in cases {
        let text = error(change);
        assert!(text.contains(expected) && text.contains(ID), "{expected}\n{text}");
    }
}

#[test]
fn without_a_runtime_there_is_no_tunnel() {
    assert!(error(|_| {}).contains("this thread is in no tokio runtime"));
}

#[tokio::test]
async fn secrets_are_not_shown() {
    let network = crate::pair::network(left("auto", "127.0.0.1:1"));
    let config: frame_net::wireguard::WireGuardConfig =
        serde_json::from_value(left("auto", "127.0.0.1:1")).unwrap();
    assert!(!format!("{network:?} {config:?}").contains(LEFT));
}
