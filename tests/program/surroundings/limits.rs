//! Limits of the process, from the beginning or as it runs.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;

use super::{Notified, Run, Surroundings, ulimit, words};

/// Runs the program at each of the limits. It runs at the last.
#[track_caller]
fn sweep(option: &str, limits: &[u32]) {
    let surroundings = Surroundings::new();
    let mut is_ready = false;
    for limit in limits {
        let limit = format!("{option} {limit}");
        let before = ulimit(&limit);
        is_ready = surroundings.run_and_stop(&limit, surroundings.run_command(&words(&before), &[]));
    }
    assert!(is_ready, "it does not run at {option} {limits:?}");
}

#[test]
fn few_descriptors() {
    sweep("-n", &[4, 6, 8, 10, 12, 14, 16, 20, 32]);
}

#[test]
fn little_address_space() {
    sweep("-v", &[400_000, 600_000, 800_000, 4_000_000]);
}

#[test]
fn little_data() {
    sweep("-d", &[10_000, 20_000, 40_000, 4_000_000]);
}

#[test]
fn a_small_stack() {
    sweep("-s", &[64, 128, 256, 1024]);
}

#[test]
fn no_files_may_grow() {
    sweep("-f", &[0]);
}

#[test]
fn a_script_that_reaches_the_limit_of_file_sizes_fails_alone() {
    let files = "[fs]\nbase = \".\"\n[app]\noptions = { fs_root = \"temporary\" }\n";
    let worker = "log.info(pcall(fs.write, 'large', ('x'):rep(100000)) and 'written' or 'refused')
        repeat local message = process.receive() until message.kind == 'cancelled'";
    let manifest = format!("{files}{}", super::one_worker());
    let surroundings = Surroundings::with(&manifest, &[("worker.lua", worker)]);
    let before = ulimit("-f 1");
    let mut run = Run::spawn(&mut surroundings.run_command(&words(&before), &[]));
    run.wait_for("refused");
    run.stop();
}

/// A command that sets the limit of processes, which counts threads.
fn threads(limit: u32) -> [String; 2] {
    ["prlimit".to_owned(), format!("--nproc={limit}")]
}

/// The user has one process, and more threads than that.
fn allow_no_further_threads(surroundings: &Surroundings, pid: u32) {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), "--nproc=1"]);
    let user = surroundings.user.expect("it is another's");
    assert!(command.uid(user).gid(user).status().expect("it is there").success());
}

#[test]
fn few_threads() {
    let Some(surroundings) = Surroundings::of_another_user() else { return };
    let mut is_ready = false;
    for limit in (1..20).step_by(3).chain([1000]) {
        let before = threads(limit);
        let what = format!("{limit} threads");
        is_ready = surroundings.run_and_stop(&what, surroundings.run_command(&words(&before), &[]));
        let manifest = surroundings.manifest();
        let arguments = ["call", manifest.to_str().expect("text"), "app:echo", "1"];
        let called = surroundings.command(&words(&before), &arguments).output().expect("it runs");
        let said = super::super::stderr(&called);
        // 9 is what a limit ends it with.
        assert!(matches!(called.status.code(), Some(0 | 9)), "{what}: {} {said}", called.status);
    }
    assert!(is_ready, "it does not run with 1000 threads");
}

#[test]
fn no_further_threads_as_it_runs() {
    let files = "[fs]\nbase = \".\"\n[app]\noptions = { fs_root = \"temporary\" }\n";
    let Some(mut surroundings) = Surroundings::of_another_user() else { return };
    let user = surroundings.user;
    let worker = "log.info('up')
        repeat
          fs.write('file', 'x') fs.read('file') call('app:echo', 1)
          local message = process.receive(0.001)
        until message and message.kind == 'cancelled'
        fs.remove('file')";
    let manifest = format!("{files}{}", super::one_worker());
    surroundings = Surroundings { user, ..Surroundings::with(&manifest, &[("worker.lua", worker)]) };
    surroundings.give_to(user.expect("it is another's"));
    let mut run = Run::spawn(&mut surroundings.run_command(&[], &[]));
    run.wait_for("up");
    allow_no_further_threads(&surroundings, run.child.id());

    // Something has to be compiled.
    fs::write(surroundings.path("echo.lua"), "return 'another', ...").expect("it is written");
    let reloaded = run.reload();
    assert!(reloaded.contains("functions replaced: app:echo"), "{reloaded}");
    let asked = surroundings.ps();
    assert!(asked.status.success(), "{}", super::super::stderr(&asked));
    // What is wrong is shown, too.
    fs::write(surroundings.path("echo.lua"), "this is no Lua").expect("it is written");
    run.signal(Signal::HUP);
    run.wait_for("not reloaded");
    run.signal(Signal::TERM);
    let status = run.end();
    let said = run.said.join("\n");
    assert!(status.success() && !said.contains("panic") && !said.contains("failed"), "{status}\n{said}");
    surroundings.assert_nothing_left("no threads");
}

#[test]
fn a_stop_needs_no_thread() {
    let Some(surroundings) = Surroundings::of_another_user() else { return };
    surroundings.app.write("worker.lua", "while true do process.receive() end");
    let mut run = Notified::spawn(&surroundings, &mut surroundings.run_command(&[], &["--grace", "1h"]));
    run.wait_for("READY=1");
    allow_no_further_threads(&surroundings, run.child.id());
    run.signal(Signal::TERM);
    run.wait_for("STOPPING=1");
    run.signal(Signal::TERM);
    assert_eq!(run.end().code(), Some(143));
    surroundings.assert_nothing_left("no threads");
}
