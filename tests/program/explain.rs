//! `frame call --explain`.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::frame;

/// A directory with an app of one function and two networks.
fn app() -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write(
        "app.toml",
        r#"
        [app]
        options = { network = "app:default" }

        [networks."app:default"]
        kind = "socks5"
        proxy = "127.0.0.1:9"

        [networks."app:chosen"]
        kind = "socks5"
        proxy = "127.0.0.1:9"

        [functions."app:f"]
        engine = "lua"
        source = "f.lua"
        options = { timeout = "60s" }
        "#,
    );
    write("f.lua", "return 'done'");
    let manifest = directory.path().join("app.toml").to_str().unwrap().to_owned();
    (directory, manifest)
}

#[test]
fn a_frame_is_explained_pair_by_pair() {
    let (_directory, manifest) = app();
    let output =
        frame(&["call", &manifest, "app:f", "--explain", "--format", "json", "-o", "network=app:chosen"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(output.stdout, b"\"done\"\n", "the result stands alone, as without an explanation");

    // In one line, among what may be logged.
    let mut lines = stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answer = lines.find(|line| line.get("explanation").is_some()).expect(&stderr);
    let frame = &answer["explanation"]["frames"][0];
    assert_eq!(
        (&frame["unit"]["function"], &frame["outcome"]),
        (&"app:f".into(), &"built".into()),
        "{answer}"
    );
    let overlays: Vec<_> = frame["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| pair["key"] == "net.overlay")
        .map(|pair| (pair["value"].as_str().unwrap(), pair["by"].as_str().unwrap(), pair["outdone"] == true))
        .collect();
    assert_eq!(overlays, [("app:default", "inherited", true), ("app:chosen", "resolver", false)], "{answer}");
    let from: Vec<_> = frame["options"]
        .as_array()
        .unwrap()
        .iter()
        .map(|option| (option["name"].as_str().unwrap(), option["from"].as_str().unwrap()))
        .collect();
    assert!(from.contains(&("network", "call")) && from.contains(&("timeout", "preset")), "{answer}");
}

#[test]
fn a_refused_frame_is_explained_too() {
    let (_directory, manifest) = app();
    let output = frame(&["call", &manifest, "app:f", "--explain", "-o", "network=app:missing"]);
    let shown = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(5), Vec::new()), "{shown}");
    for part in ["app:f", "overlay", "network (call)", "refused after", "app:missing"] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
}

/// All lists that a destination must pass, and who gave the option.
#[test]
fn the_lists_of_egress_are_explained() {
    let (directory, manifest) = app();
    let text = fs::read_to_string(&manifest).unwrap();
    let text = text
        .replace("options = { network", "options = { egress = ['*.example'], network")
        .replace("options = { timeout", "options = { egress = ['a.example:443', 'b.example'], timeout");
    fs::write(directory.path().join("app.toml"), text).unwrap();
    let egress = "egress=[\"a.example\"]";
    let output = frame(&["call", &manifest, "app:f", "--explain", "-o", egress, "--format", "json"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let mut lines = stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answer = lines.find(|line| line.get("explanation").is_some()).expect(&stderr);
    let frame = &answer["explanation"]["frames"][0];
    let pairs = frame["pairs"].as_array().unwrap();
    let on_frame = pairs.iter().find(|pair| pair["key"] == "net.egress" && pair["outdone"] == false).unwrap();
    assert_eq!(on_frame["value"], "Egress([*.example] and [a.example:443, b.example] and [a.example])");
    let options = frame["options"].as_array().unwrap();
    let option = options.iter().find(|option| option["name"] == "egress").unwrap();
    assert_eq!(option["from"], "several", "{option}");
}
