//! Standard streams that are closed, full or dead.

use std::fs::OpenOptions;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};

use rustix::io::ioctl_fionbio;
use rustix::process::Signal;

use super::{Notified, Surroundings};

/// A pipe without room for a byte more.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("a pipe");
    ioctl_fionbio(&writer, true).expect("it is a pipe");
    let filled = loop {
        if let Err(error) = writer.write(&[b'\n'; 1]) {
            break error;
        }
    };
    assert_eq!(filled.kind(), ErrorKind::WouldBlock);
    (reader, writer)
}

#[test]
fn closed_streams() {
    let surroundings = Surroundings::new();
    for closed in ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"] {
        let shell = format!("exec \"$@\" {closed}");
        let mut command = surroundings.run_command(&["sh", "-c", &shell, "sh"], &[]);
        Notified::spawn(&surroundings, &mut command).live(&surroundings, closed);
    }
}

#[test]
fn a_dead_pipe() {
    let surroundings = Surroundings::new();
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let mut command = surroundings.run_command(&[], &[]);
    command.stderr(writer.try_clone().expect("a descriptor")).stdout(writer);
    Notified::spawn(&surroundings, &mut command).live(&surroundings, "a dead pipe");
}

#[test]
fn a_full_disk_for_the_log() {
    let surroundings = Surroundings::new();
    let mut command = surroundings.run_command(&[], &[]);
    command.stderr(OpenOptions::new().write(true).open("/dev/full").expect("it is there"));
    Notified::spawn(&surroundings, &mut command).live(&surroundings, "/dev/full");
}

#[test]
fn a_standard_error_that_is_not_read_holds_up_neither_reloads_nor_stops() {
    let surroundings = Surroundings::new();
    for (is_nonblocking, format) in [(false, "pretty"), (true, "json")] {
        let (_reader, writer) = full();
        ioctl_fionbio(&writer, is_nonblocking).expect("it is a pipe");
        let mut command = surroundings.run_command(&[], &["--log", format]);
        command.stderr(writer);
        Notified::spawn(&surroundings, &mut command).live(&surroundings, "a full pipe");
    }
}

#[test]
fn a_wrong_manifest_is_refused_although_standard_error_is_not_read() {
    let surroundings = Surroundings::new();
    let (_reader, writer) = full();
    ioctl_fionbio(&writer, false).expect("it is a pipe");
    let mut command = surroundings.run_command(&[], &[]);
    command.stderr(writer);
    let mut run = Notified::spawn(&surroundings, &mut command);
    run.wait_for("READY=1");
    surroundings.app.write("app.toml", "[functions");
    run.signal(Signal::HUP);
    run.wait_for("RELOADING=1");
    run.wait_for("READY=1");
    run.signal(Signal::TERM);
    assert_eq!(run.end().code(), Some(0));

    let (_reader, writer) = full();
    ioctl_fionbio(&writer, false).expect("it is a pipe");
    let mut command = surroundings.run_command(&[], &[]);
    command.stderr(writer);
    assert_eq!(Notified::spawn(&surroundings, &mut command).end().code(), Some(2));
}

#[test]
fn a_second_signal_ends_it_although_standard_error_is_not_read() {
    let surroundings = Surroundings::new();
    surroundings.app.write("worker.lua", "while true do process.receive() end");
    let (_reader, writer) = full();
    ioctl_fionbio(&writer, false).expect("it is a pipe");
    let mut command = surroundings.run_command(&[], &["--grace", "1h"]);
    command.stderr(writer);
    let mut run = Notified::spawn(&surroundings, &mut command);
    run.wait_for("READY=1");
    run.signal(Signal::TERM);
    run.wait_for("STOPPING=1");
    run.signal(Signal::INT);
    assert_eq!(run.end().code(), Some(130));
    surroundings.assert_nothing_left("a full pipe");
}

#[test]
fn a_call_ends_in_time_although_standard_error_is_not_read() {
    let surroundings = Surroundings::new();
    surroundings.app.write("echo.lua", "log.info('on and on') while true do pcall(error) end");
    let (_reader, writer) = full();
    ioctl_fionbio(&writer, false).expect("it is a pipe");
    let manifest = surroundings.manifest();
    let arguments = ["call", manifest.to_str().expect("text"), "app:echo", "--timeout", "100ms"];
    let mut command = surroundings.command(&[], &arguments);
    command.stderr(writer);
    assert_eq!(Notified::spawn(&surroundings, &mut command).end().code(), Some(7));
}

#[test]
fn lines_that_were_dropped_are_counted_once_standard_error_is_read() {
    let surroundings = Surroundings::new();
    // Each logs as much as it may, which all together is more than the program keeps.
    let manifest: String = (0..3).map(|number| super::run::child(&format!("child{number}"), "")).collect();
    let manifest = manifest.replace("app:child0", "app:worker").replace("app:child1", "app:worker");
    let manifest = manifest.replace("app:child2", "app:worker");
    let functions = "[functions.\"app:echo\"]\nengine = \"lua\"\nsource = \"echo.lua\"\n";
    surroundings.app.write("app.toml", &format!("{}{manifest}{functions}", super::one_worker()));
    surroundings.app.write(
        "worker.lua",
        "for _ = 1, 150 do log.info(('x'):rep(7000)) end call('app:echo')
         repeat local message = process.receive() until message.kind == 'cancelled'",
    );
    let (mut reader, writer) = full();
    ioctl_fionbio(&writer, false).expect("it is a pipe");
    let mut command = surroundings.run_command(&[], &[]);
    command.stderr(writer);
    let mut run = Notified::spawn(&surroundings, &mut command);
    // The parent's copy of the writing end would keep the reader waiting.
    drop(command);
    run.wait_for("READY=1");
    run.signal(Signal::HUP);
    run.wait_for("RELOADING=1");
    run.wait_for("READY=1");
    // The processes log as they start, and that is done when `frame ps` shows them as waiting.
    let begun = std::time::Instant::now();
    loop {
        let asked = surroundings.ps();
        if String::from_utf8_lossy(&asked.stdout).matches("receiving").count() >= 5 {
            break;
        }
        assert!(begun.elapsed() < super::PATIENCE, "they log on: {}", String::from_utf8_lossy(&asked.stdout));
    }
    let read = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    run.signal(Signal::TERM);
    assert_eq!(run.end().code(), Some(0));
    let said = read.join().expect("it only reads").expect("it is a pipe");
    assert!(
        said.contains("lines were dropped, because standard error was not read in time lines="),
        "{}",
        said.len()
    );
    assert!(said.contains("stopping, because of SIGTERM"));
}
