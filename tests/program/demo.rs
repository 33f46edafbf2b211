//! `frame demo`.

use serde_json::{Value, json};

use super::{json_of, stdout};

/// The call that shows `what`.
fn call<'a>(seen: &'a Value, what: &str) -> &'a Value {
    let calls = seen["calls"].as_array().expect("a list");
    calls.iter().find(|call| call["what"] == what).unwrap_or_else(|| panic!("{what}: {calls:?}"))
}

#[test]
fn demo_shows_that_traffic_takes_the_network_of_its_frame_or_none() {
    let seen = json_of(&["demo", "--format", "json"]);
    let on_clearnet = call(&seen, "no option");
    assert_eq!((&on_clearnet["paths"], &on_clearnet["relayed"]), (&json!(["clearnet"]), &json!([])));
    assert!(!on_clearnet["frame"].as_str().unwrap().contains("net.overlay"), "{on_clearnet}");
    for what in [
        "overlay by call option",
        "overlay preset for the function",
        "overlay inherited by a nested call",
        "a name that only the proxy knows",
    ] {
        let call = call(&seen, what);
        assert_eq!(call["paths"], json!(["relay"]), "{call}");
        assert!(call["frame"].as_str().unwrap().contains("net.overlay=hello:relay"), "{call}");
    }
    let by_name = call(&seen, "a name that only the proxy knows");
    assert_eq!(by_name["relayed"], json!(["origin.demo:80"]), "the name went to the proxy");
    for (what, why) in [
        ("unknown overlay", "unknown network `hello:tor` (from option `network`)"),
        ("misspelt option", "no option is named `netwrok`; did you mean `network`?"),
        ("a script that leaves its overlay", "scripts and components may not switch from"),
        ("a file above its root", "app.toml"),
    ] {
        let call = call(&seen, what);
        assert_eq!((&call["paths"], &call["answer"]), (&json!([]), &Value::Null), "{call}");
        assert!(call["refused"].as_str().unwrap().contains(why), "{call}");
    }
}

#[test]
fn demo_shows_files_a_component_a_trace_and_a_process_that_is_started_again() {
    let seen = json_of(&["demo", "--format", "json"]);
    assert_eq!(call(&seen, "a script that calls a component")["answer"]["text"], "HELLO, ADA");
    assert_eq!(call(&seen, "the same file, read only")["answer"], "seen\n");
    let traced = call(&seen, "a trace that goes on");
    let traceparent = traced["answer"]["traceparent"].as_str().unwrap();
    assert!(traceparent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{traceparent}");
    let restart = &seen["restart"];
    assert!(restart["killed"].is_string() && restart["killed"] != restart["started"], "{restart}");
}

#[test]
fn demo_prints_a_stanza_for_each_call_within_80_columns() {
    let shown = stdout(&["demo"]);
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert_eq!(shown.lines().last(), Some("13 of 13 as promised"));
    // The ports and the numbers of processes are others each time.
    insta::with_settings!({ filters => [(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"), (r"\|0x[0-9a-f]+", "|0xNUMBER"), (r"-[0-9a-f]{16}-", "-SPAN-")] }, {
        insta::assert_snapshot!(shown);
    });
}
