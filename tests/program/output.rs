//! What is printed, whatever is in it and wherever it goes.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::{App, command, frame, frame_given, stderr};

/// An app of one function, `app:f`.
fn app(source: &str) -> App {
    App::of_scripts(&[("f", source)])
}

fn call(app: &App, payload: &str, format: &str) -> Output {
    frame(&["call", &app.manifest, "app:f", payload, "--format", format])
}

#[test]
fn what_cannot_be_written_is_an_exit_code() {
    let app = app("return 1");
    let runs: [&[&str]; 10] = [
        &["--help"],
        &["--version"],
        &["run", "-h"],
        &["man"],
        &["completions", "bash"],
        &["options"],
        &["resolvers", "--format", "json"],
        &["check", &app.manifest],
        &["call", &app.manifest, "app:f"],
        &["call", &app.manifest, "app:f", "--format", "raw"],
    ];
    for arguments in runs {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command(arguments).stdout(full).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("standard output cannot be written: No space left"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    for arguments in [["--help"], ["man"]] {
        let mut child = command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert!(child.wait().unwrap().success(), "{arguments:?}");
    }
}

#[test]
fn a_result_for_people_is_json_that_no_terminal_obeys() {
    let app = app("return { ['\u{9b}31m'] = 'a\\27[2J\u{202e}\u{2028}\u{e0041}ä' }");
    let output = call(&app, "null", "pretty");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.chars().all(|it| it == '\n' || " {}[]\":,\\ä".contains(it) || it.is_ascii_alphanumeric()));
    let result: Value = serde_json::from_str(&shown).expect(&shown);
    assert_eq!(result, json!({ "\u{9b}31m": "a\u{1b}[2J\u{202e}\u{2028}\u{e0041}ä" }));
}

#[test]
fn no_line_of_an_error_of_a_script_passes_for_one_of_the_program() {
    let app = app("error('one\\nframe: two\\n  because: three\\27[2J\u{202e}\u{2028}\u{85}', 0)");
    let output = call(&app, "null", "pretty");
    let shown = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some("frame: internal: call of `app:f`: one"), "{shown}");
    assert_eq!(lines.next(), Some("  | frame: two"), "{shown}");
    assert_eq!(lines.next(), Some("  |   because: three\\u{1b}[2J\\u{202e}\\u{2028}\\u{85}"), "{shown}");
}

#[test]
fn a_payload_is_read_as_far_as_the_function_has_memory_for_it() {
    let app = app("return #(...)");
    let manifest = fs::read_to_string(&app.manifest).unwrap();
    app.write("app.toml", format!("{manifest}limits = {{ memory = '4MiB' }}\n"));
    let file = app.write("payload", vec![b'1'; 3 << 20]);
    let output = frame(&["call", &app.manifest, "app:f", "--bytes", &format!("@{file}")]);
    assert_eq!(output.stdout, b"3145728\n", "{}", stderr(&output));
    for payload in ["@/dev/zero", "-"] {
        let arguments = ["call", &app.manifest, "app:f", "--bytes", payload];
        let mut child =
            command(&arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it was built");
        // It does not read all of this.
        let _ = child.stdin.take().unwrap().write_all(&vec![0; 16 << 20]);
        let output = child.wait_with_output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("has more than 4194304 bytes, which is the limit `memory`"), "{said}");
    }
}

#[test]
fn a_whole_number_is_the_same_in_a_script_or_refused() {
    let app = app("return math.type(...)");
    for (payload, said) in
        [("9223372036854775807", "integer"), ("-1", "integer"), ("1e300", "float"), ("0.5", "float")]
    {
        let output = call(&app, payload, "raw");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{said}\n"), "{}", stderr(&output));
    }
    let refused = call(&app, "{\"a\": [9223372036854775808]}", "pretty");
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(
        said.contains("the number 9223372036854775808, which is larger than an integer of Lua"),
        "{said}"
    );
    for payload in ["18446744073709551616", "[\"1\", {\"\\\"\": -9223372036854775809}]"] {
        let refused = call(&app, payload, "pretty");
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("whole numbers have 64 bits"), "{said}");
    }
}

