//! `frame resolvers` and `frame options`.

use serde_json::json;

use super::{frame, json_of, stdout};

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
    assert_eq!((&overlay["module"], &overlay["covers"]), (&json!("frame_net::overlay"), &json!(["network"])));
    assert!(
        overlay["file"].as_str().unwrap().ends_with("overlay/mod.rs") && overlay["line"].as_u64() > Some(1)
    );
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
fn resolvers_are_drawn_with_the_options_that_they_cover() {
    let graph = stdout(&["resolvers", "--format", "dot"]);
    assert!(graph.starts_with("digraph resolvers {\n") && graph.ends_with("}\n"), "{graph}");
    for line in [
        r#""option network" [label="network", shape=box, style=rounded];"#,
        r#""resolver overlay" [label="200\noverlay", shape=box];"#,
        r#""option network" -> "resolver overlay";"#,
    ] {
        assert!(graph.lines().any(|drawn| drawn.trim() == line), "{line}:\n{graph}");
    }
    assert!(!graph.contains("retry"), "no resolver reads it:\n{graph}");

    // As it is listed, so it is chained.
    let list = json_of(&["resolvers", "--format", "json"]);
    let names: Vec<_> = list["resolvers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|resolver| resolver["name"].as_str().unwrap())
        .collect();
    let chain: Vec<_> = graph.lines().filter(|line| line.contains("style=dotted")).map(str::trim).collect();
    let expected: Vec<_> = names
        .windows(2)
        .map(|pair| format!(r#""resolver {}" -> "resolver {}" [style=dotted];"#, pair[0], pair[1]))
        .collect();
    assert_eq!(chain, expected);
}

#[test]
fn a_format_that_a_list_does_not_have_is_refused_with_those_it_has() {
    for (list, format, possible) in [
        ("options", "dot", "[possible values: table, json]"),
        ("resolvers", "yaml", "[possible values: table, json, dot]"),
    ] {
        let output = frame(&[list, "--format", format]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(possible), "{stderr}");
    }
}

#[test]
fn a_misspelt_command_is_refused_with_the_nearest() {
    let output = frame(&["resolver"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("resolvers"));
}
