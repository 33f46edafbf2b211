//! What the options are in text, and what is refused.

use std::error::Error;

use frame_registry::Options;
use serde_json::{Value as Json, json};

/// Why a value is refused.
fn refused(option: &str, value: &Json) -> String {
    let error = Options::from_json(&json!({ option: value })).unwrap_err();
    assert!(error.to_string().starts_with(&format!("option `{option}` has an invalid value, ")), "{error}");
    error.source().unwrap().to_string()
}

#[track_caller]
fn assert_refused(option: &str, value: &Json, why: &str) {
    assert_eq!(refused(option, value), why, "{value}");
}

const DURATION: &str = r#"a duration with its unit, such as "2s", "500ms" or "1m30s""#;

#[test]
fn a_timeout_is_a_duration_with_its_unit() {
    for text in ["2s", "500ms", "1m30s", "1m 30s", "250us", "3h"] {
        Options::from_json(&json!({ "timeout": text })).unwrap();
    }
    assert_refused("timeout", &json!("0s"), "a timeout is longer than zero; for none, leave it out");
    for (value, given) in
        [(json!(2), "integer `2`"), (json!(1.5), "floating point `1.5`"), (json!(null), "null")]
    {
        assert_refused("timeout", &value, &format!("invalid type: {given}, expected {DURATION}"));
    }
    let why = |text: &str, why: &str| {
        format!(r#"{text:?} is not a duration such as "2s", "500ms" or "1m30s": {why}"#)
    };
    for (text, reason) in [
        ("2", "time unit needed, for example 2sec or 2ms"),
        ("", "value was empty"),
        ("soon", "expected number at 0"),
        ("-1s", "expected number at 0"),
    ] {
        assert_refused("timeout", &json!(text), &why(text, reason));
    }
    assert!(refused("timeout", &json!("2 parsecs")).contains("parsecs"));
}

#[test]
fn a_retry_is_a_number_of_attempts_or_a_map() {
    let form = "a number of attempts, or a map such as { attempts = 3, first_delay = \"100ms\" }";
    for value in [json!(0), json!(1), json!(3), json!({ "attempts": 3 }), json!({ "attempts": 3, "on": [] })]
    {
        Options::from_json(&json!({ "retry": value })).unwrap();
    }
    for (value, given) in
        [(json!("3"), "string \"3\""), (json!(1.5), "floating point `1.5`"), (json!([3]), "sequence")]
    {
        assert_refused("retry", &value, &format!("invalid type: {given}, expected {form}"));
    }
    assert_refused("retry", &json!(-1), &format!("invalid value: integer `-1`, expected {form}"));
    assert_refused("retry", &json!(1_u64 << 32), "so many attempts cannot be counted");
    assert_refused("retry", &json!({}), "missing field `attempts`");
    assert!(
        refused("retry", &json!({ "attempts": 3, "delay": "1s" }))
            .starts_with("unknown field `delay`, expected one of")
    );
    for (field, value, why) in [
        ("factor", json!(0.5), "invalid backoff factor 0.5; it must be at least 1, such as 2.0".to_owned()),
        ("jitter", json!(1.5), "invalid backoff jitter 1.5; it must be from 0 to 1, such as 0.1".to_owned()),
        ("jitter", json!(-0.1), "invalid backoff jitter -0.1; it must be from 0 to 1, such as 0.1".to_owned()),
        ("attempt_timeout", json!("0s"), "a timeout is longer than zero; for none, leave it out".to_owned()),
        ("first_delay", json!(100), format!("invalid type: integer `100`, expected {DURATION}")),
        ("max_delay", json!(100), format!("invalid type: integer `100`, expected {DURATION}")),
        (
            "on",
            json!(["timeout"]),
            "no kind of error is named \"timeout\"; there are invalid, not_found, denied, cancelled, deadline, \
             unavailable, exhausted, internal"
                .to_owned(),
        ),
    ] {
        assert_refused("retry", &json!({ "attempts": 3, field: value }), &why);
    }
}

#[test]
fn a_rate_limit_is_calls_in_a_time_or_a_map() {
    let form = "calls in a time, such as \"100/s\", or a map such as { calls = 100, per = \"1s\" }";
    for value in [
        json!("100/s"),
        json!("100/1s"),
        json!("5 / 500ms"),
        json!("10/m"),
        json!("1/h"),
        json!("1/1m30s"),
        json!({ "calls": 1, "per": "1s" }),
        json!({ "calls": 1, "per": "1s", "burst": 5, "max_wait": "0s" }),
    ] {
        Options::from_json(&json!({ "rate_limit": value })).unwrap();
    }
    for (value, given) in [(json!(100), "integer `100`"), (json!(true), "boolean `true`")] {
        assert_refused("rate_limit", &value, &format!("invalid type: {given}, expected {form}"));
    }
    for text in [
        "",
        "100",
        "/s",
        "100/",
        "many/s",
        "-1/s",
        "1.5/s",
        "100/fortnight",
        "4294967296/s",
        "1/s/s",
        // Neither a unit alone nor a duration with its number.
        "100/.5s",
        "1/s5m",
        "1/s 5m",
        "1/ns1s",
    ] {
        let why = format!(r#"{text:?} is not calls in a time, such as "100/s" or "5/500ms""#);
        assert_refused("rate_limit", &json!(text), &why);
    }
    assert_refused("rate_limit", &json!("0/s"), "a rate limit is of at least 1 call; for none, leave it out");
    assert_refused("rate_limit", &json!("1/0s"), "a rate limit is of calls in a time longer than zero");
    assert!(refused("rate_limit", &json!("1/5x")).starts_with(r#""5x" is not a duration such as"#));
    assert_refused("rate_limit", &json!({ "calls": 1 }), "missing field `per`");
    assert!(
        refused("rate_limit", &json!({ "calls": 1, "per": "1s", "wait": 1 }))
            .starts_with("unknown field `wait`")
    );
    let burst = json!({ "calls": 1, "per": "1s", "burst": 0 });
    assert_refused("rate_limit", &burst, "`burst` is at least 1: without a first call there is no second");
}

#[test]
fn a_limit_of_concurrent_calls_is_their_number_or_a_map() {
    let form = "a number of calls, or a map such as { calls = 8, max_waiting = 100 }";
    for value in [json!(1), json!(u64::MAX), json!({ "calls": 1 }), json!({ "calls": 1, "max_waiting": 0 })] {
        Options::from_json(&json!({ "max_concurrent": value })).unwrap();
    }
    let none = "at least 1 call may run at once; for no limit, leave it out";
    assert_refused("max_concurrent", &json!(0), none);
    assert_refused("max_concurrent", &json!({ "calls": 0 }), none);
    assert_refused("max_concurrent", &json!(-1), &format!("invalid value: integer `-1`, expected {form}"));
    assert_refused("max_concurrent", &json!("1"), &format!("invalid type: string \"1\", expected {form}"));
    assert_refused("max_concurrent", &json!({ "max_waiting": 1 }), "missing field `calls`");
    assert!(
        refused("max_concurrent", &json!({ "calls": 1, "queue": 1 })).starts_with("unknown field `queue`")
    );
}

#[test]
fn traced_is_a_boolean() {
    Options::from_json(&json!({ "traced": false })).unwrap();
    assert_refused("traced", &json!("yes"), "invalid type: string \"yes\", expected a boolean");
}
