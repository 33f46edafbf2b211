//! The audit log of an app, and `frame audit`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::run::{App, HOST, PATIENCE, Run, child, process, supervisor};
use super::{command, frame, frame_given, stderr};

/// A server that answers each request, and closes. Counts the requests.
fn server() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, requests) = (listener.local_addr().unwrap().port(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if stream.read(&mut [0; 4096]).unwrap_or(0) > 0 {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    (port, requests)
}

const CLEARNET: &str = "[clearnet]\nallow = [\"127.0.0.1\"]\n";

fn function(name: &str) -> String {
    format!("[functions.\"app:{name}\"]\nengine = \"lua\"\nsource = \"{name}.lua\"\n")
}

/// A process that asks a server again and again, and says what came of it.
fn asker(port: u16) -> String {
    format!(
        "repeat
           local ok, answer = pcall(http.get, 'http://127.0.0.1:{port}/')
           log.info(ok and 'answered' or 'refused: ' .. tostring(answer))
           local message = process.receive(0.005)
         until message and message.kind == 'cancelled'"
    )
}

/// An app whose process asks a server all the time.
fn asking(audit: &str, port: u16) -> App {
    let manifest = ["[app]\nname = \"tried\"\n", CLEARNET, audit, HOST, &process("asker"), &supervisor("")];
    let manifest = [manifest.concat(), child("asker", "")].concat();
    App::new(&manifest, &[("asker.lua", &asker(port))])
}

/// What a log says, without the lines that are no records.
fn records(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn call(app: &App, id: &str, payload: &str) -> std::process::Output {
    frame(&["call", app.path().join("app.toml").to_str().unwrap(), id, payload])
}

fn summary(log: &Path, arguments: &[&str]) -> Value {
    let output = frame(&[&["audit", log.to_str().unwrap(), "--format", "json"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_a_unit_connects_to_is_in_the_log_with_its_callers() {
    let (port, _) = server();
    for required in ["", "required = true\nsync = true\n"] {
        let audit = format!("[audit]\nfile = \"audit.log\"\n{required}");
        let manifest =
            ["[app]\nname = \"tried\"\n", CLEARNET, &audit, &function("outer"), &function("fetch")];
        let sources = [
            ("outer.lua", "local url = ... return call('app:fetch', url)"),
            ("fetch.lua", "local url = ... return http.get(url .. '?token=hidden').body"),
        ];
        let app = App::new(&manifest.concat(), &sources);
        let url = format!("\"http://127.0.0.1:{port}/path\"");
        let output = call(&app, "app:outer", &url);
        assert!(output.status.success(), "{}", stderr(&output));

        let log = app.path().join("audit.log");
        let records = records(&log);
        let events: Vec<_> = records.iter().map(|record| record["event"].as_str().unwrap()).collect();
        let expected: &[_] = if required.is_empty() { &["attempt"] } else { &["open", "close"] };
        assert_eq!(events, [&["start"], expected, &["stop"]].concat());
        assert_eq!((&records[0]["alone"], &records[0]["id"]), (&true.into(), &records.last().unwrap()["id"]));
        let end = &records[records.len() - 2];
        assert_eq!(end["unit"], "function app:fetch");
        assert_eq!(end["callers"], serde_json::json!(["function app:outer"]));
        assert_eq!((&end["host"], end["port"].as_u64()), (&"127.0.0.1".into(), Some(u64::from(port))));
        assert_eq!((&end["verdict"], &end["end"]), (&"allowed".into(), &"closed".into()));
        assert!(!fs::read_to_string(&log).unwrap().contains("hidden"), "the query is not recorded");

        let summary = summary(&log, &[]);
        assert_eq!((&summary["total"]["attempts"], &summary["total"]["unfinished"]), (&1.into(), &0.into()));
        let place = &summary["destinations"][0];
        assert_eq!(place["destination"], format!("127.0.0.1:{port}"));
        assert!(place["sent"].as_u64() > Some(50) && place["received"].as_u64() > Some(50), "{place}");
    }
}

#[test]
fn a_flood_of_refused_attempts_is_a_few_records_and_leaves_room_for_others() {
    let (port, _) = server();
    let audit = "[audit]\nfile = \"audit.log\"\n";
    let flood = format!(
        "for i = 1, 3000 do pcall(http.get, 'http://10.0.' .. i % 100 .. '.1/') end
         return http.get('http://127.0.0.1:{port}/').body"
    );
    let manifest = ["[app]\nname = \"tried\"\n", CLEARNET, audit, &function("flood")].concat();
    let app = App::new(&manifest, &[("flood.lua", &flood)]);
    let output = call(&app, "app:flood", "null");
    assert!(output.status.success(), "{}", stderr(&output));
    let log = app.path().join("audit.log");
    let summary = summary(&log, &[]);
    assert_eq!((&summary["total"]["attempts"], &summary["total"]["refused"]), (&3001.into(), &3000.into()));
    assert_eq!(summary["lost"], 0);
    let lines = fs::read_to_string(&log).unwrap().lines().count();
    assert!(lines < 3000 / 10, "{lines} lines");
}

#[test]
fn a_unit_that_connects_too_often_is_refused_where_records_are_required_and_others_go_on() {
    let (port, requests) = server();
    let audit = "[audit]\nfile = \"audit.log\"\nrequired = true\nattempts_per_second = 5\n";
    let flood = format!(
        "local refused
         for i = 1, 300 do
           local ok, error = pcall(http.get, 'http://127.0.0.1:{port}/')
           if not ok then refused = error end
         end
         assert(refused.kind == 'exhausted' and refused.retryable)
         return {{ refused.message, call('app:other') }}"
    );
    let other = format!("return http.get('http://127.0.0.1:{port}/').body");
    let manifest = ["[app]\nname = \"tried\"\n", CLEARNET, audit, &function("flood"), &function("other")];
    let app = App::new(&manifest.concat(), &[("flood.lua", &flood), ("other.lua", &other)]);
    let output = call(&app, "app:flood", "null");
    assert!(output.status.success(), "{}", stderr(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer[1], "ok");
    let said = answer[0].as_str().unwrap();
    assert!(said.contains("it cannot be recorded in the audit log at the moment"), "{said}");

    let log = app.path().join("audit.log");
    let summary = summary(&log, &["--unit", "app:flood"]);
    let sent = requests.load(Ordering::SeqCst) as u64 - 1;
    assert_eq!(
        (&summary["total"]["attempts"], &summary["total"]["refused"]),
        (&300.into(), &(300 - sent).into())
    );
    assert_eq!(summary["refusals"][0]["rule"], "audit: more than 5 attempts in a second");
    let lines = fs::read_to_string(&log).unwrap().lines().count() as u64;
    assert!(lines < 2 * sent + 50, "{lines} lines for {sent} requests");
}

#[test]
fn what_a_unit_connects_to_too_often_is_counted_together_where_records_are_not_required() {
    let (port, _) = server();
    let audit = "[audit]\nfile = \"audit.log\"\nattempts_per_second = 5\n";
    let flood = format!("for i = 1, 300 do http.get('http://127.0.0.1:{port}/') end");
    let manifest = ["[app]\nname = \"tried\"\n", CLEARNET, audit, &function("flood")].concat();
    let app = App::new(&manifest, &[("flood.lua", &flood)]);
    let output = call(&app, "app:flood", "null");
    assert!(output.status.success(), "{}", stderr(&output));
    let log = app.path().join("audit.log");
    let records = records(&log);
    let merged = records.iter().find(|record| record["count"].as_u64() > Some(1)).expect("a counted record");
    assert_eq!((&merged["verdict"], &merged["route"]), (&"allowed".into(), &serde_json::json!(["clearnet"])));
    let none = ["id", "end", "duration_ms", "peer"].map(|field| merged.get(field));
    assert_eq!(none, [None; 4]);
    let bytes = |field: &str| merged[field].as_u64().unwrap() / merged["count"].as_u64().unwrap();
    assert!(bytes("sent") > 50 && bytes("received") > 50, "the bytes are those of all: {merged}");
    assert_eq!(summary(&log, &[])["total"]["attempts"], 300);
    assert!(records.len() < 100, "{} records", records.len());
}

#[test]
fn a_file_that_cannot_be_the_log_is_an_error_before_anything_runs() {
    let (port, requests) = server();
    let refused = |file: &str, set_up: &dyn Fn(&Path), expected: &str| {
        let app = asking(&format!("[audit]\nfile = \"{file}\"\n"), port);
        set_up(app.path());
        for command in ["check", "run"] {
            let output = frame(&[command, app.path().join("app.toml").to_str().unwrap()]);
            let said = stderr(&output);
            assert!(output.status.code() == Some(2) && said.contains(expected), "{command} {file}: {said}");
        }
    };
    refused("missing/audit.log", &|_| (), "there is no directory");
    refused(".", &|_| (), "it is not a regular file");
    let link = |path: &Path| std::os::unix::fs::symlink("elsewhere", path.join("link")).unwrap();
    refused("link", &link, "it is a symbolic link; name the file itself");
    refused("/dev/full", &|_| (), "it is not a regular file");
    if !rustix::process::geteuid().is_root() {
        let close = |path: &Path| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::create_dir(path.join("closed")).unwrap();
            fs::set_permissions(path.join("closed"), fs::Permissions::from_mode(0o555)).unwrap();
        };
        let app = asking("[audit]\nfile = \"closed/audit.log\"\n", port);
        close(app.path());
        let output = frame(&["run", app.path().join("app.toml").to_str().unwrap()]);
        let said = stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains("Permission denied"), "{said}");
    }
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

#[test]
fn a_summary_says_that_nothing_was_attempted() {
    let app = App::new("", &[]);
    let log = app.path().join("audit.log");
    let start = "{\"v\":1,\"time\":\"2026-11-30T21:00:00.000Z\",\"event\":\"start\",\"id\":\"a\"}\n";
    fs::write(&log, start).unwrap();
    let output = frame(&["audit", log.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("\nno attempts\n"), "{said}");
}

#[test]
fn a_log_where_scripts_have_files_is_refused() {
    let app = App::new("[fs]\nbase = \"data\"\n[audit]\nfile = \"data/log/audit.log\"\n", &[]);
    fs::create_dir_all(app.path().join("data/log")).unwrap();
    let output = frame(&["check", app.path().join("app.toml").to_str().unwrap()]);
    let said = stderr(&output);
    assert!(said.contains("below the base directory of `[fs]`"), "{said}");
    assert!(!app.path().join("data/log/audit.log").exists(), "a check makes no file");
}

#[test]
fn a_full_disk_refuses_what_would_leave_until_there_is_room() {
    let (port, requests) = server();
    let app = asking("[audit]\nfile = \"disk/audit.log\"\nrequired = true\n", port);
    fs::create_dir(app.path().join("disk")).unwrap();
    // A disk of its own, which is seen from here by way of the process.
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-euc"]);
    command.arg("mount -t tmpfs -o size=64k tmpfs \"$1\"; shift; exec \"$@\"").arg("sh");
    command.arg(app.path().join("disk")).arg(env!("CARGO_BIN_EXE_frame")).arg("run");
    command.arg(app.path().join("app.toml")).env("NO_COLOR", "1");
    let can_unshare = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).output();
    if !can_unshare.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "this test needs user namespaces");
        return;
    }
    let mut run = Run::spawn(&mut command);
    run.wait_for("answered");
    let disk = Path::new("/proc").join(run.child.id().to_string()).join("root");
    let disk = disk.join(app.path().join("disk").strip_prefix("/").unwrap());
    let filler = disk.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
    run.wait_for("the audit log cannot be written: No space left on device");
    run.wait_for("it cannot be recorded in the audit log at the moment");
    // Those that were on their way by then have arrived.
    run.wait_for_times("refused: ", 10);
    let before = requests.load(Ordering::SeqCst);
    let refused = run.times("refused: ");
    run.wait_for_times("refused: ", refused + 20);
    assert_eq!(requests.load(Ordering::SeqCst), before, "nothing leaves while the disk is full");
    drop(file);
    fs::remove_file(&filler).unwrap();
    run.wait_for("the audit log is written again");
    run.wait_for("answered");
    run.signal(Signal::TERM);
    // A line that did not fit is not a record, and what was refused is counted.
    let log = fs::read_to_string(disk.join("audit.log")).unwrap_or_default();
    let whole: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(whole.iter().any(|record| record["event"] == "lost"), "{log}");
    assert!(log.lines().count() - whole.len() <= 2, "{log}");
    run.end();
}

#[test]
fn records_that_do_not_fit_are_counted_where_they_are_not_required() {
    let (port, _) = server();
    let app = asking("[audit]\nfile = \"audit.log\"\n", port);
    let log = app.path().join("audit.log");
    // A file may have so many blocks, and no signal says that it has.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 128; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_frame"),
        "run",
    ]);
    command.arg(app.path().join("app.toml")).env("NO_COLOR", "1").env("XDG_CACHE_HOME", "/dev/null");
    let mut run = Run::spawn(&mut command);
    run.wait_for("the audit log cannot be written: File too large");
    let answered = run.times("answered");
    run.wait_for_times("answered", answered + 20);
    fs::rename(&log, app.path().join("audit.log.1")).unwrap();
    run.wait_for("the audit log is written again");
    run.stop();
    let summary = summary(&log, &[]);
    assert!(summary["lost"].as_u64() > Some(0), "{summary}");
}

#[test]
fn a_log_that_is_rotated_is_opened_anew_at_sighup_and_by_the_next_record() {
    let app = App::new("[app]\nname = \"tried\"\n[audit]\nfile = \"audit.log\"\n", &[]);
    let (log, rotated) = (app.path().join("audit.log"), app.path().join("audit.log.1"));
    let mut run = app.run(&[]);
    run.wait_for("ready");
    fs::rename(&log, &rotated).unwrap();
    run.signal(Signal::HUP);
    wait_until("there is a new file", || log.exists());
    assert_eq!(records(&rotated)[0]["event"], "start");
    run.stop();

    let (port, _) = server();
    let app = asking("[audit]\nfile = \"audit.log\"\nrequired = true\n", port);
    let (log, rotated) = (app.path().join("audit.log"), app.path().join("audit.log.1"));
    let mut run = app.run(&[]);
    run.wait_for_times("answered", 5);
    fs::rename(&log, &rotated).unwrap();
    let before = run.times("answered");
    run.wait_for_times("answered", before + 5);
    run.stop();
    let (old, new) = (records(&rotated), records(&log));
    let opened = [&old[..], &new[..]].concat().iter().filter(|record| record["event"] == "open").count();
    assert!(!new.is_empty() && opened >= before + 5, "{} and {}", old.len(), new.len());
}

#[test]
fn a_reader_that_holds_the_file_holds_up_nothing() {
    let (port, _) = server();
    let app = asking("[audit]\nfile = \"audit.log\"\nrequired = true\n", port);
    let mut run = app.run(&[]);
    run.wait_for("answered");
    let held = File::open(app.path().join("audit.log")).unwrap();
    held.lock().unwrap();
    let before = run.times("answered");
    run.wait_for_times("answered", before + 20);
    run.stop();
}

#[test]
fn what_arrived_before_the_program_was_killed_is_in_the_log_and_the_next_run_begins_a_line() {
    let (port, requests) = server();
    let app = asking("[audit]\nfile = \"audit.log\"\nrequired = true\n", port);
    let log = app.path().join("audit.log");
    for round in 0..12 {
        let mut run = app.run(&[]);
        run.wait_for_times("answered", 1 + round % 4);
        run.signal(Signal::KILL);
        run.end();
        let text = fs::read_to_string(&log).unwrap();
        let opened = records(&log).iter().filter(|record| record["event"] == "open").count();
        assert!(requests.load(Ordering::SeqCst) <= opened, "round {round}: {text}");
        // As if it had been killed in the middle of a line.
        let mut file = OpenOptions::new().append(true).open(&log).unwrap();
        file.write_all(b"{\"v\":1,\"event\":\"op").unwrap();
    }
    let summary = summary(&log, &[]);
    assert_eq!((&summary["starts"], &summary["skipped_lines"]), (&12.into(), &12.into()));
    assert!(summary["total"]["attempts"].as_u64() >= Some(requests.load(Ordering::SeqCst) as u64));
}

#[test]
fn what_is_open_when_a_run_is_killed_has_an_unknown_end_once_another_run_has_started() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let audit = "[audit]\nfile = \"audit.log\"\nrequired = true\n";
    let holder =
        format!("local held = net.connect('127.0.0.1', {port})\nlog.info('held')\nprocess.receive()");
    let idle = function("idle");
    let manifest =
        ["[app]\nname = \"tried\"\n", CLEARNET, audit, HOST, &idle, &process("asker"), &supervisor("")];
    let manifest = [manifest.concat(), child("asker", "")].concat();
    let app = App::new(&manifest, &[("asker.lua", &holder), ("idle.lua", "return 1")]);
    let log = app.path().join("audit.log");
    let counted = || {
        let total = summary(&log, &[])["total"].clone();
        ["attempts", "unfinished", "unknown"].map(|field| total[field].as_u64().unwrap())
    };
    let mut run = app.run(&[]);
    run.wait_for("held");
    assert_eq!(counted(), [1, 1, 0]);
    // A call is a run beside it.
    let output = call(&app, "app:idle", "null");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(counted(), [1, 1, 0]);
    run.signal(Signal::KILL);
    run.end();
    assert_eq!(counted(), [1, 1, 0]);
    let output = call(&app, "app:idle", "null");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(counted(), [1, 0, 1]);
    // Also where only one unit is asked for.
    let of_unit = summary(&log, &["--unit", "app:asker"]);
    assert_eq!(of_unit["destinations"][0]["unknown"], 1);
    let output = frame(&["audit", log.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("1 attempt was open when its run ended"), "{said}");

    // One that is stopped ends what it has open, and says that it has stopped.
    let mut run = app.run(&[]);
    run.wait_for("held");
    run.stop();
    assert_eq!(counted(), [2, 0, 1]);
    let records = records(&log);
    assert_eq!(records.last().unwrap()["event"], "stop");
    let starts = records.iter().filter(|record| record["event"] == "start");
    let alone: Vec<_> = starts.map(|record| record["alone"].as_bool().unwrap()).collect();
    assert_eq!(alone, [true, false, true, true]);
}

#[test]
fn the_section_cannot_change_while_the_app_runs() {
    let app = App::new("[app]\nname = \"tried\"\n[audit]\nfile = \"audit.log\"\n", &[]);
    let mut run = app.run(&[]);
    run.wait_for("ready");
    app.write("app.toml", "[app]\nname = \"tried\"\n");
    run.signal(Signal::HUP);
    run.wait_for("`[audit]` cannot change while the app runs");
    run.stop();
}

/// A log with a record of each kind, and with lines that are not records.
const LOG: &str = concat!(
    r#"{"v":1,"time":"2026-01-01T10:00:00.000Z","event":"start","id":"a","app":"tried","pid":1}"#,
    "\n",
    r#"{"v":1,"time":"2026-01-01T10:00:01.000Z","event":"open","id":"a-1","kind":"http","unit":"function app:a","route":["app:tor"],"host":"shop.example","port":443}"#,
    "\n",
    r#"{"v":1,"time":"2026-01-01T10:00:02.000Z","event":"close","id":"a-1","kind":"http","unit":"function app:a","route":["app:tor"],"host":"shop.example","port":443,"verdict":"allowed","end":"closed","sent":100,"received":2048,"duration_ms":1000.5,"new_field":{"x":1}}"#,
    "\n",
    r#"{"v":1,"time":"2026-01-01T11:00:00.000Z","event":"attempt","id":"a-2","kind":"connect","unit":"process app:b","route":["clearnet"],"host":"2001:db8::1","port":25,"verdict":"refused","rule":"default: deny","end":"refused","sent":0,"received":0,"count":7}"#,
    "\n",
    "{\"v\":1,\"time\":\"2026-01-01T11:00:01.000Z\",\"event\":\"attempt\",\"kind\":\"lookup\",\"unit\":\"function app:\\u001b[2J\",\"host\":\"a\\nb\\u202e\",\"verdict\":\"allowed\",\"sent\":1,\"received\":1}\n",
    r#"{"v":1,"time":"2026-01-01T11:00:02.000Z","event":"lost","unit":"function app:a","count":3}"#,
    "\n",
    r#"{"v":2,"time":5,"event":{"other":true}}"#,
    "\n[1]\n\nnothing\n{\"v\":1,\"ti",
);

#[test]
fn a_log_is_summarised_by_unit_and_destination() {
    let output = frame_given(&["audit", "-", "--format", "json"], LOG.as_bytes());
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["total"]["attempts"], &summary["total"]["refused"]), (&9.into(), &7.into()));
    assert_eq!((&summary["lost"], &summary["newer_records"]), (&3.into(), &1.into()));
    assert_eq!(summary["skipped_lines"], 3);
    assert_eq!(summary["refusals"][0]["rule"], "default: deny");

    let output = frame_given(&["audit", "-"], LOG.as_bytes());
    let table = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "shop.example:443 via app:tor",
        "[2001:db8::1]:25",
        "2.0 KiB",
        "default: deny",
        "3 lines were skipped",
    ] {
        assert!(table.contains(expected), "{expected}:\n{table}");
    }
    assert!(!table.contains('\u{1b}') && !table.contains('\u{202e}'), "{table:?}");

    for (arguments, attempts) in [
        (&["--unit", "app:a"][..], 1),
        (&["--unit", "process app:b"], 7),
        (&["--refused"], 7),
        (&["--since", "2026-01-01T11:00:00Z"], 8),
        (&["--since", "1h"], 0),
        (&["--unit", "app:none"], 0),
    ] {
        let all = [&["audit", "-", "--format", "json"][..], arguments].concat();
        let output = frame_given(&all, LOG.as_bytes());
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["total"]["attempts"], attempts, "{arguments:?}");
    }
}

