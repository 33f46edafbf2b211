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
            ("no option", clearnet),
            ("overlay by call option", relay),
            ("overlay inherited by a nested call", relay),
            ("a name that only the proxy knows", relay),
            ("unknown overlay", nothing),
            ("misspelt option", nothing),
        ]
    );
    let frames: Vec<_> = calls.iter().map(|call| call["frame"].as_str().unwrap_or_default()).collect();
    assert!(!frames[0].contains("net.overlay"), "{frames:?}");
    assert!(frames[1..4].iter().all(|frame| frame.contains("net.overlay=demo:relay")), "{frames:?}");
    assert_eq!(calls[3]["relayed"], json!(["origin.demo:80"]), "the name went to the proxy");

    let refused: Vec<_> = calls.iter().map(|call| call["refused"].as_str().unwrap_or_default()).collect();
    assert_eq!(refused[..4], [""; 4]);
    assert!(
        refused[4].contains("frame resolver `overlay`") && refused[4].contains("demo:tor"),
        "{}",
        refused[4]
    );
    assert_eq!(refused[5], "no option is named `netwrok`; did you mean `network`?");
}

#[test]
fn demo_prints_a_table_by_default() {
    let table = stdout(&["demo"]);
    for word in ["overlay by call option", "path that the origin saw", "never sealed"] {
        assert!(table.contains(word), "{table}");
    }
}
