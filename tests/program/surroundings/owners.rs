//! Files of other users, and unusual modes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{Run, Surroundings};

fn set_mode(path: impl AsRef<std::path::Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is the test's");
}

#[test]
fn an_app_that_may_only_be_read() {
    let Some(surroundings) = Surroundings::of_another_user() else { return };
    // They are root's, and the program has none of its rights.
    for name in ["app.toml", "worker.lua", "echo.lua"] {
        chown(surroundings.path(name), Some(0), Some(0)).expect("root may");
        set_mode(surroundings.path(name), 0o444);
    }
    assert!(surroundings.run_and_stop("read-only", surroundings.run_command(&[], &[])));
}

#[test]
fn an_app_that_may_not_be_read() {
    let Some(surroundings) = Surroundings::of_another_user() else { return };
    for name in ["worker.lua", "app.toml"] {
        set_mode(surroundings.path(name), 0o000);
        assert!(!surroundings.run_and_stop(name, surroundings.run_command(&[], &[])), "{name}");
    }
}

#[test]
fn directories_of_sockets_that_belong_to_others() {
    let Some(surroundings) = Surroundings::of_another_user() else { return };
    let shared = std::path::PathBuf::from(format!("/tmp/frame-{}", surroundings.user.expect("another")));
    assert!(!shared.exists(), "no other test has this user");
    fs::create_dir(&shared).expect("it is made");
    set_mode(&shared, 0o777);
    chown(surroundings.path("session"), Some(0), Some(0)).expect("root may");
    let mut run = Run::spawn(&mut surroundings.run_command(&[], &[]));
    run.wait_for("`frame ps` is answered at @frame-");
    run.wait_for("ready");
    let asked = surroundings.ps();
    assert!(asked.status.success(), "{}", super::super::stderr(&asked));
    let second = surroundings.run_command(&[], &[]).output().expect("it runs");
    assert_eq!(second.status.code(), Some(8));
    assert!(
        super::super::stderr(&second).contains(&format!("already running as process {}", run.child.id()))
    );
    run.stop();
    fs::remove_dir(&shared).expect("nothing is in it");
}

#[test]
fn a_manifest_that_another_user_has_locked() {
    let Some(surroundings) = Surroundings::of_another_user() else { return };
    for path in [surroundings.app.path().to_owned(), surroundings.manifest()] {
        set_mode(path, 0o755);
    }
    let user = surroundings.user.expect("another");
    let mut holder = Command::new("flock");
    holder.arg(surroundings.manifest()).args(["sh", "-c", "echo locked; exec cat"]);
    holder.uid(user + 1_000_000).gid(user).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut holder) = holder.spawn() else {
        eprintln!("SKIPPED: this needs `flock`");
        return;
    };
    let mut line = String::new();
    let stdout = holder.stdout.take().expect("it is piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("it is read");
    assert_eq!(line, "locked\n");
    let refused = surroundings.run_command(&[], &[]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(8));
    let said = super::super::stderr(&refused);
    assert!(said.contains(&format!("of the user {}", user + 1_000_000)), "{said}");
    // It ends with its input.
    drop(holder.stdin.take());
    holder.wait().expect("it is our child");
    assert!(surroundings.run_and_stop("free again", surroundings.run_command(&[], &[])));
}
