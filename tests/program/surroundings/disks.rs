//! Disks that are full or read-only, in a mount namespace of the test's own.

use super::{Surroundings, can};

const NAMESPACE: [&str; 4] = ["unshare", "--user", "--map-root-user", "--mount"];

/// Runs the program with a file system of a few kilobytes, prepared by `script`, in place of the directories that it writes to.
#[track_caller]
fn run_on(what: &str, script: &str) {
    if !can(&NAMESPACE) {
        return;
    }
    let surroundings = Surroundings::new();
    let mounts: String = ["session", "temporary"]
        .map(|name| {
            let path = surroundings.path(name);
            format!(
                "d={} && mount -t tmpfs -o size=16k,mode=700 tmpfs \"$d\" && {script} && ",
                path.display()
            )
        })
        .concat();
    let shell = format!("{mounts} exec \"$@\"");
    let before = [&NAMESPACE[..], &["sh", "-c", &shell, "sh"]].concat();
    assert!(
        surroundings.run_and_stop(what, surroundings.run_command(&before, &[])),
        "{what}: it does not run"
    );
}

#[test]
fn full_disks() {
    run_on("full", "{ dd if=/dev/zero of=\"$d/filler\" bs=1k count=100 2>/dev/null || true; }");
}

#[test]
fn disks_without_room_for_another_file() {
    run_on("no inodes", "mount -o remount,nr_inodes=1 \"$d\"");
}

#[test]
fn read_only_disks() {
    run_on("read-only", "mount -o remount,ro \"$d\"");
}

#[test]
fn a_read_only_app() {
    if !can(&NAMESPACE) {
        return;
    }
    let surroundings = Surroundings::new();
    let root = surroundings.app.path().display().to_string();
    let shell = format!("mount --bind {root} {root} && mount -o remount,bind,ro {root} && exec \"$@\"");
    let before = [&NAMESPACE[..], &["sh", "-c", &shell, "sh"]].concat();
    assert!(surroundings.run_and_stop("read-only", surroundings.run_command(&before, &[])));
}
