//! Tests that run in namespaces of Linux of their own: as the test program again, with that one test.

use std::process::Command;

use super::port;
use super::program::skipped;

/// Set in the process that is inside.
const INSIDE: &str = "FRAME_NET_NAMESPACE";

/// The last lines of the script that runs inside. The program and the test are its last two arguments.
const TEST: &str = r#"exec "$1" --exact "$2" --nocapture --test-threads=1"#;

/// Declares tests that need the address `::1`, which containers often lack.
///
/// Where it is missing, each runs in a network namespace, which has one.
macro_rules! ipv6_tests {
    ($($(#[$meta:meta])* async fn $name:ident() $body:block)*) => {
        $($(#[$meta])* #[test] fn $name() {
            $crate::servers::namespace::with_ipv6($crate::servers::namespace::test_path!($name), async || $body);
        })*
    };
}
pub(crate) use ipv6_tests;

/// The path of a test of the module that this is used in, as the test program takes it.
macro_rules! test_path {
    ($name:ident) => {{
        let path = concat!(module_path!(), "::", stringify!($name));
        path.split_once("::").map_or(path, |(_, path)| path)
    }};
}
pub(crate) use test_path;

/// Whether this process was started by [`run_inside`].
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs `test`, which is the test called `name`, where there is an address `::1`.
pub fn with_ipv6<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    if port::has_ipv6() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(test());
    }
    assert!(!is_inside(), "a new network namespace has no ::1");
    run_inside(name, "ip link set lo up", |_| ());
}

/// Runs the test called `name` again, inside, where the script `enter` runs first, with the arguments and variables that
/// `set` adds.
pub fn run_inside(name: &str, enter: &str, set: impl FnOnce(&mut Command)) {
    if !can_enter() {
        return;
    }
    let mut command = unshare();
    command.args(["sh", "-euc", &format!("{enter}\nshift $(($# - 2))\n{TEST}"), "sh"]);
    set(&mut command);
    let output = command.arg(std::env::current_exe().unwrap()).arg(name).env(INSIDE, "1").output().unwrap();
    let shown = [output.stdout, output.stderr].concat();
    let shown = String::from_utf8_lossy(&shown);
    print!("{shown}");
    // With a name that no test has, the program would run nothing and succeed.
    assert!(output.status.success() && shown.contains("1 passed"), "{name}, in namespaces:\n{shown}");
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount"]);
    command
}

/// Whether namespaces can be made here. In CI they must be.
fn can_enter() -> bool {
    let tried = unshare().args(["sh", "-c", "ip link set lo up"]).output();
    let why = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    skipped(&format!("this needs user namespaces, `unshare` and `ip`: {why}"));
    false
}
