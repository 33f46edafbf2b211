//! What `examples` and the guide show works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{command, frame, stdout};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn manifest(example: &str) -> String {
    examples().join(example).join("app.toml").to_str().expect("the path is UTF-8").to_owned()
}

fn call(example: &str, arguments: &[&str]) -> Value {
    let manifest = manifest(example);
    let arguments = [&["call", &manifest], arguments, &["--format", "json"]].concat();
    serde_json::from_str(&stdout(&arguments)).expect("JSON")
}

#[test]
fn every_example_is_right() {
    let mut checked = 0;
    for entry in fs::read_dir(examples()).expect("there are examples") {
        let manifest = entry.expect("it can be read").path().join("app.toml");
        if manifest.exists() {
            stdout(&["check", manifest.to_str().expect("the path is UTF-8")]);
            checked += 1;
        }
    }
    assert!(checked >= 2);
}

#[test]
#[cfg(feature = "wasm")]
fn the_component_of_hello_is_made_of_its_text() {
    let text = fs::read_to_string(examples().join("hello/shout.wat")).expect("it is there");
    let component = fs::read(examples().join("hello/shout.wasm")).expect("it is there");
    assert!(
        component == frame_guests::component(&text),
        "run `cargo run -p frame-guests -- examples/hello/shout.wat examples/hello/shout.wasm`"
    );
}

