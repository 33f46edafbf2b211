//! `frame ps`.

#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;
use std::{io::BufRead, io::BufReader, io::Write, thread};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{App, command, frame, stderr};

/// `frame ps` of a session whose sockets are in a directory of their own.
fn ps(session: &TempDir, rest: &[&str]) -> Output {
    let mut command = command(&[&["ps"][..], rest].concat());
    command.env("XDG_RUNTIME_DIR", session.path()).output().unwrap()
}

/// A run that gives one answer, whatever it is asked; what it was asked is what comes back.
fn answering(socket: &Path, answer: &'static str) -> thread::JoinHandle<String> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        request
    })
}

#[test]
fn an_app_that_is_not_run_is_unavailable() {
    let (app, session) = (App::of_scripts(&[]), tempfile::tempdir().unwrap());
    let output = ps(&session, &[&app.manifest]);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(8), &b""[..]));
    let said = stderr(&output);
    assert!(said.contains("it is not running") && said.contains("start it with `frame run "), "{said}");
    assert!(said.contains(&format!("{}/frame/", session.path().display())), "{said}");
    assert_eq!(fs::read_dir(session.path()).unwrap().count(), 0, "asking leaves nothing");
}

#[test]
fn a_manifest_that_is_not_there_is_named() {
    let session = tempfile::tempdir().unwrap();
    let output = ps(&session, &["/nowhere/app.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/app.toml cannot be found"), "{}", stderr(&output));
}

#[test]
fn a_socket_that_was_left_behind_is_no_run() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let output = frame(&["ps", "--socket", socket.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(8));
    assert!(stderr(&output).contains("it is not running"), "{}", stderr(&output));
}

#[test]
fn a_directory_that_others_can_enter_or_redirect_is_not_trusted() {
    let app = App::of_scripts(&[]);
    let open = tempfile::tempdir().unwrap();
    fs::create_dir(open.path().join("frame")).unwrap();
    fs::set_permissions(open.path().join("frame"), Permissions::from_mode(0o777)).unwrap();
    let redirected = tempfile::tempdir().unwrap();
    symlink("/tmp", redirected.path().join("frame")).unwrap();
    for (session, why) in [(open, "open to others"), (redirected, "is no directory")] {
        let output = ps(&session, &[&app.manifest]);
        assert_eq!(output.status.code(), Some(8));
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
}

const ANSWER: &str = concat!(
    r#"{"version":1,"running":{"app":"hello","manifest":"/srv/app.toml","pid":4711,"uptime":3661.5,"omitted":2,"#,
    r#""later":"a member that is not known yet","processes":[{"pid":"{local@app:workers|0x00002}","names":["ticker"],"#,
    r#""entry":"app:ticker","host":"app:workers","engine":"lua","state":"receiving","mailbox":3,"#,
    r#""frame":["net.overlay"],"parent":"{local@app:workers|0x00001}","links":[],"monitors":[],"uptime":59.9}]}}"#,
    "\n"
);

#[test]
fn what_runs_is_a_table_for_people() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let run = answering(&socket, ANSWER);
    let output = frame(&["ps", "--socket", socket.to_str().unwrap()]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(run.join().unwrap(), "{\"version\":1,\"command\":\"ps\"}\n");
    assert!(shown.starts_with("hello (/srv/app.toml), process 4711, up 1h 1m 1s, 3 processes\n"), "{shown}");
    for cell in ["{local@app:workers|0x00002}", "ticker", "receiving", "59s", "and 2 that are younger"] {
        assert!(shown.contains(cell), "{cell}: {shown}");
    }
}

#[test]
fn what_runs_is_an_object_for_programs() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let run = answering(&socket, ANSWER);
    let output = frame(&["ps", "--socket", socket.to_str().unwrap(), "--format", "json"]);
    run.join().unwrap();
    let running: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&running["pid"], &running["omitted"]), (&json!(4711), &json!(2)));
    assert_eq!(running["processes"][0]["names"], json!(["ticker"]));
}

#[test]
fn what_answers_otherwise_is_not_understood_and_said_so() {
    for (answer, why) in [
        ("", "it said nothing"),
        ("hello\n", "not one of this protocol"),
        ("{\"version\":2}\n", "speaks version 2"),
        ("{\"version\":1,\"error\":\"not today\"}\n", "it answers: not today"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let run = answering(&socket, answer);
        let output = frame(&["ps", "--socket", socket.to_str().unwrap()]);
        run.join().unwrap();
        assert_eq!(output.status.code(), Some(8), "{answer}");
        assert!(stderr(&output).contains(why), "{answer}: {}", stderr(&output));
    }
}
