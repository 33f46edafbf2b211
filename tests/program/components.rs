//! Components, in the program.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::run::App;

/// Longer than anything takes on any machine.
const PATIENCE: Duration = Duration::from_mins(2);

fn echo() -> Vec<u8> {
    frame_guests::guest("echo")
}

/// A component that takes many seconds to compile, in a build for tests.
fn slow() -> Vec<u8> {
    let run = "(func (export \"run\") (param i32 i32 i32) (result i32) unreachable)";
    frame_guests::component(&format!("{} {run}", "(func)".repeat(30_000)))
}

/// 31 components, of which each but the first makes two instances of the one before.
fn bomb() -> Vec<u8> {
    let mut text = "(component $root (component $c0)".to_owned();
    for number in 1..=30 {
        let before = number - 1;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "(component $c{number} (alias outer $root $c{before} (component $c))
               (instance (instantiate $c)) (instance (instantiate $c)))"
        );
    }
    frame_guests::text(&(text + "(instance (instantiate $c30)))"))
}

/// An app of these components, as functions, with further sections.
fn app(sections: &str, components: &[(&str, &[u8])]) -> App {
    let app = App::new("", &[]);
    let mut manifest = format!("[app]\nname = \"components\"\n{sections}\n");
    for (name, component) in components {
        let _ = write!(manifest, "[functions.\"app:{name}\"]\nengine = \"wasm\"\nsource = \"{name}.wasm\"\n");
        fs::write(app.path().join(format!("{name}.wasm")), component).expect("it is written");
    }
    app.write("app.toml", &manifest);
    app
}

/// The program, with the app's own cache.
fn frame(app: &App, arguments: &[&str]) -> Output {
    in_shell(app, "exec \"$0\" \"$@\"", arguments)
}

/// The same, run by a shell.
fn in_shell(app: &App, script: &str, arguments: &[&str]) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_frame")]).args(arguments).current_dir(app.path());
    shell.env("XDG_CACHE_HOME", app.path().join("cache")).env("NO_COLOR", "1");
    shell.output().expect("there is a shell")
}

