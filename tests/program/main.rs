//! The program, as its users run it.

mod call;
mod check;
mod complete;
mod demo;
mod examples;
mod explain;
mod lists;
mod ps;
#[cfg(unix)]
mod run;
mod telemetry;

use std::process::{Command, Output};

use serde_json::Value;

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