#[test]
fn a_log_that_is_hostile_or_missing_is_an_error_or_a_summary() {
    let mut hostile = vec![b'x'; 1 << 20];
    for number in 0..20_000 {
        let unit = format!(
            "\n{{\"v\":1,\"time\":\"\",\"event\":\"attempt\",\"unit\":\"u {number}\",\"count\":18446744073709551615}}"
        );
        hostile.extend(unit.into_bytes());
    }
    let output = frame_given(&["audit", "-", "--format", "json"], &hostile);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["skipped_lines"], 1);
    assert_eq!(summary["destinations"].as_array().unwrap().len(), 10_000);
    let output = frame(&["audit", "/nowhere/audit.log"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("cannot be read"));
    let output = frame(&["audit", "-", "--since", "yesterday"]);
    assert!(stderr(&output).contains("write a time such as 2026-01-31T12:00:00Z"), "{}", stderr(&output));
}

#[test]
fn a_log_is_followed_over_a_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let (log, rotated) = (directory.path().join("audit.log"), directory.path().join("audit.log.1"));
    fs::write(&log, LOG.strip_suffix("{\"v\":1,\"ti").unwrap()).unwrap();
    let mut following = command(&["audit", "--follow", log.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().ends_with("tried started"));
    assert!(next().contains("function app:a  http shop.example:443 via app:tor  begun"));
    assert!(next().contains("closed  100 B sent, 2.0 KiB received, 1000.5 ms"));
    assert!(next().contains("process app:b  connect [2001:db8::1]:25  refused by default: deny  7 times"));
    assert!(next().contains("\\u{1b}[2J"));
    assert!(next().contains("3 records are missing"));
    let record = |host: &str| {
        format!("{{\"v\":1,\"time\":\"\",\"event\":\"attempt\",\"kind\":\"lookup\",\"host\":\"{host}\"}}\n")
    };
    OpenOptions::new().append(true).open(&log).unwrap().write_all(record("last.example").as_bytes()).unwrap();
    fs::rename(&log, &rotated).unwrap();
    fs::write(&log, record("first.example")).unwrap();
    assert!(next().contains("lookup last.example"));
    assert!(next().contains("lookup first.example"));
    following.kill().unwrap();
    following.wait().unwrap();
}
