//! Which stack is used where the kernel's cannot be started, and what is said of it.

#![cfg(target_os = "linux")]

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use frame_net::Network as _;
use frame_net::wireguard::{SetupError, Stack, WireGuard, WireGuardConfig, helper};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::pair::{has_kernel_stack, left};

/// Set in a process of a test's own: what a program is started as and how many descriptors it may have are the
/// process's.
const INSIDE: &str = "FRAME_NET_FALLBACK";

/// Runs `test`, which is the test called `name`, in a process of its own.
fn in_own_process(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        return test();
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    let output = program.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let shown = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && shown.contains("1 passed"), "{name}:\n{shown}");
}

fn network(stack: &str) -> Result<WireGuard, SetupError> {
    let config: WireGuardConfig = serde_json::from_value(left(stack, "127.0.0.1:1")).unwrap();
    WireGuard::new(&config)
}

/// Checks that there is no network of either choice, for this reason, as that may pass.
fn assert_refused(reason: &str) {
    for stack in ["auto", "kernel"] {
        match network(stack) {
            Err(SetupError::Helper(why)) => assert!(why.to_string().contains(reason), "{why}"),
            Err(error) => panic!("{error:?}"),
            Ok(network) => panic!("{}", network.stack()),
        }
    }
}

/// Checks that the stack in user space is used if it may be, for this reason.
fn assert_fallback(reason: &str) {
    let network = network("auto").unwrap();
    let Stack::User { why: Some(why) } = network.stack() else { panic!("{}", network.stack()) };
    assert!(why.contains(reason), "{why}");
    assert!(network.is_degraded());
    match self::network("kernel") {
        Err(SetupError::Kernel(why)) => assert!(why.to_string().contains(reason), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_helper_that_is_not_there_is_a_reason_for_user_space() {
    in_own_process("fallback::a_helper_that_is_not_there_is_a_reason_for_user_space", || {
        helper::use_program("/nonexistent/program");
        assert_fallback("cannot start `/nonexistent/program` as the helper: No such file or directory");
        assert!(!network("user").unwrap().is_degraded(), "it was chosen");
    });
}

#[test]
fn a_program_that_is_no_helper_is_a_reason_for_user_space() {
    in_own_process("fallback::a_program_that_is_no_helper_is_a_reason_for_user_space", || {
        helper::use_program("/bin/true");
        assert_fallback("`/bin/true` did not start as the helper: exit status: 0");
    });
}

#[test]
fn a_program_without_a_helper_is_not_degraded() {
    in_own_process("fallback::a_program_without_a_helper_is_not_degraded", || {
        let network = network("auto").unwrap();
        assert!(matches!(network.stack(), Stack::User { why: Some(_) }) && !network.is_degraded());
    });
}

#[test]
fn a_helper_that_is_killed_as_it_starts_is_no_reason_for_user_space() {
    in_own_process("fallback::a_helper_that_is_killed_as_it_starts_is_no_reason_for_user_space", || {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("helper");
        std::fs::write(&program, "#!/bin/sh\nkill -KILL $$\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        helper::use_program(program);
        assert_refused("was ended as it started: signal: 9");
    });
}

#[test]
fn too_many_open_files_are_no_reason_for_user_space() {
    if !has_kernel_stack() {
        return;
    }
    in_own_process("fallback::too_many_open_files_are_no_reason_for_user_space", || {
        helper::use_program(env!("CARGO_BIN_EXE_frame-net-helper"));
        let limit = getrlimit(Resource::Nofile);
        let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd().cast_unsigned();
        let mut refused = 0;
        for more in 0..32 {
            setrlimit(Resource::Nofile, Rlimit { current: Some(u64::from(next + more)), ..limit }).unwrap();
            match network("auto") {
                Err(SetupError::Socket { .. }) => {}
                Err(SetupError::Helper(why)) => {
                    assert!(why.to_string().contains("Too many open files"), "{why}");
                    refused += 1;
                }
                Err(error) => panic!("{error:?}"),
                Ok(network) => {
                    assert_eq!(network.stack(), &Stack::Kernel);
                    assert!(refused > 0);
                    return;
                }
            }
        }
        panic!("32 descriptors are enough");
    });
}
