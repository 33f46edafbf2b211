//! `frame ps`.

#![cfg(unix)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
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
    r#""quarantined":[{"kind":"function","id":"app:bad","reason":"`bad.lua` is quarantined: it held a thread"}],"#,
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
    assert!(shown.starts_with("hello (/srv/app.toml), process 4711, up 1h 1m, 3 processes\n"), "{shown}");
    for cell in [" 0x2 ", "ticker", "receiving", "59s", "and 2 that are younger"] {
        assert!(shown.contains(cell), "{cell}: {shown}");
    }
    assert!(shown.ends_with("\nfunction app:bad: `bad.lua` is quarantined: it held a thread\n"), "{shown}");
}

/// A supervisor with two children, one of which has been restarted and has a child of its own, and one that is down.
const FAMILY: &str = concat!(
    r#"{"version":1,"running":{"app":"shop","manifest":"/srv/shop/app.toml","pid":4711,"uptime":93784.0,"omitted":0,"#,
    r#""down":[{"supervisor":"shop:main","id":"mailer","restart":"permanent","state":"waiting","restarts":3,"#,
    r#""last_exit":{"reason":"failed","message":"it failed: mail.lua:12: no route","ago":2.0}}],"#,
    r#""processes":[{"pid":"{local@shop:workers|0x00001}","names":[],"entry":"shop:main","host":"shop:workers","#,
    r#""engine":"native","state":"receiving","mailbox":0,"frame":["tenant"],"parent":null,"links":[],"monitors":[],"uptime":93784.0},"#,
    r#"{"pid":"{local@shop:workers|0x00002}","names":["orders"],"entry":"shop:orders","host":"shop:workers","#,
    r#""engine":"lua","state":"running","mailbox":12,"frame":["tenant","net.overlay"],"parent":"{local@shop:workers|0x00001}","#,
    r#""links":[],"monitors":[],"uptime":3601.0,"supervised":{"supervisor":"shop:main","id":"orders","restart":"permanent","#,
    r#""state":"running","restarts":1,"last_exit":{"reason":"failed","message":"it failed: orders.lua:3: boom","ago":3601.0}}},"#,
    r#"{"pid":"{local@shop:workers|0x00003}","names":[],"entry":"shop:ticker","host":"shop:workers","#,
    r#""engine":"wasm","state":"receiving","mailbox":0,"frame":[],"parent":"{local@shop:workers|0x00001}","links":[],"monitors":[],"#,
    r#""uptime":59.0},{"pid":"{local@shop:workers|0x0001f}","names":[],"entry":"shop:invoice","host":"shop:workers","#,
    r#""engine":"lua","state":"receiving","mailbox":0,"frame":[],"parent":"{local@shop:workers|0x00002}","links":[],"monitors":[],"#,
    r#""uptime":3.0}]}}"#,
    "\n"
);

/// What `frame ps` prints of an answer, where it has this many columns.
fn printed(answer: &'static str, columns: &str, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let run = answering(&socket, answer);
    let mut command = command(&[&["ps", "--socket", socket.to_str().unwrap()], arguments].concat());
    let output = command.env("COLUMNS", columns).output().unwrap();
    run.join().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    let columns: usize = columns.parse().unwrap();
    assert!(shown.lines().all(|line| line.chars().count() <= columns), "{shown}");
    shown
}

#[test]
fn processes_fit_80_columns() {
    insta::assert_snapshot!(printed(FAMILY, "80", &[]));
}

#[test]
fn a_tree_shows_processes_below_their_parents() {
    insta::assert_snapshot!(printed(FAMILY, "80", &["--tree"]));
}

