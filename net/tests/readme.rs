//! The configuration that the README shows.

use frame_net::{NetConfig, boot};
use frame_registry::{App, FrameResolvers};
use serde_json::{Value, json};

/// What is in the environment variables that the README names.
fn secret(variable: &str) -> &'static str {
    match variable {
        "PROXY_PASSWORD" => "xyzzy",
        "OFFICE_KEY" => "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=",
        other => panic!("{other} is new"),
    }
}

/// Puts the secrets in, because a test cannot set variables for itself alone.
fn fill_in(value: &mut Value) {
    if let Some(variable) = value.get("env").and_then(Value::as_str) {
        *value = json!(secret(variable));
        return;
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(fill_in),
        Value::Array(values) => values.iter_mut().for_each(fill_in),
        _ => {}
    }
}

#[tokio::test]
async fn the_configuration_of_the_readme_makes_its_networks() {
    let readme = include_str!("../../README.md");
    let (_, behind) = readme.split_once("```json\n").expect("there is a configuration");
    let (text, _) = behind.split_once("```").expect("it ends");
    let mut config: Value = serde_json::from_str(text).unwrap();
    fill_in(&mut config);
    let config: NetConfig = serde_json::from_value(config).unwrap();
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    let networks = boot(&mut app, config).unwrap();
    let kinds: Vec<_> =
        networks.ids().iter().map(|id| (id.to_string(), networks.kind(id).unwrap())).collect();
    let expected =
        [("app:exit", "socks5"), ("app:i2p", "i2p"), ("app:office", "wireguard"), ("app:tor", "socks5")];
    assert_eq!(kinds, expected.map(|(id, kind)| (id.to_owned(), kind)));
}
