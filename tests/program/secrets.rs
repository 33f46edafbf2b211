//! Secrets of a manifest, and where their values are: in one header, and nowhere else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::run::Run;
use super::tls_server::{TlsServer, header, response};
use super::{App, command, json_of, stderr};

/// From the environment, and from a file.
const FROM_ENV: &str = "sk_live/31337+xyzzy";
const FROM_FILE: &str = "Hunter2~plugh~plover";
/// What the file has after a reload.
const ROTATED: &str = "Rotated2~plugh~plover";

/// How a value may be written, so that it can be read again.
fn forms(value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let percent = |kept: &str| -> String {
        let encode = |byte: &u8| match char::from(*byte) {
            letter if letter.is_ascii_alphanumeric() || kept.contains(letter) => letter.to_string(),
            _ => format!("%{byte:02X}"),
        };
        bytes.iter().map(encode).collect()
    };
    let decimal: Vec<_> = bytes.iter().map(u8::to_string).collect();
    let escaped = value.replace('/', "\\/");
    let reversed = value.chars().rev().collect();
    let lists = [decimal.join(","), decimal.join(", ")];
    let mut forms = vec![value.to_owned(), hex.to_uppercase(), hex, escaped, reversed, percent("")];
    // The letters that a URL keeps, and those that a form does.
    forms.extend(["-._~", "*-._"].map(percent));
    forms.extend(lists);
    // As a part of something longer it is written in one of three ways, and what is around it changes its ends.
    for skipped in 0..3 {
        let text = base64(&[&vec![b' '; skipped], bytes].concat());
        let inside = text[4..text.len() - 4].to_owned();
        forms.push(inside.replace('+', "-").replace('/', "_"));
        forms.push(inside);
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[bits >> (18 - 6 * place) & 63];
            text.push(if place > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

/// How a value is written in `text`, if it is there.
fn found(text: &[u8]) -> Option<String> {
    let all = [FROM_ENV, FROM_FILE, ROTATED].into_iter().flat_map(forms);
    all.into_iter().find(|form| text.windows(form.len()).any(|window| window == form.as_bytes()))
}

/// What was written or sent, and where.
#[derive(Default)]
struct Gathered(Vec<(String, Vec<u8>)>);

impl Gathered {
    fn add(&mut self, place: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.0.push((place.into(), text.into()));
    }

    /// Runs a command to its end, and keeps what it writes. Returns the exit code and that.
    fn run(&mut self, what: &str, command: &mut Command) -> (Option<i32>, String) {
        let output = command.output().expect("it was built");
        let text = [&output.stdout[..], &output.stderr].concat();
        self.add(format!("the output of {what}"), text.clone());
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// All files below a directory but those that have secrets.
    fn files(&mut self, directory: &Path) {
        for entry in
            fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("it can be read").path())
        {
            if entry.is_dir() {
                self.files(&entry);
            } else if entry.file_name().is_some_and(|name| name != "key") {
                self.add(entry.display().to_string(), fs::read(&entry).unwrap_or_default());
            }
        }
    }

    fn assert_without_secrets(&self) {
        for (place, text) in &self.0 {
            if let Some(form) = found(text) {
                panic!("`{form}` is in {place}:\n{}", String::from_utf8_lossy(text));
            }
        }
    }
}

/// Everything that a script can try to see of its secrets, and to have them sent elsewhere. It logs, returns and raises all
/// that it gets.
const PROBE: &str = r#"
    local base = ...
    local elsewhere = base:gsub("localhost", "127.0.0.1")
    local seen = {}
    local function note(what, ...)
      local ok, answer = pcall(...)
      local text = ok and (answer.status .. " " .. tostring(answer.url) .. " " .. tostring(answer.body)) or answer.message
      if ok then for name, value in pairs(answer.headers) do text = text .. "\n" .. name .. ": " .. value end end
      log.info(what .. ": " .. text, { text = text })
      seen[what] = text
    end
    for _, secret in ipairs { "app:env", "app:file" } do
      local options = { secret = secret }
      for _, path in ipairs { "/ok", "/echo", "/header", "/same", "/other", "/downgrade", "/location", "/broken", "/cut" } do
        note(secret .. path, http.get, base .. path, options)
      end
      note(secret .. " stream", function()
        local response = http.get(base .. "/echo", { secret = secret, stream = true })
        return { status = 0, headers = {}, body = response.body:read_all() }
      end)
      note(secret .. " trace", http.request, { url = base .. "/ok", method = "TRACE", secret = secret })
      note(secret .. " own", http.get, base .. "/ok", { secret = secret, headers = { authorization = "mine", ["x-key"] = "mine" } })
      note(secret .. " elsewhere", http.get, elsewhere .. "/ok", options)
      note(secret .. " cleartext", http.get, (base:gsub("https", "http")) .. "/ok", options)
      note(secret .. " websocket", function()
        websocket.connect((base:gsub("https", "wss")) .. "/echo", { secret = secret })
        return { status = 0, headers = {} }
      end)
      local _, refused = pcall(call, "app:probe", base, { secrets = { "app:other" } })
      seen[secret .. " narrowed"] = refused.message
    end
    seen.frame = json.encode(frame.get("net.secrets"))
    log.info(json.encode(seen))
    return seen
"#;

fn server() -> TlsServer {
    TlsServer::new(|request| {
        let sent =
            header(request, "authorization").or(header(request, "x-key")).unwrap_or_default().to_owned();
        let port = header(request, "host").and_then(|host| host.split_once(':')).map_or("", |(_, port)| port);
        let found = |to: &str| response("307 Found", &format!("Location: {to}\r\n"), "");
        match request.split(' ').nth(1).unwrap_or_default() {
            "/echo" => response("200 OK", "", request),
            "/header" => response("401 No", &format!("WWW-Authenticate: Bearer error=\"{sent}\"\r\n"), ""),
            "/same" => found("/ok"),
            "/other" => found(&format!("https://127.0.0.1:{port}/arrived")),
            "/downgrade" => found(&format!("http://localhost:{port}/arrived")),
            "/location" => found(&format!("https://127.0.0.1:{port}/{sent}")),
            "/broken" => format!("HTTP/1.1 200 OK\r\n{sent}\r\n\r\n").into(),
            "/cut" => format!("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\nX: y\r\n\r\n{sent}").into(),
            _ => response("200 OK", "", "fine"),
        }
    })
}

/// An app whose function `app:probe` has two secrets for `server`.
fn app(server: &TlsServer, further: &str) -> App {
    let app = App::of_scripts(&[("probe", PROBE)]);
    app.write("ca.pem", &server.ca_pem);
    app.write("key", format!("{FROM_FILE}\n"));
    let manifest = fs::read_to_string(&app.manifest).expect("it was written");
    let port = server.address.port();
    let manifest = format!(
        r#"{manifest}options = {{ secrets = ["app:env", "app:file"], trace = true, timeout = "30s" }}
[clearnet]
allow = ["127.0.0.0/8", "localhost"]
[audit]
file = "audit.log"
required = true
[http]
roots = "only"
ca_files = ["ca.pem"]
allow_downgrade = true
time_limit = "3s"
[secrets."app:env"]
env = "SECRET_OF_ENV"
hosts = ["localhost:{port}"]
[secrets."app:file"]
file = "key"
hosts = ["localhost:{port}"]
header = "x-key"
template = "key={{}}"
{further}"#
    );
    app.write("app.toml", manifest);
    app
}

/// The program, with the secret in its environment.
fn with_env(arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.env("SECRET_OF_ENV", FROM_ENV);
    command
}

/// Every request that the server got has at most one of the secrets, once, and in the header of that.
fn assert_in_headers_only(server: &TlsServer) {
    let requests = server.requests();
    for request in &requests {
        let own = [
            ("authorization", "Bearer ", FROM_ENV),
            ("x-key", "key=", FROM_FILE),
            ("x-key", "key=", ROTATED),
        ];
        let mut rest = request.clone();
        for (name, before, value) in own {
            rest = rest.replacen(&format!("\r\n{name}: {before}{value}\r\n"), "\r\n", 1);
        }
        assert_eq!(found(rest.as_bytes()), None, "{request}");
        let is_elsewhere = header(request, "host").is_some_and(|host| host.starts_with("127."));
        assert!(!is_elsewhere || rest == *request, "{request}");
    }
    let with_secret = requests.iter().filter(|request| found(request.as_bytes()).is_some()).count();
    assert!(with_secret >= 10, "the search finds what is there: {with_secret} of {}", requests.len());
}

#[test]
fn the_search_knows_how_values_are_written() {
    assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
    let texts = [
        format!("a{FROM_ENV}b"),
        base64(format!("Bearer {FROM_ENV} and more").as_bytes()),
        "/?q=sk_live%2F31337%2Bxyzzy".to_owned(),
    ];
    for text in texts {
        assert!(found(text.as_bytes()).is_some(), "{text}");
    }
    assert_eq!(found(b"nothing of it"), None);
}

#[test]
fn a_value_is_in_no_byte_but_those_of_its_header() {
    let (server, mut gathered) = (server(), Gathered::default());
    let app = app(&server, "");
    let base = serde_json::json!(server.url("")).to_string();
    for arguments in [
        &["check"][..],
        &["check", "--format", "json"],
        &["call", "app:probe", &base, "--format", "json", "--log-level", "trace"],
        &["call", "app:probe", &base, "--log", "json", "--log-level", "trace", "--explain"],
        &["call", "app:probe", &base, "--explain", "-o", "secrets=[\"app:env\"]"],
    ] {
        let arguments = [&arguments[..1], &[&app.manifest], &arguments[1..]].concat();
        let what = format!("{arguments:?}");
        let (code, said) = gathered.run(&what, &mut with_env(&arguments));
        assert_eq!(code, Some(0), "{what}: {said}");
        if arguments[0] == "call" && !said.contains("secrets=") {
            assert!(said.contains("sent the secret `app:env` back"), "{said}");
        }
    }
    let log = fs::read_to_string(app.directory.path().join("audit.log")).expect("it is written");
    assert!(log.contains(r#""secret":"app:env""#) && log.contains(r#""secret":"app:file""#), "{log}");
    for format in ["table", "json"] {
        let log = app.directory.path().join("audit.log").display().to_string();
        let (code, said) = gathered.run("an audit", &mut command(&["audit", &log, "--format", format]));
        assert_eq!(code, Some(0), "{said}");
    }
    // What cannot be started shows nothing either.
    let (code, said) = gathered.run(
        "a call with an unknown secret",
        &mut with_env(&["call", &app.manifest, "app:probe", &base, "-o", "secrets=[\"app:evn\"]"]),
    );
    assert!(code != Some(0) && said.contains("did you mean `app:env`?"), "{said}");
    let (code, said) = gathered.run("a check without the variable", &mut command(&["check", &app.manifest]));
    assert!(code == Some(2) && said.contains("`SECRET_OF_ENV` is not set"), "{said}");
    for broken in ["x", "a b\r\nc: d-31337", "sk_live\u{e9}/31337+xyzzy\n\n"] {
        app.write("key", format!("{broken}{FROM_FILE}\r\nx: y\n"));
        let (code, said) =
            gathered.run("a check of a file with lines", &mut with_env(&["check", &app.manifest]));
        assert!(code == Some(2) && said.contains("has a line break in it"), "{said}");
    }
    app.write("key", format!("{FROM_FILE}\n"));
    gathered.files(Path::new(&app.manifest).parent().expect("it is in a directory"));
    gathered.add("the wire", server.wire());
    gathered.assert_without_secrets();
    assert_in_headers_only(&server);
}

/// A process that probes, and waits.
const PROCESS: &str = r#"
[functions."app:again"]
engine = "lua"
source = "again.lua"
[hosts."app:workers"]
[processes."app:worker"]
engine = "lua"
source = "worker.lua"
options = { secrets = ["app:file"] }
[supervisors."app:main"]
host = "app:workers"
[[supervisors."app:main".children]]
id = "worker"
process = "app:worker"
"#;

#[cfg(feature = "otlp")]
#[test]
fn a_run_shows_and_sends_no_value_and_takes_over_another() {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};
    use std::thread;

    use rustix::process::Signal;

    // A collector that keeps what comes.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let collector = listener.local_addr().expect("it is bound");
    let traces: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = Arc::clone(&traces);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let kept = Arc::clone(&kept);
            thread::spawn(move || {
                let mut bytes = vec![0; 65_536];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    kept.lock().expect("no thread has panicked").extend_from_slice(&bytes[..read]);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            });
        }
    });

    let (server, mut gathered) = (server(), Gathered::default());
    let telemetry = format!("[telemetry]\notlp = \"http://{collector}\"\n");
    let app = app(&server, &format!("{telemetry}{PROCESS}"));
    let url = server.url("");
    app.write("again.lua", "return http.get(..., { secret = 'app:file' }).status");
    app.write(
        "worker.lua",
        format!(
            "call('app:probe', '{url}')
             log.info('probed')
             repeat
               call('app:again', '{url}/again')
               local message = process.receive(0.05)
             until message and message.kind == 'cancelled'"
        ),
    );
    let session = tempfile::tempdir().expect("a directory");
    let mut command = with_env(&["run", &app.manifest, "--log-level", "debug"]);
    let mut run = Run::spawn(command.env("XDG_RUNTIME_DIR", session.path()));
    run.wait_for("probed");
    for format in ["table", "json"] {
        let mut ps = super::command(&["ps", &app.manifest, "--wide", "--format", format]);
        let (code, said) =
            gathered.run("ps", ps.env("XDG_RUNTIME_DIR", session.path()).env("COLUMNS", "300"));
        assert!(code == Some(0) && said.contains("net.secrets"), "{said}");
    }

    // What cannot be read changes nothing. What can be is used from then on.
    app.write("key", format!("{ROTATED}\nand more\n"));
    run.signal(Signal::HUP);
    run.wait_for("not reloaded");
    app.write("key", format!("{ROTATED}\n"));
    let changed = run.reload();
    assert!(changed.contains("secrets replaced: app:file"), "{changed}");
    let is_used = || {
        server.requests().iter().any(|request| header(request, "x-key") == Some("key=Rotated2~plugh~plover"))
    };
    while !is_used() {
        thread::yield_now();
    }
    run.signal(Signal::TERM);
    assert!(run.end().success(), "{}", run.said.join("\n"));

    gathered.add("the log", run.said.join("\n"));
    let traces = traces.lock().expect("no thread has panicked").clone();
    assert!(traces.windows(9).any(|window| window == b"app:probe"), "there are traces");
    gathered.add("the traces", traces);
    gathered.files(Path::new(&app.manifest).parent().expect("it is in a directory"));
    gathered.files(session.path());
    gathered.add("the wire", server.wire());
    gathered.assert_without_secrets();
    assert_in_headers_only(&server);
}

#[test]
fn what_is_wrong_with_a_secret_is_reported_at_its_place_and_not_shown() {
    let app = App::of_scripts(&[("pay", "return 1")]);
    let manifest = fs::read_to_string(&app.manifest).expect("it was written");
    let cases = [
        ("env = \"NOT_SET_ANYWHERE\"\nhosts = [\"a.example\"]", "`NOT_SET_ANYWHERE` is not set"),
        ("env = \"sk_live_31337\"\nhosts = [\"a.example\"]", "the environment variable that `env` names"),
        ("env = \"${PATH}\"\nhosts = [\"a.example\"]", "the name of an environment variable"),
        ("value = \"sk_live_31337\"\nhosts = [\"a.example\"]", "did you mean `env`?"),
        ("file = \"nowhere/31337\"\nhosts = [\"a.example\"]", "cannot be read"),
        ("file = \".\"\nhosts = [\"a.example\"]", "is not a regular file"),
        ("file = \"short\"\nhosts = [\"a.example\"]", "shorter than 8 bytes"),
        ("env = \"PATH\"\nhosts = []", "`hosts` is empty"),
        ("env = \"PATH\"\nhosts = [\"*\"]", "every host"),
        ("env = \"PATH\"\nhosts = [\"a.example\"]\nheader = \"host\"", "cannot be `host`"),
        ("env = \"PATH\"\nhosts = [\"a.example\"]\ntemplate = \"Bearer sk_live_31337\"", "one `{}`"),
        ("env = \"PATH\"\nfile = \"key\"\nhosts = [\"a.example\"]", "remove one"),
    ];
    app.write("short", "31337\n");
    for (settings, expected) in cases {
        app.write(
            "app.toml",
            format!("{manifest}options = {{ secrets = [\"app:key\"] }}\n[secrets.\"app:key\"]\n{settings}\n"),
        );
        let output = command(&["check", &app.manifest]).output().expect("it was built");
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{settings}: {said}");
        let said: String = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(said.contains(expected), "{settings}: {said}");
        assert!(!said.contains("sk_live") && !said.contains("sbin"), "{settings}: {said}");
    }
}

#[test]
fn a_check_finds_secrets_that_are_unknown_and_warns_of_those_that_no_unit_may_use() {
    let app = App::of_scripts(&[("pay", "return 1")]);
    let manifest = fs::read_to_string(&app.manifest).expect("it was written");
    let secret =
        "[secrets.\"app:stripe\"]\nfile = \"key\"\nhosts = [\"api.example\", \"*.cdn.example:8443\"]\n";
    app.write("key", "sk_live_31337");
    let key = app.directory.path().join("key");
    let mode = |mode: u32| {
        fs::set_permissions(&key, Permissions::from_mode(mode)).expect("it is ours");
    };
    mode(0o600);
    app.write(
        "app.toml",
        format!("{manifest}options = {{ secrets = [\"app:stripe\", \"app:strip\"] }}\n{secret}"),
    );
    let output = command(&["check", &app.manifest, "--format", "json"]).output().expect("it was built");
    let problems: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let problem = &problems["problems"][0];
    assert_eq!(output.status.code(), Some(2), "{problems}");
    assert_eq!(problem["text"], "\"app:strip\"", "{problems}");
    assert_eq!(
        problem["message"],
        "unknown secret `app:strip` (from option `secrets`); did you mean `app:stripe`?",
    );

    app.write("app.toml", format!("{manifest}options = {{ secrets = [\"app:stripe\"] }}\n{secret}"));
    let checked = json_of(&["check", &app.manifest, "--format", "json"]);
    assert_eq!(checked["warnings"], serde_json::json!([]));
    assert_eq!(checked["secrets"][0]["hosts"], serde_json::json!(["api.example", "*.cdn.example:8443"]));

    app.write("app.toml", format!("{manifest}{secret}"));
    mode(0o644);
    let output = command(&["check", &app.manifest]).output().expect("it was built");
    let (said, shown) = (stderr(&output), String::from_utf8_lossy(&output.stdout).into_owned());
    assert!(output.status.success(), "{said}");
    assert!(shown.contains("app:stripe") && shown.contains("authorization"), "{shown}");
    let said: String =
        said.split_whitespace().filter(|word| !matches!(*word, "│" | "|")).collect::<Vec<_>>().join(" ");
    assert!(said.contains("no unit may use the secret `app:stripe`"), "{said}");
    assert!(said.contains("every user of this machine can read"), "{said}");
}

#[test]
fn a_check_warns_of_hosts_that_no_unit_with_the_secret_can_reach() {
    let app = App::of_scripts(&[("pay", "return 1")]);
    let manifest = fs::read_to_string(&app.manifest).expect("it was written");
    app.write("key", "sk_live_31337");
    fs::set_permissions(app.directory.path().join("key"), Permissions::from_mode(0o600)).expect("it is ours");
    let secret = "[secrets.\"app:key\"]\nfile = \"key\"\nhosts = [\"api.example\", \"api.example:8443\"]\n";
    let options = "options = { secrets = [\"app:key\"], egress = [\"api.example:443\"] }\n";
    app.write("app.toml", format!("{manifest}{options}{secret}"));
    let checked = json_of(&["check", &app.manifest, "--format", "json"]);
    let warnings = checked["warnings"].as_array().expect("a list");
    assert_eq!(warnings.len(), 1, "{checked}");
    let message = warnings[0]["message"].as_str().expect("text");
    assert!(
        message.contains("`app:key` can reach api.example:8443: `egress` does not allow it"),
        "{message}"
    );
}

#[test]
fn a_script_that_starts_a_process_passes_on_no_secret_that_it_has_not() {
    let app = App::of_scripts(&[("starter", "return 1")]);
    let manifest = fs::read_to_string(&app.manifest).expect("it was written");
    let more = r#"options = { secrets = ["app:mine"], spawn = ["app:workers"] }
[hosts."app:workers"]
[processes."app:child"]
engine = "lua"
source = "child.lua"
[processes."app:preset"]
engine = "lua"
source = "child.lua"
options = { secrets = ["app:other"] }
[secrets."app:mine"]
file = "mine"
hosts = ["a.example"]
[secrets."app:other"]
file = "other"
hosts = ["a.example"]
"#;
    app.write("app.toml", format!("{manifest}{more}"));
    for (file, value) in [("mine", "sk_live_mine"), ("other", "sk_live_other")] {
        app.write(file, value);
        let file = app.directory.path().join(file);
        fs::set_permissions(file, Permissions::from_mode(0o600)).expect("it is ours");
    }
    // What a process may use is on its frame.
    app.write("child.lua", "return table.concat(frame.get('net.secrets') or {}, ' ')");
    app.write(
        "starter.lua",
        r"
        local function granted(entry, secrets)
          local options = secrets and { secrets = secrets }
          local ok, answer = pcall(process.exec, { host = 'app:workers', entry = entry, options = options })
          return { ok and 'granted' or answer.kind, ok and answer or answer.message }
        end
        return {
          granted('app:child'), granted('app:child', { 'app:mine' }), granted('app:child', {}),
          granted('app:preset'), granted('app:child', { 'app:other' }),
          granted('app:child', { 'app:mine', 'app:none' }), granted('app:preset', { 'app:mine' }),
        }",
    );
    let answer = json_of(&["call", &app.manifest, "app:starter"]);
    let answers: Vec<[String; 2]> = serde_json::from_value(answer).expect("pairs of texts");
    // What the manifest presets is the manifest's to grant, and no script's to replace.
    let granted = ["app:mine", "app:mine", "", "app:other"].map(|ids| ["granted", ids].map(String::from));
    assert_eq!(answers[..4], granted);
    for [kind, message] in &answers[4..] {
        assert_eq!(kind, "denied", "{message}");
        assert!(!message.contains("sk_live"), "{message}");
    }
}