#[test]
#[cfg(feature = "wasm")]
fn hello_greets_with_a_script_that_calls_a_component() {
    let greeted = call("hello", &["hello:greet", r#"{ "name": "Ada \"Countess\" L." }"#]);
    assert_eq!(greeted, json!({ "by": "hello:greet", "text": "HELLO, ADA \"COUNTESS\" L." }));
    let refused = frame(&["call", &manifest("hello"), "hello:greet", "5"]);
    assert_eq!(refused.status.code(), Some(3));
}

#[test]
fn rooms_are_opened_for_their_visitor_and_closed_with_the_app() {
    let mut command = command(&["run", &manifest("rooms")]);
    let session = tempfile::tempdir().expect("a directory");
    let mut run = crate::run::Run::spawn(command.env("XDG_RUNTIME_DIR", session.path()));
    for topic in ["rust", "lua", "wasm"] {
        run.wait_for_times(&format!("hello, {topic}!"), 2);
    }
    assert_eq!(run.times("a child was started"), 3);
    run.signal(rustix::process::Signal::TERM);
    assert!(run.end().success());
    assert_eq!(run.times("a room was closed"), 3, "{}", run.said.join("\n"));
    assert!(run.has_said("all ended in time") && !run.has_said("WARN"), "{}", run.said.join("\n"));
}

#[test]
fn news_are_read_by_all_readers_until_the_app_stops() {
    let mut command = command(&["run", &manifest("news")]);
    let session = tempfile::tempdir().expect("a directory");
    let mut run = crate::run::Run::spawn(command.env("XDG_RUNTIME_DIR", session.path()));
    for reader in ["ada", "grace"] {
        run.wait_for_times(&format!("{reader} read "), 2);
    }
    run.signal(rustix::process::Signal::TERM);
    assert!(run.end().success());
    assert!(run.has_said("all ended in time"), "{}", run.said.join("\n"));
}

#[test]
#[cfg(unix)]
fn vault_pays_with_a_key_that_its_scripts_do_not_see() {
    use super::tls_server::{TlsServer, header, response};

    const KEY: &str = "sk_example_5f0c6d1e9a";
    let server = TlsServer::new(|request| match request.split(' ').nth(1) {
        Some("/echo") => response("200 OK", "", request),
        _ => response("200 OK", "", r#"{"receipt":"r-1"}"#),
    });
    // The same app, for a server at another port and with another certificate.
    let app = tempfile::tempdir().expect("a directory");
    fs::create_dir(app.path().join("tls")).expect("it is new");
    for name in ["app.toml", "pay.lua", "nosy.lua", "payments.key"] {
        let text = fs::read_to_string(examples().join("vault").join(name)).expect("it is text");
        let text = text.replace("8443", &server.address.port().to_string());
        fs::write(app.path().join(name), text).expect("it can be written");
    }
    fs::write(app.path().join("tls/ca.pem"), &server.ca_pem).expect("it can be written");
    let manifest = app.path().join("app.toml").display().to_string();
    let call = |arguments: &[&str]| {
        let arguments =
            [&["call", &manifest], arguments, &["--format", "json", "--log-level", "trace"]].concat();
        let output = frame(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(!said.contains(KEY) && !String::from_utf8_lossy(&output.stdout).contains(KEY), "{said}");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    assert_eq!(call(&["vault:pay", "700"]), json!({ "status": 200, "receipt": "r-1" }));
    let paid = server.requests().remove(0);
    assert_eq!(header(&paid, "authorization"), Some(&*format!("Bearer {KEY}")));
    assert!(paid.contains("\"amount\":700"), "{paid}");

    let attempts = call(&["vault:nosy"]);
    for (name, end) in attempts.as_object().expect("a table") {
        let is_refused = ["denied: ", "invalid: "]
            .iter()
            .any(|kind| end.as_str().is_some_and(|end| end.starts_with(kind)));
        assert!(is_refused || name == "frame", "{name}: {end}");
    }
    assert_eq!(attempts["frame"], json!(["vault:key"]));
    assert_eq!(server.requests().len(), 2, "only `/echo` is sent");

    let log = fs::read_to_string(app.path().join("audit.log")).expect("it is written");
    assert!(log.contains("\"secret\":\"vault:key\"") && !log.contains(KEY), "{log}");
    let summary: Value = serde_json::from_str(&stdout(&[
        "audit",
        &app.path().join("audit.log").display().to_string(),
        "--format",
        "json",
    ]))
    .expect("JSON");
    let destinations = summary["destinations"].as_array().expect("a list");
    let refused: u64 = destinations.iter().filter_map(|destination| destination["refused"].as_u64()).sum();
    assert!(refused >= 4, "{summary}");
    assert!(!fs::read_to_string(examples().join("vault/server.py")).expect("it is text").contains(KEY));
}

#[test]
fn hello_has_a_trace_that_calls_may_choose() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let who = call("hello", &["hello:whoami", "-o", &format!("trace={parent}")]);
    let traceparent = who["traceparent"].as_str().expect("it has one");
    assert!(traceparent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{traceparent}");
    assert_ne!(traceparent, parent, "the frame has a span of its own");
    assert!(call("hello", &["hello:whoami"])["traceparent"].is_string(), "the app starts a trace otherwise");
}

#[test]
fn hello_fetches_through_its_network_or_not_at_all() {
    // Nobody listens where the manifest says that the relay is, as far as this test can know; an origin does.
    let origin = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    origin.set_nonblocking(true).expect("it can be");
    let url = json!(format!("http://{}/", origin.local_addr().expect("it is bound"))).to_string();
    let failed = frame(&["call", &manifest("hello"), "hello:fetch", &url]);
    assert!(!failed.status.success());
    assert!(origin.accept().is_err(), "something connected to the origin");
}

#[test]
fn egress_refuses_what_no_list_has() {
    let url = |port: u16| json!(format!("http://127.0.0.1:{port}/")).to_string();
    for (function, port) in [("shop:pay", 8000), ("shop:fetch", 8003)] {
        let refused = frame(&["call", &manifest("egress"), function, &url(port)]);
        let said = String::from_utf8(refused.stderr).expect("text");
        assert!(!refused.status.success());
        let why = format!("connecting to 127.0.0.1:{port} is not allowed by `egress`");
        assert!(said.contains(&why), "{said}");
    }
    let narrowed = call("egress", &["shop:plugin", &url(8001)]);
    let message = "connecting to 127.0.0.1:8001 is not allowed by `egress`";
    assert_eq!(narrowed, json!({ "fetched": false, "message": message }));
}

/// Writes the certificates and the key that the guide's manifests name.
fn write_certificates(app: &Path) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate").pem();
    let tls = app.join("tls");
    fs::create_dir(&tls).expect("it is new");
    let files =
        [("corp.pem", &certificate), ("client.pem", &certificate), ("client.key", &key.serialize_pem())];
    for (name, pem) in files {
        fs::write(tls.join(name), pem).expect("it can be written");
    }
}

/// Every block of TOML in the README and in the guide is a manifest, of an app with the sources of the example
/// `hello`. Those that are marked as files are run by `guide.rs`.
#[test]
fn manifests_of_the_guide_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chapters = fs::read_dir(root.join("docs/src")).expect("there is a guide");
    let chapters = chapters.map(|chapter| chapter.expect("it can be read").path());
    let mut checked = 0;
    for chapter in chapters.chain([root.join("README.md")]) {
        let text = fs::read_to_string(&chapter).expect("it is text");
        let mut before = "";
        for part in text.split("```toml\n") {
            let is_manifest = !before.is_empty() && !before.ends_with(" -->\n");
            before = part;
            let block = part.split("```").next().unwrap_or_default();
            if !is_manifest || block.contains("{{#include") {
                continue; // an include is of an example, which is checked whole
            }
            let app = tempfile::tempdir().expect("a directory");
            for source in fs::read_dir(examples().join("hello")).expect("it is there") {
                let source = source.expect("it can be read").path();
                if source.is_file() {
                    let name = source.file_name().expect("a file has a name");
                    fs::copy(&source, app.path().join(name)).expect("it can be copied");
                }
            }
            fs::create_dir(app.path().join("data")).expect("it is new");
            write_certificates(app.path());
            fs::write(app.path().join("stripe.key"), "sk_live_xyzzy").expect("it can be written");
            let manifest = app.path().join("app.toml");
            fs::write(&manifest, block).expect("it can be written");
            let output = Command::new(env!("CARGO_BIN_EXE_frame"))
                .args([Path::new("check"), &manifest])
                .env("PROXY_HOST", "proxy.example.com")
                .env("API_TOKEN", "xyzzy")
                .env("PROXY_PASSWORD", "xyzzy")
                .env("COLLECTOR", "127.0.0.1:4318")
                .env("COLLECTOR_TOKEN", "xyzzy")
                .env("STRIPE_KEY", "sk_live_xyzzy")
                .env("OFFICE_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=")
                .output()
                .expect("it was built");
            assert!(
                output.status.success(),
                "{}:\n{block}\n{}",
                chapter.display(),
                String::from_utf8_lossy(&output.stderr)
            );
            checked += 1;
        }
    }
    assert!(checked >= 6, "{checked}");
}

#[test]
fn the_runtime_of_the_example_decides_frames_and_refuses() {
    // Cargo puts examples beside the program.
    let program = Path::new(env!("CARGO_BIN_EXE_frame")).with_file_name("examples").join("embedding");
    let output =
        Command::new(program).output().expect("`cargo test`, or `cargo build --examples`, builds it");
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).expect("text");
    for part in [
        "\"tenant\": \"acme\"",
        "which connects through network `app:tor`",
        "`app:tro`",
        "did you mean `tenant`?",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn the_program_of_the_example_has_one_option_more() {
    let program = Path::new(env!("CARGO_BIN_EXE_frame")).with_file_name("examples").join("tenant");
    let output = Command::new(program)
        .args(["call", &manifest("hello"), "hello:whoami", "-o", "tenant=acme", "--explain"])
        .output()
        .expect("`cargo test`, or `cargo build --examples`, builds it");
    let explained = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success() && explained.contains("acme"), "{explained}");
}
