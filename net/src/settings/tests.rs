use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::config::NetworkConfig;
use crate::direct::Direct;
use crate::driver::ConfigError;
use crate::error::NetworkError;
use crate::registry::NetworkRegistry;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    text: String,
    number: u16,
    signed: i64,
    fraction: f64,
    is: bool,
    list: Vec<Option<u8>>,
    pair: (u8, char),
    map: BTreeMap<String, Newtype>,
    #[serde(default)]
    absent: Option<u8>,
    address: IpAddr,
    plain: Choice,
    with_value: Choice,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Newtype(u8);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    Plain,
    With(u8),
    Members { a: u8 },
}

fn all() -> Value {
    json!({
        "text": "t", "number": 7, "signed": -7, "fraction": 0.5, "is": true, "list": [1, null], "pair": [1, "c"],
        "map": { "k": 3 }, "address": "::1", "plain": "plain", "with_value": { "members": { "a": 4 } },
    })
}

#[test]
fn reads_what_serde_json_reads() {
    let expected: All = serde_json::from_value(all()).unwrap();
    assert_eq!(All::deserialize(Settings(all())).unwrap(), expected);
    let with = json!({ "with": 5 });
    assert_eq!(Choice::deserialize(Settings(with)).unwrap(), Choice::With(5));
}

#[test]
fn refuses_what_serde_json_refuses_and_does_not_show_it() {
    let wrong = [json!("31337"), json!(31337), json!(-31337.5), json!(["31337"]), json!({ "31337": 31337 })];
    let members: Vec<String> = all().as_object().unwrap().keys().cloned().collect();
    for member in members {
        for value in wrong.iter().chain(&[json!(true), json!(null)]) {
            let mut settings = all();
            settings[&member] = value.clone();
            let read = All::deserialize(Settings(settings.clone()));
            assert_eq!(read.is_ok(), serde_json::from_value::<All>(settings).is_ok(), "{member}: {value}");
            // The name of a member is no secret.
            if let (Err(error), false) = (read, value.is_object()) {
                assert!(!error.to_string().contains("31337"), "{member}: {error}");
            }
        }
    }
}

#[test]
fn what_is_expected_is_said_without_names_of_types() {
    let wrong = |member: &str, value: Value| {
        let mut settings = all();
        settings[member] = value;
        All::deserialize(Settings(settings)).unwrap_err().to_string()
    };
    assert_eq!(wrong("number", json!("7")), "expected a whole number from 0 to 65535, found a string");
    assert_eq!(wrong("number", json!(65536)), "expected a whole number from 0 to 65535");
    assert_eq!(wrong("fraction", json!("7")), "expected a number, found a string");
    assert_eq!(wrong("list", json!("7")), "expected a list, found a string");
    let nonzero = std::num::NonZero::<u16>::deserialize(Settings(json!(0))).unwrap_err();
    assert_eq!(nonzero.to_string(), "expected a whole number from 1 to 65535");
}

/// What is wrong with the settings of a network, in order.
fn wrong(config: Value) -> Vec<String> {
    let networks = NetworkRegistry::new(Arc::new(Direct::default()));
    let config: NetworkConfig = serde_json::from_value(config).unwrap();
    let error = networks.create("app:tor".parse().unwrap(), &config).unwrap_err();
    let NetworkError::Config { source: ConfigError::Invalid { source, .. }, .. } = &error else {
        panic!("{error:?}")
    };
    source.iter().map(ToString::to_string).collect()
}

#[test]
fn everything_wrong_is_said_at_once_of_the_setting_that_it_is_about() {
    let errors = wrong(json!({
        "kind": "socks5", "adress": "h:1", "proxy": "h", "credentials": { "user": "u", "password": 5 },
        "via": "tor", "isolate": "yes", "deadline": 5,
    }));
    assert_eq!(
        errors,
        [
            "unknown key `adress`; available keys: `proxy`, `credentials`, `isolate`, `via`, `allow`, `deny`, `default`, `deadline`",
            "`credentials.password`: a secret is a string, or `env` with the name of an environment variable",
            "unknown key `credentials.user`; did you mean `username`?",
            r#"`deadline`: a duration is a string with its unit; write "5s", "500ms" or "1m30s""#,
            "`isolate`: expected a boolean, found a string",
            "`proxy`: the port is missing; write `host:port`, such as `127.0.0.1:9050`",
            r#"`via`: network id "tor" has no namespace; write `namespace:name`, such as `app:tor`"#,
        ]
    );
}

#[test]
fn what_another_program_calls_it_is_known() {
    let meant = |kind: &str, key: &str| {
        let mut config = json!({ "kind": kind });
        config[key] = json!("31337");
        wrong(config)
    };
    assert_eq!(meant("socks5", "address"), ["unknown key `address`; did you mean `proxy`?"]);
    assert_eq!(meant("socks5", "Server")[0], "unknown key `Server`; did you mean `proxy`?");
    assert_eq!(
        meant("socks5", "password"),
        ["unknown key `password`; did you mean `credentials.password`?", "missing key `proxy`"]
    );
    assert_eq!(meant("direct", "deadline_ms"), ["unknown key `deadline_ms`; did you mean `deadline`?"]);
    assert_eq!(meant("i2p", "bridge"), ["unknown key `bridge`; did you mean `sam`?"]);
    assert_eq!(meant("wireguard", "AllowedIPs")[0], "unknown key `AllowedIPs`; did you mean `peers`?");
}

#[test]
fn an_error_about_several_settings_is_at_the_first_that_it_names() {
    let credentials = json!({ "username": "u", "password": "p" });
    let errors =
        wrong(json!({ "kind": "socks5", "proxy": "h:1", "isolate": true, "credentials": credentials }));
    assert!(errors[0].starts_with("`isolate` needs credentials of its own"), "{errors:?}");
    let errors = wrong(json!({ "kind": "i2p", "sam": "h:1", "password": "31337" }));
    assert!(errors[0].starts_with("`user` and `password` belong together"), "{errors:?}");
    let errors = wrong(json!({ "kind": "i2p", "sam": "h:1", "destination": { "key": "31337" } }));
    assert_eq!(errors, ["unknown key `destination.key`; did you mean `private_key`?"]);
}