#[test]
fn a_wide_table_has_whole_pids_engines_parents_and_frames() {
    insta::assert_snapshot!(printed(FAMILY, "160", &["--wide"]));
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
    assert_eq!(running["quarantined"][0]["id"], json!("app:bad"));
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

/// What is killed when it is dropped, if it runs still.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Run {
    /// `frame run`, once it is asked in vain no more.
    fn start(app: &App, session: &TempDir, rest: &[&str], ask: &[&str]) -> Self {
        let mut run = command(&[&["run", &app.manifest][..], rest].concat());
        run.env("XDG_RUNTIME_DIR", session.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut run = Self(run.spawn().unwrap());
        let begun = Instant::now();
        while !ps(session, ask).status.success() {
            assert_eq!(run.0.try_wait().unwrap(), None, "it has ended");
            assert!(begun.elapsed() < Duration::from_mins(1), "it is not there in time");
        }
        run
    }

    fn end(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        self.0.wait().unwrap()
    }
}

/// An app with one process, which waits.
fn waiting() -> App {
    let app = App::of_scripts(&[("echo", "return ...")]);
    app.write("wait.lua", "repeat local message = process.receive() until message.kind == 'cancelled'");
    let manifest = fs::read_to_string(&app.manifest).unwrap();
    let rest = r#"
        [hosts."app:workers"]
        [processes."app:wait"]
        engine = "lua"
        source = "wait.lua"
        [supervisors."app:main"]
        host = "app:workers"
        [[supervisors."app:main".children]]
        id = "waiter"
        process = "app:wait"
        name = "waiter"
    "#;
    app.write("app.toml", manifest + rest);
    app
}

#[test]
fn a_run_is_found_by_its_manifest_and_tells_what_it_runs() {
    let (app, session) = (waiting(), tempfile::tempdir().unwrap());
    let run = Run::start(&app, &session, &[], &[&app.manifest]);
    // By whatever way one comes to the manifest.
    let link = format!("{}.link", app.manifest);
    symlink(&app.manifest, &link).unwrap();
    let waiter = |running: &Value| {
        let processes = running["processes"].as_array().unwrap();
        processes.iter().find(|process| process["entry"] == "app:wait").cloned()
    };
    let begun = Instant::now();
    let (running, waiter) = loop {
        let running: Value =
            serde_json::from_slice(&ps(&session, &[&link, "--format", "json"]).stdout).unwrap();
        match waiter(&running) {
            Some(waiter) if waiter["state"] == "receiving" => break (running, waiter),
            _ => assert!(begun.elapsed() < Duration::from_mins(1), "{running}"),
        }
    };
    assert_eq!((&running["app"], &running["pid"]), (&json!("tried"), &json!(run.0.id())));
    assert_eq!((&waiter["names"], &waiter["host"]), (&json!(["waiter"]), &json!("app:workers")));
    let table = String::from_utf8(ps(&session, &[&app.manifest]).stdout).unwrap();
    assert!(table.contains("tried (") && table.contains("waiter") && table.contains("app:main"), "{table}");

    assert_eq!(run.end(Signal::TERM).code(), Some(0));
    assert_eq!(ps(&session, &[&app.manifest]).status.code(), Some(8));
    assert_eq!(fs::read_dir(session.path().join("frame")).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_manifest_is_run_once_and_again_when_its_run_was_killed() {
    let (app, session) = (waiting(), tempfile::tempdir().unwrap());
    let run = Run::start(&app, &session, &[], &[&app.manifest]);
    let mut second = command(&["run", &app.manifest]);
    let second = second.env("XDG_RUNTIME_DIR", session.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(8));
    let said = stderr(&second);
    assert!(said.contains(&format!("already running as process {};", run.0.id())), "{said}");
    assert!(ps(&session, &[&app.manifest]).status.success(), "the first goes on");

    assert_eq!(run.end(Signal::KILL).code(), None);
    assert_eq!(ps(&session, &[&app.manifest]).status.code(), Some(8));
    drop(Run::start(&app, &session, &[], &[&app.manifest]));
}

#[test]
fn a_run_can_have_its_socket_elsewhere() {
    let (app, session) = (waiting(), tempfile::tempdir().unwrap());
    let socket = session.path().join("control.sock").display().to_string();
    let run = Run::start(&app, &session, &["--control", &socket], &["--socket", &socket]);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(run.end(Signal::INT).code(), Some(0));
    assert!(!Path::new(&socket).exists());

    let taken = app.write("notes.txt", "mine");
    let refused = frame(&["run", &app.manifest, "--control", &taken]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("something else than a socket"), "{}", stderr(&refused));
    assert_eq!(fs::read(&taken).unwrap(), b"mine");
}

#[test]
fn an_app_whose_socket_cannot_be_where_it_should_is_found_elsewhere_and_still_run_once() {
    let (app, session) = (waiting(), tempfile::tempdir().unwrap());
    symlink("/tmp", session.path().join("frame")).unwrap();
    let long = tempfile::tempdir().unwrap();
    let long_path = long.path().join("d".repeat(90));
    fs::create_dir(&long_path).unwrap();
    for runtime_directory in [session.path(), &long_path] {
        let mut run = command(&["run", &app.manifest]);
        run.env("XDG_RUNTIME_DIR", runtime_directory).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut run = Run(run.spawn().unwrap());
        let mut said = BufReader::new(run.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.contains("`frame ps` is answered at ")), "{runtime_directory:?}");
        assert!(said.any(|line| line.contains("ready")));
        // Whatever else it says has to go somewhere.
        let rest = thread::spawn(move || said.count());
        for environment in [runtime_directory, session.path()] {
            let mut asked = command(&["ps", &app.manifest]);
            let asked = asked.env("XDG_RUNTIME_DIR", environment).output().unwrap();
            assert!(asked.status.success(), "{}", stderr(&asked));
        }
        let second = command(&["run", &app.manifest]).env("XDG_RUNTIME_DIR", "/nowhere").output().unwrap();
        assert_eq!(second.status.code(), Some(8), "{}", stderr(&second));
        assert!(stderr(&second).contains(&format!("already running as process {}", run.0.id())));
        assert_eq!(run.end(Signal::TERM).code(), Some(0));
        rest.join().unwrap();
    }
}

#[test]
fn a_socket_that_a_cleaner_removed_is_made_again_with_a_reload() {
    let (app, session) = (waiting(), tempfile::tempdir().unwrap());
    let run = Run::start(&app, &session, &[], &[&app.manifest]);
    fs::remove_dir_all(session.path().join("frame")).unwrap();
    assert_eq!(ps(&session, &[&app.manifest]).status.code(), Some(8));
    let mut second = command(&["run", &app.manifest]);
    let second = second.env("XDG_RUNTIME_DIR", session.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(8), "the manifest is locked: {}", stderr(&second));

    kill_process(Pid::from_child(&run.0), Signal::HUP).unwrap();
    let begun = Instant::now();
    while !ps(&session, &[&app.manifest]).status.success() {
        assert!(begun.elapsed() < Duration::from_mins(1), "it is not there in time");
    }
    assert_eq!(run.end(Signal::TERM).code(), Some(0));
    assert_eq!(fs::read_dir(session.path().join("frame")).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_manifest_that_an_editor_replaced_is_locked_with_the_reload() {
    let (app, session) = (waiting(), tempfile::tempdir().unwrap());
    let run = Run::start(&app, &session, &[], &[&app.manifest]);
    let new = app.write("new.toml", fs::read(&app.manifest).unwrap());
    fs::rename(new, &app.manifest).unwrap();
    kill_process(Pid::from_child(&run.0), Signal::HUP).unwrap();
    let manifest = fs::File::open(&app.manifest).unwrap();
    let begun = Instant::now();
    while manifest.try_lock_shared().is_ok() {
        manifest.unlock().unwrap();
        assert!(begun.elapsed() < Duration::from_mins(1), "it is not locked in time");
        thread::yield_now();
    }
    assert_eq!(run.end(Signal::TERM).code(), Some(0));
    manifest.try_lock_shared().unwrap();
}

#[test]
fn a_second_signal_leaves_no_socket() {
    let app = waiting();
    app.write("wait.lua", "while true do process.receive() end");
    let session = tempfile::tempdir().unwrap();
    let run = Run::start(&app, &session, &["--grace", "1h"], &[&app.manifest]);
    let pid = Pid::from_child(&run.0);
    kill_process(pid, Signal::TERM).unwrap();
    let begun = Instant::now();
    // Both may be pending at once, and are one then.
    let mut run = run;
    let status = loop {
        if let Some(status) = run.0.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "it goes on");
        thread::sleep(Duration::from_millis(1));
        let _ = kill_process(pid, Signal::TERM);
    };
    assert_eq!(status.code(), Some(143));
    assert_eq!(fs::read_dir(session.path().join("frame")).unwrap().count(), 0, "nothing is left");
}
