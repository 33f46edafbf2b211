//! `frame call`.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};

use super::{App, command, frame, frame_given, stderr};

fn call(app: &App, rest: &[&str]) -> Output {
    frame(&[&["call", &app.manifest][..], rest].concat())
}

fn result(app: &App, rest: &[&str]) -> Value {
    let output = call(app, &[rest, &["--format", "json"][..]].concat());
    assert!(output.status.success(), "{rest:?}: {}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn refusal(app: &App, rest: &[&str]) -> (Option<i32>, String) {
    let output = call(app, rest);
    assert_eq!(output.stdout, b"", "there is nothing but a result on standard output");
    (output.status.code(), stderr(&output))
}

const GREET: (&str, &str) = ("greet", "return { text = 'Hello, ' .. (...).name }");
const ECHO: (&str, &str) = ("echo", "return ...");

#[test]
fn the_result_is_printed_for_people_and_for_programs() {
    let app = App::of_scripts(&[GREET]);
    let given = ["app:greet", r#"{"name":"Ada"}"#];
    let pretty = call(&app, &given);
    assert_eq!(String::from_utf8_lossy(&pretty.stdout), "{\n  \"text\": \"Hello, Ada\"\n}\n");
    assert_eq!(stderr(&pretty), "");
    assert_eq!(result(&app, &given), json!({ "text": "Hello, Ada" }));
}

#[test]
fn the_payload_comes_from_the_command_line_a_file_or_standard_input() {
    let app = App::of_scripts(&[ECHO]);
    assert_eq!(result(&app, &["app:echo"]), json!(null));
    assert_eq!(result(&app, &["app:echo", "-5"]), json!(-5));
    let file = format!("@{}", app.write("payload.json", r#"{ "from": "a file" }"#));
    assert_eq!(result(&app, &["app:echo", &file]), json!({ "from": "a file" }));
    let piped = frame_given(&["call", &app.manifest, "app:echo", "-", "--format", "json"], b"[1, 2]");
    assert_eq!(piped.stdout, b"[1,2]\n", "{}", stderr(&piped));
}

#[test]
fn a_payload_that_is_not_json_is_refused_with_how_to_write_it() {
    let app = App::of_scripts(&[ECHO]);
    let (code, said) = refusal(&app, &["app:echo", "Ada"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("the payload is not JSON") && said.contains(r#"write '"Ada"'"#), "{said}");
    let (code, said) = refusal(&app, &["app:echo", "@/nowhere.json"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("/nowhere.json cannot be read"), "{said}");
}

#[test]
fn bytes_go_in_and_come_out_as_they_are_or_as_base64() {
    let app = App::of_scripts(&[("echo", "return bytes(...)")]);
    let bytes = b"\xff\x00\x1b[2Jx\n";
    let echoed =
        |format| frame_given(&["call", &app.manifest, "app:echo", "--bytes", "-", "--format", format], bytes);
    assert_eq!(echoed("raw").stdout, bytes);
    assert_eq!(echoed("json").stdout, b"{\"base64\":\"/wAbWzJKeAo=\"}\n");
    assert!(echoed("pretty").stdout.starts_with(b"{\n  \"base64\": "));
}

#[test]
fn a_raw_text_has_no_quotes() {
    let app = App::of_scripts(&[GREET, ECHO]);
    assert_eq!(call(&app, &["app:echo", "\"a\\tb\"", "--format", "raw"]).stdout, b"a\tb\n");
    assert_eq!(call(&app, &["app:echo", "[1]", "--format", "raw"]).stdout, b"[1]\n");
}

#[test]
fn a_misspelt_option_is_refused_with_the_nearest_before_anything_runs() {
    let app = App::of_scripts(&[ECHO]);
    for (option, what) in [
        ("netwrok=app:tor", "did you mean `network`?"),
        ("network", "NAME=VALUE"),
        ("retry={\"attempts\":", "nor is it JSON"),
        ("timeout=soon", "timeout"),
    ] {
        let (code, said) = refusal(&app, &["app:echo", "-o", option]);
        assert_eq!(code, Some(2), "{option}: {said}");
        assert!(said.contains(what), "{option}: {said}");
    }
    let (code, said) = refusal(&app, &["app:echo", "-o", "retry=1", "-o", "retry=2"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("option `retry` is given twice"), "{said}");
}

#[test]
fn an_option_of_the_call_has_its_effect() {
    let app = App::of_scripts(&[("forever", "while true do end")]);
    let (code, said) = refusal(&app, &["app:forever", "-o", "timeout=10ms"]);
    assert_eq!(code, Some(7), "{said}");
    // Nothing falls back to clearnet: the function does not even start.
    let (code, said) = refusal(&app, &["app:forever", "-o", "network=app:nowhere"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("denied: ") && said.contains("app:nowhere") && said.contains("\n  because: "),
        "{said}"
    );
}

#[test]
fn a_misspelt_function_is_not_found_and_the_nearest_suggested() {
    let app = App::of_scripts(&[GREET]);
    let (code, said) = refusal(&app, &["app:gret"]);
    assert_eq!(code, Some(4));
    assert!(said.contains("did you mean `app:greet`?"), "{said}");
    let (code, said) = refusal(&app, &["other:thing"]);
    assert_eq!(code, Some(4));
    assert!(said.contains("there is `app:greet`"), "{said}");
    let (code, said) = refusal(&app, &["greet"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("has no namespace"), "{said}");
}

#[test]
fn every_kind_of_failure_has_its_exit_code() {
    let app = App::of_scripts(&[("fail", "error { kind = ..., message = 'it was told to' }")]);
    let codes = [
        ("internal", 1),
        ("invalid", 3),
        ("not_found", 4),
        ("denied", 5),
        ("cancelled", 6),
        ("deadline", 7),
        ("unavailable", 8),
        ("exhausted", 9),
    ];
    for (kind, expected) in codes {
        let (code, said) = refusal(&app, &["app:fail", &format!("\"{kind}\"")]);
        assert_eq!(code, Some(expected), "{kind}: {said}");
        assert!(said.contains(&format!("frame: {kind}: call of `app:fail`: it was told to")), "{said}");
    }
}

#[test]
fn an_error_for_programs_is_one_object_in_one_line() {
    let app = App::of_scripts(&[("fail", "local function inner() error('no such thing') end\ninner()")]);
    let (code, said) = refusal(&app, &["app:fail", "--format", "json"]);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    let error = &serde_json::from_str::<Value>(&said).unwrap()["error"];
    assert_eq!((&error["kind"], &error["function"]), (&json!("internal"), &json!("app:fail")));
    assert_eq!(error["message"], json!("fail.lua:1: no such thing"));
    assert!(error["causes"][0].as_str().unwrap().contains("fail.lua:2: in"), "{error}");
    assert_eq!(error["retryable"], json!(false));

    let (code, said) = refusal(&app, &["app:fall", "--format", "json"]);
    assert_eq!(code, Some(4));
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["error"]["kind"], "not_found");
}

#[test]
fn what_a_script_says_is_nothing_but_text_to_a_terminal() {
    let app = App::of_scripts(&[
        ("fail", "error('\\27[2J\\27]0;title\\7', 0)"),
        ("title", "return '\\27[2J\\u{9b}'"),
    ]);
    let (_, said) = refusal(&app, &["app:fail"]);
    assert!(said.contains("\\u{1b}[2J") && !said.contains(['\u{1b}', '\u{7}']), "{said}");
    let shown = String::from_utf8(call(&app, &["app:title"]).stdout).unwrap();
    assert!(!shown.contains(['\u{1b}', '\u{9b}']), "{shown:?}");
}

#[test]
fn a_call_is_given_up_after_its_time() {
    let app = App::of_scripts(&[("forever", "while true do pcall(string.rep, 'x', 10) end")]);
    let (code, said) = refusal(&app, &["app:forever", "--timeout", "50ms"]);
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("deadline: call of `app:forever`: not done by its deadline"), "{said}");
    let (code, said) = refusal(&app, &["app:forever", "--timeout", "2"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("time unit needed"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_cancels_the_call() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};

    let app = App::of_scripts(&[("forever", "while true do end")]);
    for signal in [Signal::INT, Signal::TERM] {
        let mut call = command(&["call", &app.manifest, "app:forever"]);
        let child = call.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        // Until it listens to the signals they end it at once, as they do before it calls anything.
        let listens = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (signal.as_raw() - 1)) != 0
        };
        let begun = Instant::now();
        while !listens() {
            assert!(begun.elapsed() < Duration::from_mins(1), "it never listens");
            std::thread::yield_now();
        }
        kill_process(pid, signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(6), &b""[..]), "{}", stderr(&output));
        assert!(stderr(&output).contains("frame: cancelled: call of `app:forever`"), "{}", stderr(&output));
    }
}

#[test]
fn the_help_tells_the_exit_codes() {
    let help = String::from_utf8(frame(&["call", "--help"]).stdout).unwrap();
    for line in ["  4  not_found: ", "  7  deadline: ", "frame call app:greet '{\"name\":\"Ada\"}'"] {
        assert!(help.contains(line), "{help}");
    }
}

#[test]
fn what_was_meant_for_json_is_not_taken_for_a_text() {
    let app = App::of_scripts(&[("echo", "return ...")]);
    for (payload, is_text) in [("Ada", true), ("\"\\ud800\"", false), ("{name:1}", false), ("[1", false)] {
        let output = frame(&["call", &app.manifest, "app:echo", payload]);
        assert_eq!(output.status.code(), Some(2), "{payload}");
        let said = stderr(&output);
        assert_eq!(said.contains("for a text write"), is_text, "{said}");
    }
}

#[test]
fn calls_nest_as_deep_as_the_manifest_says() {
    let recurse = ("deep", "local n = ... return n == 0 and 'done' or call('app:deep', n - 1)");
    let app = App::of_scripts(&[recurse]);
    assert_eq!(result(&app, &["app:deep", "20"]), json!("done"));
    let manifest = fs::read_to_string(&app.manifest).unwrap();
    app.write("app.toml", manifest.replace("[app]", "[app]\nmax_depth = 20"));
    assert_eq!(result(&app, &["app:deep", "19"]), json!("done"));
    let (code, said) = refusal(&app, &["app:deep", "20"]);
    assert_eq!(code, Some(9), "{said}");
    assert!(said.contains("nested 20 levels deep") && said.contains("max_depth"), "{said}");
}

/// What a script is not told of a refusal is in the log, with the unit; and a script that is refused over and over does not
/// fill that.
#[test]
fn why_a_script_is_refused_is_in_the_log() {
    let app = App::of_scripts(&[
        ("caught", "return select(2, pcall(net.connect, 'localhost', 80)).message"),
        ("often", "for _ = 1, 200 do pcall(net.connect, 'localhost', 80) end"),
        ("uncaught", "net.connect('localhost', 80)"),
    ]);
    let caught = call(&app, &["app:caught"]);
    assert_eq!(caught.stdout, b"\"connecting to localhost:80 through clearnet is not allowed\"\n");
    let log = stderr(&caught);
    assert!(log.contains("app:caught") && log.contains("is loopback"), "{log}");
    assert!(log.contains("to allow it, add"), "{log}");

    let log = stderr(&call(&app, &["app:often"]));
    assert_eq!(log.matches("to allow it, add").count(), 10, "{log}");

    let uncaught = call(&app, &["app:uncaught"]);
    let said = stderr(&uncaught);
    assert!(!uncaught.status.success());
    assert!(said.contains("not allowed") && said.matches("to allow it, add").count() == 2, "{said}");
}

#[test]
fn an_empty_option_is_refused_and_never_means_clearnet() {
    let app = App::of_scripts(&[ECHO]);
    for option in ["network=", "isolation=", "fs_root="] {
        let (code, said) = refusal(&app, &["app:echo", "-o", option]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("is empty; leave it out, or give it a value"), "{said}");
    }
}

#[test]
fn the_cause_of_a_request_that_a_script_gives_up_is_in_the_log_with_its_unit() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let source = format!("return pcall(http.get, 'http://{closed}/secret?token')");
    let app = App::of_scripts(&[("ask", source.as_str())]);
    let manifest = fs::read_to_string(&app.manifest).unwrap();
    app.write("app.toml", format!("{manifest}\n[clearnet]\nallow = [\"127.0.0.0/8\"]\n"));
    let output = call(&app, &["app:ask", "--log", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    let line = said.lines().find(|line| line.contains("failed: ")).expect(&said);
    assert!(line.contains("refused") && line.contains("app:ask"), "{line}");
    assert!(!said.contains("token"), "{said}");
}

#[test]
fn the_manifest_is_app_toml_by_default() {
    let app = App::of_scripts(&[("echo", "return ...")]);
    let call = |arguments: &[&str]| {
        let mut command = command(&[&["call"], arguments].concat());
        command.current_dir(app.directory.path()).output().unwrap()
    };
    for (arguments, result) in [
        (&["app:echo"][..], "null\n"),
        (&["app:echo", "-5"], "-5\n"),
        (&["app.toml", "app:echo", "5"], "5\n"),
    ] {
        let output = call(arguments);
        assert_eq!(String::from_utf8_lossy(&output.stdout), result, "{arguments:?}: {}", stderr(&output));
    }
    for (arguments, why) in [
        (&[][..], "the id of the function is missing"),
        (&["app.toml"], "the id of the function is missing"),
        (&["app:echo", "1", "2"], "there is an argument after the payload"),
        (&["app.toml", "echo"], "invalid function id"),
        (&["app:echo", "--bytes"], "`--bytes` needs a payload"),
    ] {
        let output = call(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(why), "{arguments:?}: {}", stderr(&output));
    }
}
