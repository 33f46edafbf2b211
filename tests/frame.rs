//! The program, as its users run it.

use std::process::{Command, Output};

use serde_json::{Value, json};

fn frame(arguments: &[&str]) -> Output {
    // What people set in their shells must not lead anywhere.
    let proxies =
        ["ALL_PROXY", "HTTP_PROXY", "http_proxy", "https_proxy"].map(|name| (name, "http://127.0.0.1:9"));
    Command::new(env!("CARGO_BIN_EXE_frame")).args(arguments).envs(proxies).output().expect("it was built")
}

fn stdout(arguments: &[&str]) -> String {
    let output = frame(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(arguments)).expect("JSON")
}

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

#[test]
fn resolvers_are_listed_with_their_place() {
    let list = json_of(&["resolvers", "--format", "json"]);
    assert!(["link-time", "first-use"].contains(&list["layout"].as_str().unwrap()), "{list}");
    let resolvers = list["resolvers"].as_array().unwrap();
    let overlay = resolvers.iter().find(|resolver| resolver["name"] == "overlay").unwrap();
    let members: Vec<_> = overlay.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["covers", "crate", "file", "line", "module", "name", "order", "origin"];
    assert_eq!(
        {
            let mut members = members;
            members.sort_unstable();
            members
        },
        expected
    );
    assert_eq!(
        (&overlay["order"], &overlay["crate"], &overlay["origin"]),
        (&json!(200), &json!("frame_net"), &json!("linked"))
    );
    assert_eq!(
        (&overlay["module"], &overlay["covers"]),
        (&json!("frame_net::resolver"), &json!(["network"]))
    );
    assert!(overlay["file"].as_str().unwrap().ends_with("resolver.rs") && overlay["line"].as_u64() > Some(1));
    assert!(resolvers.is_sorted_by_key(|resolver| resolver["order"].as_i64()));
    assert!(stdout(&["resolvers"]).contains("overlay"));
}

#[test]
fn options_are_listed_with_who_covers_them() {
    let list = json_of(&["options", "--format", "json"]);
    let network =
        list["options"].as_array().unwrap().iter().find(|option| option["name"] == "network").unwrap();
    assert_eq!((&network["kind"], &network["covered_by"]), (&json!("linked"), &json!(["overlay"])));
    assert_eq!((&network["text"], &network["empty_is_unset"]), (&json!(true), &json!(true)));
    assert_eq!((&network["type"], &network["crate"]), (&json!("NetworkId"), &json!("frame_net")));
    let table = stdout(&["options"]);
    assert!(table.contains("namespace:name") && !table.contains("assert_eq"), "{table}");
}

#[test]
fn a_misspelt_command_is_refused_with_the_nearest() {
    let output = frame(&["resolver"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("resolvers"));
}
