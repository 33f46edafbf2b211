//! `frame demo`.

use serde_json::json;

use super::{json_of, stdout};

#[test]
fn demo_shows_that_traffic_takes_the_network_of_its_frame_or_none() {
    let seen = json_of(&["demo", "--format", "json"]);
    let calls = seen["calls"].as_array().unwrap();
    let shown: Vec<_> = calls.iter().map(|call| (call["what"].as_str().unwrap(), &call["paths"])).collect();
    let (clearnet, relay, nothing) = (&json!(["clearnet"]), &json!(["relay"]), &json!([]));
    assert_eq!(
        shown,
        [
            ("a script that calls a component", nothing),
            ("no option", clearnet),
            ("overlay by call option", relay),
            ("overlay preset for the function", relay),
            ("overlay inherited by a nested call", relay),
            ("a name that only the proxy knows", relay),
            ("unknown overlay", nothing),
            ("misspelt option", nothing),
            ("a script that leaves its overlay", nothing),
            ("a file below its root", nothing),
            ("the same file, read only", nothing),
            ("a file above its root", nothing),
            ("a trace that goes on", nothing),
        ]
    );
    let call = |what: &str| calls.iter().find(|call| call["what"] == what).unwrap();
    let frame = |what| call(what)["frame"].as_str().unwrap_or_default();
    assert!(!frame("no option").contains("net.overlay"), "{seen}");
    assert!(frame("overlay by call option").contains("net.overlay=hello:relay"), "{seen}");
    assert!(frame("overlay preset for the function").contains("net.overlay=hello:relay"), "{seen}");
    assert_eq!(
        call("a name that only the proxy knows")["relayed"],
        json!(["origin.demo:80"]),
        "the name went to the proxy"
    );

    let refused = |what| call(what)["refused"].as_str().unwrap_or_default();
    let unknown = refused("unknown overlay");
    assert!(unknown.contains("frame resolver `overlay`") && unknown.contains("hello:tor"), "{unknown}");
    assert_eq!(refused("misspelt option"), "no option is named `netwrok`; did you mean `network`?");
    let are_refused = calls.iter().filter(|call| !call["refused"].is_null());
    assert_eq!(are_refused.count(), 4, "{seen}");
    assert_ne!(seen["restart"]["killed"], seen["restart"]["started"]);
}

#[test]
fn demo_prints_a_table_by_default() {
    let table = stdout(&["demo"]);
    for word in ["overlay by call option", "hello:relay", "(its connections come from 127.0.0.2)"] {
        assert!(table.contains(word), "{table}");
    }
}
