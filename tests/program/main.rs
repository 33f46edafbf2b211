//! The program, as its users run it.

#[cfg(unix)]
mod audit;
mod call;
mod check;
mod children;
mod complete;
#[cfg(all(unix, feature = "wasm"))]
mod components;
mod demo;
mod examples;
mod explain;
#[cfg(unix)]
mod guide;
mod lists;
#[cfg(unix)]
mod memory;
mod output;
mod ps;
#[cfg(unix)]
mod run;
#[cfg(unix)]
mod secrets;
#[cfg(unix)]
mod stress;
#[cfg(target_os = "linux")]
mod surroundings;
mod telemetry;
#[cfg(unix)]
#[path = "../shared/tls_server.rs"]
mod tls_server;
#[cfg(unix)]
mod trees;
mod wrong;

use std::fs;
use std::io::Write;
use std::iter;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The program with these arguments, still to be run.
fn command(arguments: &[&str]) -> Command {
    // What people set in their shells must not lead anywhere.
    let proxies =
        ["ALL_PROXY", "HTTP_PROXY", "http_proxy", "https_proxy"].map(|name| (name, "http://127.0.0.1:9"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_frame"));
    command.args(arguments).envs(proxies);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command
}

fn frame(arguments: &[&str]) -> Output {
    command(arguments).output().expect("it was built")
}

/// The same, with something on standard input.
fn frame_given(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it was built");
    child.stdin.take().expect("it is piped").write_all(input).expect("it is read");
    child.wait_with_output().expect("it ends")
}

fn stdout(arguments: &[&str]) -> String {
    let output = frame(arguments);
    assert!(output.status.success(), "{arguments:?}: {}\n{}", output.status, stderr(&output));
    String::from_utf8(output.stdout).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(arguments)).expect("JSON")
}

/// The directory of an app.
struct App {
    directory: TempDir,
    manifest: String,
}

impl App {
    /// An app of functions in Lua: the name of each, in the namespace `app`, and its source.
    fn of_scripts(scripts: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let app = Self { manifest: directory.path().join("app.toml").display().to_string(), directory };
        let functions = scripts.iter().map(|(name, source)| {
            app.write(&format!("{name}.lua"), source);
            format!("[functions.\"app:{name}\"]\nengine = \"lua\"\nsource = \"{name}.lua\"\n")
        });
        let manifest: String = iter::once("[app]\nname = \"tried\"\n".to_owned()).chain(functions).collect();
        app.write("app.toml", &manifest);
        app
    }

    /// Writes a file beside the manifest; gives its path.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, content).expect("it is written");
        path.display().to_string()
    }
}
