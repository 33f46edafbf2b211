//! Odd clocks, locales and variables.

use super::{Surroundings, can};

#[test]
fn locales_and_time_zones_that_do_not_exist() {
    let surroundings = Surroundings::new();
    for (name, value) in [
        ("LC_ALL", "tr_TR.ISO-8859-9"),
        ("LANG", "nowhere"),
        ("TZ", ":/dev/zero"),
        ("TERM", ""),
        ("HOME", ""),
        ("PATH", ""),
        ("NOTIFY_SOCKET", ""),
        ("XDG_RUNTIME_DIR", "relative"),
        ("RUST_BACKTRACE", "full"),
        ("RUST_MIN_STACK", "1"),
        ("TOKIO_WORKER_THREADS", "0"),
    ] {
        let mut command = surroundings.run_command(&[], &[]);
        command.env(name, value);
        assert!(surroundings.run_and_stop(name, command), "{name}");
    }
}

#[test]
fn no_environment_at_all() {
    let surroundings = Surroundings::new();
    let mut command = surroundings.run_command(&[], &[]);
    command.env_clear();
    assert!(surroundings.run_and_stop("no environment", command));
}

#[test]
fn an_empty_name_of_a_service_manager_is_none() {
    let surroundings = Surroundings::new();
    let mut run = super::Run::spawn(surroundings.run_command(&[], &[]).env("NOTIFY_SOCKET", ""));
    run.wait_for("ready");
    run.signal(rustix::process::Signal::TERM);
    assert!(run.end().success());
    assert!(!run.has_said("the service manager was not told"), "{}", run.said.join("\n"));
}

#[test]
fn clocks_that_have_just_begun_or_run_for_centuries() {
    let namespace = ["unshare", "--user", "--map-root-user", "--time", "--fork"];
    if !can(&namespace) {
        return;
    }
    let surroundings = Surroundings::new();
    for seconds in ["9000000000", "315360000"] {
        let before =
            [&namespace[..], &["--monotonic", seconds, "--boottime", seconds, "--kill-child=TERM"]].concat();
        if !can(&before) {
            continue;
        }
        // The signals go to the program and not to `unshare`.
        let script = "\"$@\" & pid=$!; trap 'kill -HUP $pid' HUP; trap 'kill -TERM $pid' TERM; \
                      while kill -0 $pid 2>/dev/null; do wait $pid; code=$?; done; exit $code";
        let before = [&["sh", "-c", script, "sh"], &before[..4], &before[5..9]].concat();
        assert!(surroundings.run_and_stop(seconds, surroundings.run_command(&before, &[])), "{seconds}");
    }
}
