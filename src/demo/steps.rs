//! What the demonstration does, and what should come of it.

use std::net::SocketAddr;

use serde_json::{Value as Json, json};

/// A name that only the relay knows.
pub(super) const NAME: &str = "origin.demo";

/// A trace that somebody else has begun.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A call, and what should come of it.
pub(super) struct Step {
    pub(super) what: &'static str,
    pub(super) function: &'static str,
    pub(super) payload: Json,
    pub(super) options: Json,
    pub(super) expected: Expected,
}

/// What should come of a call.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// The origin was reached, and not through the relay.
    Clearnet,
    /// The origin was reached through the relay, and no other way.
    Relay,
    /// This part of the answer, by its JSON pointer, contains the text. The origin was not asked for.
    Answer(&'static str, &'static str),
    /// An error that says this, and nothing was reached.
    Refused(&'static str),
}

/// All of them, with the origin at this address.
pub(super) fn all(origin: SocketAddr) -> Vec<Step> {
    let url = json!(format!("http://{origin}/"));
    let relay = json!({ "network": "hello:relay" });
    let step = |what, function, payload: &Json, options: &Json, expected| Step {
        what,
        function,
        payload: payload.clone(),
        options: options.clone(),
        expected,
    };
    let none = json!({});
    let trace = json!({ "trace": format!("00-{TRACE}-00f067aa0ba902b7-01") });
    let by_name = json!(format!("http://{NAME}/"));
    let nowhere = json!({ "network": "hello:tor" });
    let misspelt = json!({ "netwrok": "hello:relay" });
    vec![
        step(
            "a script that calls a component",
            "hello:greet",
            &json!({ "name": "Ada" }),
            &none,
            Expected::Answer("/text", "HELLO, ADA"),
        ),
        step("no option", "hello:fetch-anyhow", &url, &none, Expected::Clearnet),
        step("overlay by call option", "hello:fetch-anyhow", &url, &relay, Expected::Relay),
        step("overlay preset for the function", "hello:fetch", &url, &none, Expected::Relay),
        step("overlay inherited by a nested call", "hello:ask", &url, &relay, Expected::Relay),
        step("a name that only the proxy knows", "hello:fetch", &by_name, &none, Expected::Relay),
        step("unknown overlay", "hello:fetch-anyhow", &url, &nowhere, Expected::Refused("hello:tor")),
        step("misspelt option", "hello:fetch-anyhow", &url, &misspelt, Expected::Refused("`network`")),
        step("a script that leaves its overlay", "hello:stray", &url, &relay, Expected::Refused("hello:lan")),
        step("a file below its root", "hello:report", &json!("seen"), &none, Expected::Answer("", "seen")),
        step(
            "the same file, read only",
            "hello:read",
            &json!("log.txt"),
            &none,
            Expected::Answer("", "seen"),
        ),
        step(
            "a file above its root",
            "hello:read",
            &json!("../../app.toml"),
            &none,
            Expected::Refused("app.toml"),
        ),
        step(
            "a trace that goes on",
            "hello:whoami",
            &Json::Null,
            &trace,
            Expected::Answer("/traceparent", TRACE),
        ),
    ]
}