#[test]
fn no_name_of_a_directory_makes_a_line_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("one\nframe: two\u{202e}");
    fs::create_dir(&inner).unwrap();
    let manifest = inner.join("app.toml");
    let manifest_text = manifest.display().to_string();
    for text in ["[fs]\nbase = 'data'\n", "[functions.'a:b']\nengine = 'lua'\nsource = 'x.lua'\n", "="] {
        fs::write(&manifest, text).unwrap();
        for arguments in [vec!["check", &manifest_text], vec!["call", &manifest_text, "a:b"]] {
            let output = frame(&arguments);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains("one\\nframe: two\\u{202e}"), "{said}");
            assert!(
                !said.contains('\u{202e}') && !said.lines().any(|line| line.starts_with("frame: two")),
                "{said}"
            );
        }
    }
    fs::create_dir(inner.join("data")).unwrap();
    fs::write(&manifest, "[fs]\nbase = 'data'\n").unwrap();
    let shown = String::from_utf8(frame(&["check", &manifest_text]).stdout).unwrap();
    assert!(shown.contains("one\\nframe: two\\u{202e}/data"), "{shown}");
}

#[test]
fn an_argument_that_is_refused_is_no_command_to_a_terminal() {
    let output = frame(&["call", "app.toml", "app:f\u{1b}[2J\u{202e}"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("\\u{1b}[2J\\u{202e}") && !said.contains(['\u{1b}', '\u{202e}']), "{said}");
}

#[test]
fn no_line_is_shown_of_a_file_outside_of_the_directory_of_the_manifest() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "root:hunter2:19000\n").unwrap();
    let app = app("return return");
    let inside = frame(&["check", &app.manifest]);
    assert!(stderr(&inside).contains("return return"), "{}", stderr(&inside));
    fs::remove_file(app.directory.path().join("f.lua")).unwrap();
    symlink(&secret, app.directory.path().join("f.lua")).unwrap();
    for format in ["table", "json"] {
        let output = frame(&["check", &app.manifest, "--format", format]);
        let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("the script does not compile: there is a mistake in line 1"), "{said}");
        assert!(!said.contains("hunter2") && !said.contains("root"), "{said}");
    }
}

#[test]
fn a_manifest_is_a_regular_file() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("app.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.display().to_string();
    for arguments in
        [vec!["check", &*pipe], vec!["run", &*pipe], vec!["call", &*pipe, "a:b"], vec!["check", "/dev/zero"]]
    {
        let output = frame(&arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("it is not a regular file"), "{said}");
    }
    let source = directory.path().join("f.lua");
    assert!(Command::new("mkfifo").arg(&source).status().unwrap().success());
    let manifest = directory.path().join("other.toml");
    fs::write(&manifest, "[functions.'a:f']\nengine = 'lua'\nsource = 'f.lua'\n").unwrap();
    let said = stderr(&frame(&["check", &manifest.display().to_string()]));
    assert!(said.contains("`f.lua` cannot be read: it is not a regular file"), "{said}");
}

#[test]
fn a_manifest_comes_from_standard_input_where_it_is_read_once() {
    let manifest = "[app]\nname = 'piped'\n[functions.'a:f']\nengine = 'lua'\nsource = 'f.lua'\n";
    let app = app("return 'it ran'");
    let given = |arguments: &[&str], input: &str| {
        let mut command = command(arguments);
        command
            .current_dir(app.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let checked = given(&["check", "/dev/stdin"], manifest);
    assert!(String::from_utf8_lossy(&checked.stdout).contains("app: piped"), "{}", stderr(&checked));
    let called = given(&["call", "/dev/stdin", "a:f", "--format", "raw"], manifest);
    assert_eq!(called.stdout, b"it ran\n", "{}", stderr(&called));
    let both = frame_given(&["call", "/dev/stdin", "a:f", "-"], b"");
    assert!(stderr(&both).contains("cannot both come from standard input"), "{}", stderr(&both));
    let run = frame_given(&["run", "/dev/stdin"], b"");
    assert!(stderr(&run).contains("it is not a regular file"), "{}", stderr(&run));
}