fn stderr(output: &Output) -> String {
    // Reports are wrapped at the width of a terminal.
    String::from_utf8_lossy(&output.stderr)
        .split_whitespace()
        .filter(|word| !["│", "|"].contains(word))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_component_that_would_take_all_memory_is_a_mistake_of_the_manifest() {
    let app = app("", &[("bomb", &bomb())]);
    let output = frame(&app, &["check", "app.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = stderr(&output);
    assert!(
        stderr.contains("more than 1000 instances") && stderr.contains("the limit `instances`"),
        "{stderr}"
    );
}

#[test]
fn the_manifest_says_what_components_may_be() {
    let functions = "[wasm]\ncomponent = { functions = 2 }";
    let app = app(functions, &[("echo", &echo())]);
    let output = frame(&app, &["check", "app.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("the limit `functions`"), "{}", stderr(&output));
    for (wrong, reported) in [
        ("instances = 0", "instances"),
        ("memory_reservation = \"1KiB\"", "memory_reservation"),
        ("component = { depth = 1000 }", "depth"),
        ("component = { bodies = 1 }", "bodies"),
        ("instance = 1", "instances"),
    ] {
        app.write("app.toml", &format!("[wasm]\n{wrong}\n"));
        let output = frame(&app, &["check", "app.toml"]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(stderr(&output).contains(reported), "{wrong}: {}", stderr(&output));
    }
}

#[test]
fn a_reload_is_abandoned_for_a_newer_one_while_it_compiles() {
    let app = app("", &[("echo", &echo())]);
    let mut run = app.run(&[]);
    run.wait_for("ready");
    let good = fs::read_to_string(app.path().join("app.toml")).unwrap();
    fs::write(app.path().join("slow.wasm"), slow()).unwrap();
    app.write(
        "app.toml",
        &format!("{good}[functions.\"app:slow\"]\nengine = \"wasm\"\nsource = \"slow.wasm\"\n"),
    );
    run.signal(Signal::HUP);
    wait_until_it_compiles(run.child.id());
    app.write(
        "app.toml",
        &format!("{good}[functions.\"app:other\"]\nengine = \"wasm\"\nsource = \"echo.wasm\"\n"),
    );
    run.signal(Signal::HUP);
    run.wait_for("abandoned");
    let reloaded = run.wait_for("reloaded");
    assert!(reloaded.contains("app:other") && !reloaded.contains("app:slow"), "{reloaded}");
    run.stop();
}

/// Waits until a thread that compiles has used some time of a processor.
fn wait_until_it_compiles(pid: u32) {
    let until = Instant::now() + PATIENCE;
    while !is_compiling(pid) {
        assert!(Instant::now() < until, "it does not compile");
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_compiling(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok()).any(|stat| {
        // The name is in parentheses, and the time in user mode is the 14th field.
        let Some((name, fields)) = stat.rsplit_once(") ") else { return false };
        let ticks = fields.split(' ').nth(11).and_then(|ticks| ticks.parse::<u64>().ok());
        name.contains("(frame-compile") && ticks.is_some_and(|ticks| ticks >= 5)
    })
}

#[test]
fn components_run_where_address_space_is_limited() {
    const LIMITED: &str = "ulimit -v 6000000; exec \"$0\" \"$@\"";
    let small = "[wasm]\ninstances = 4\nmemories = 1\nmemory_reservation = \"64MiB\"\n";
    let call = ["call", "app.toml", "app:echo", "[1]"];
    let echoes = app(small, &[("echo", &echo())]);
    let output = in_shell(&echoes, LIMITED, &call);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<String>(), "[1]");

    let output = in_shell(&app("", &[("echo", &echo())]), LIMITED, &call);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("`memory_reservation` in `[wasm]`"), "{}", stderr(&output));
}

#[test]
fn a_host_with_more_places_than_instances_is_a_warning() {
    let sections = |instances: u32| {
        format!(
            "[wasm]\ninstances = {instances}\n[hosts.\"app:workers\"]\nprocesses = 300\n\
             [processes.\"app:worker\"]\nengine = \"wasm\"\nsource = \"echo.wasm\"\n"
        )
    };
    let crowded = app(&sections(256), &[("echo", &echo())]);
    let output = frame(&crowded, &["check", "app.toml"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("places for 300 processes") && said.contains("no more than 256"), "{said}");
    let roomy = app(&sections(300), &[("echo", &echo())]);
    let output = frame(&roomy, &["check", "app.toml"]);
    assert!(output.status.success() && !stderr(&output).contains("places"), "{}", stderr(&output));
}

#[test]
fn a_cache_that_others_can_write_to_is_said_with_what_to_do() {
    let app = app("", &[("echo", &echo())]);
    let cache = app.path().join("cache/frame/components");
    make_writable_by_all(&cache);
    let mut run = app.run(&[]);
    let said = run.wait_for("XDG_CACHE_HOME");
    assert!(said.contains("others may write to it") && said.contains("WARN"), "{said}");
    run.wait_for("ready");
    run.stop();
}

fn make_writable_by_all(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
}

/// What a terminal obeys, or shows as lines of the program.
const HOSTILE: &str = "one\nframe: two\u{1b}[2J\u{202e}\u{2028}\u{9b}31m";

/// `HOSTILE`, and as much of it as is in WAT.
fn hostile_in_wat() -> String {
    HOSTILE.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    })
}

/// Asserts that what was said of a failure has the guest's text in it, escaped.
fn assert_harmless(what: &str, said: &[u8]) {
    let said = String::from_utf8_lossy(said);
    assert!(said.contains("two") && said.contains("202e"), "{what}: {said:?}");
    assert!(said.chars().all(|it| it == '\n' || frame_registry::text::is_printable(it)), "{what}: {said:?}");
    assert!(!said.lines().any(|line| line.starts_with("frame: two")), "{what}: {said:?}");
}

#[test]
fn what_components_fail_with_is_nothing_that_a_terminal_obeys() {
    let (text, length) = (hostile_in_wat(), HOSTILE.len());
    let returns = frame_guests::component(&format!(
        "(data (i32.const 512) \"{text}\")
         (func (export \"run\") (param i32 i32 i32) (result i32)
           (i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 20) (i32.const 7))
           (i32.store (i32.const 24) (i32.const 512)) (i32.store (i32.const 28) (i32.const {length}))
           (i32.const 16))"
    ));
    let traps = frame_guests::component(&format!(
        "(func $\"{text}\" unreachable)
         (func (export \"run\") (param i32 i32 i32) (result i32) (call $\"{text}\") unreachable)"
    ));
    let app = app("", &[("returns", &returns), ("traps", &traps)]);
    for name in ["app:returns", "app:traps"] {
        for format in ["pretty", "json"] {
            let output = frame(&app, &["call", "app.toml", name, "--format", format]);
            assert_eq!(output.status.code(), Some(1), "{name}: {}", stderr(&output));
            assert_harmless(&format!("{name}, {format}"), &output.stderr);
        }
    }
}
