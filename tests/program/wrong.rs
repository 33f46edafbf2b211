//! Manifests that are wrong in thousands of places: what is said of them has an end, and so has what that takes.
#![cfg(target_os = "linux")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;

use super::run::{App, one_worker, worker};
use super::stderr;

/// The largest manifest.
const LARGEST: usize = 1 << 20;

/// How much memory the program may have, in KiB: ten times what it takes in a debug build. What needs more ends it.
const MOST_KIB: usize = 1 << 20;

/// More than what is said of any manifest.
const LONGEST_REPORT: usize = 1 << 20;

/// A manifest of `parts`, as many as there is room for, between `head` and `tail`.
fn filled(head: &str, tail: &str, part: impl Fn(usize) -> String) -> String {
    let mut manifest = head.to_owned();
    for index in 0.. {
        let part = part(index);
        if manifest.len() + part.len() + tail.len() > LARGEST {
            break;
        }
        manifest.push_str(&part);
    }
    manifest + tail
}

/// Checks a manifest with no more memory than there is for it.
fn check_in(directory: &Path, manifest: &str, format: &str) -> Output {
    fs::write(directory.join("app.toml"), manifest).unwrap();
    fs::write(directory.join("ok.lua"), "return 1\n").unwrap();
    let script = format!("ulimit -d {MOST_KIB} && exec \"$0\" check app.toml --format {format}");
    let mut command = Command::new("sh");
    command.current_dir(directory).arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_frame"));
    command.output().expect("there is a shell")
}

fn check(manifest: &str, format: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    check_in(directory.path(), manifest, format)
}

/// That a manifest is refused, with a report that has an end, for people and for programs.
fn assert_refused(what: &str, manifest: &str) {
    let shown = check(manifest, "table");
    assert_eq!(shown.status.code(), Some(2), "{what}: {:.2000}", stderr(&shown));
    assert!(shown.stdout.is_empty() && shown.stderr.len() < LONGEST_REPORT, "{what}: {}", shown.stderr.len());
    let listed = check(manifest, "json");
    assert_eq!(listed.status.code(), Some(2), "{what}: {:.2000}", stderr(&listed));
    assert!(listed.stdout.len() < 4 * LONGEST_REPORT, "{what}: {}", listed.stdout.len());
    let report: Value = serde_json::from_slice(&listed.stdout).expect(what);
    let problems = report["problems"].as_array().unwrap();
    assert!((1..=1000).contains(&problems.len()), "{what}: {}", problems.len());
    assert!(report["omitted"] == 0 || problems.len() == 1000, "{what}: {}", report["omitted"]);
}

#[test]
fn of_thousands_of_problems_in_one_line_a_hundred_are_drawn() {
    let options: Vec<_> = (0..8000).map(|index| format!("a{index}=1")).collect();
    let manifest = format!("[app]\nname = 'x'\noptions = {{ {} }}\n", options.join(", "));
    let output = check(&manifest, "table");
    let report = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{report:.2000}");
    assert_eq!(report.matches("no option is named").count(), 100);
    assert!(report.ends_with("\nand 7900 more\n\n8000 problems\n"), "{report:.2000}");
    let first = report.split("\n\n").next().unwrap();
    assert!(first.contains("[app.toml:3:13]") && first.contains("options = { a0=1, a1=1"), "{first}");
    // The line goes on, and only what is around the problem is drawn.
    assert!(report.lines().all(|line| line.chars().count() < 300), "{report:.2000}");
    let listed: Value = serde_json::from_slice(&check(&manifest, "json").stdout).unwrap();
    assert_eq!((listed["problems"].as_array().unwrap().len(), &listed["omitted"]), (1000, &7000.into()));
    assert_eq!((&listed["problems"][1]["line"], &listed["problems"][1]["column"]), (&3.into(), &19.into()));
}

/// Reports are made where they hold up neither signals nor what runs.
#[test]
fn an_app_whose_new_manifest_is_wrong_in_thousands_of_places_goes_on() {
    let app = App::new(&one_worker(), &[("worker.lua", &worker("it"))]);
    let mut run = app.run(&[]);
    run.wait_for("it is up");
    let options: Vec<_> = (0..8000).map(|index| format!("a{index}=1")).collect();
    app.write("app.toml", &format!("[app]\noptions = {{ {} }}\n", options.join(", ")));
    run.signal(Signal::HUP);
    run.wait_for("and 7900 more");
    run.wait_for("not reloaded: the app goes on as it was");
    assert_eq!(run.times("no option is named `a99`"), 2, "in the log and in the report");
    assert!(!run.has_said("no option is named `a100`"));
    let status = fs::read_to_string(format!("/proc/{}/status", run.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MOST_KIB / 4, "{peak} KiB");
    run.stop();
}

#[test]
fn text_that_is_not_toml_is_refused_whatever_it_is() {
    let nested = |part: &str| filled("a=", "", |_| part.to_owned());
    for (what, manifest) in [
        ("signs", filled("", "", |_| "=".to_owned())),
        ("lines of signs", filled("", "", |_| "= = =\n".to_owned())),
        ("quotes", filled("", "", |_| "\"".to_owned())),
        ("lists in lists", nested("[")),
        ("tables in tables", nested("{a=")),
        ("a key of many parts", filled("a", "=1\n", |_| ".a".to_owned())),
        ("a header of many parts", filled("[a", "]\n", |_| ".a".to_owned())),
        ("one key", filled("", "=1\n", |_| "a".to_owned())),
        ("the same key again", filled("[app]\n", "", |_| "name='a'\n".to_owned())),
        ("sections below sections", filled("", "", |index| format!("[a{index}{}]\n", ".a".repeat(60)))),
        ("tables in a line", filled("[app]\n", "", |index| format!("a{index}={{a={{a={{a={{}}}}}}}}\n"))),
        ("the same section again", filled("", "", |_| "[app]\n".to_owned())),
    ] {
        assert_refused(what, &manifest);
    }
}

#[test]
fn thousands_of_names_that_are_not_known_are_refused() {
    let network = "[networks.'a:n']\nkind = 'socks5'\nproxy = '127.0.0.1:1'\n";
    for (what, manifest) in [
        ("options in one line", filled("[app]\noptions={a=1", "}\n", |index| format!(",a{index}=1"))),
        ("options", filled("[app.options]\n", "", |index| format!("a{index}=1\n"))),
        ("sections", filled("", "", |index| format!("[s{index}]\n"))),
        ("members of a function", filled("[functions.'a:f']\n", "", |index| format!("a{index}=1\n"))),
        ("settings of http", filled("[http]\n", "", |index| format!("a{index}=1\n"))),
        ("settings of a network", filled(network, "", |index| format!("a{index}=1\n"))),
        ("ids", filled("", "", |index| format!("[functions.a{index}]\n"))),
        ("variables", filled("[http.headers]\n", "", |index| format!("a{index}='${{NO_{index}}}'\n"))),
        ("a variable without an end", {
            filled("[networks.'a:n']\nkind='direct'\nallow=['", "']\n", |_| "${".to_owned())
        }),
        ("files", {
            let function = |index| format!("[functions.'a:f{index}']\nengine='lua'\nsource='x{index}.lua'\n");
            filled("", "", function)
        }),
    ] {
        assert_refused(what, &manifest);
    }
}

#[test]
fn thousands_of_references_to_what_is_not_there_are_refused() {
    let hosts = (0..10_000).fold(String::new(), |mut hosts, index| {
        let _ = writeln!(hosts, "[hosts.'a:h{index}']");
        hosts
    });
    let main = "[supervisors.'a:m']\nhost = 'a:h'\n";
    let child = "[[supervisors.'a:m'.children]]\n";
    for (what, manifest) in [
        ("processes", filled(main, "", |index| format!("{child}id='c{index}'\nprocess='a:p{index}'\n"))),
        ("hosts", {
            filled(&format!("{hosts}{main}"), "", |index| {
                format!("{child}id='c{index}'\nprocess='a:m'\nhost='a:i{index}'\n")
            })
        }),
        ("networks", {
            filled("[networks.'a:n']\nkind='direct'\n", "", |index| {
                format!(
                    "[functions.'a:{index}']\nengine='lua'\nsource='ok.lua'\noptions={{network='a:{index}'}}\n"
                )
            })
        }),
        ("granted hosts", {
            filled(&hosts, "", |index| {
                format!(
                    "[functions.'a:{index}']\nengine='lua'\nsource='ok.lua'\noptions={{spawn=['a:{index}']}}\n"
                )
            })
        }),
    ] {
        assert_refused(what, &manifest);
    }
}

/// The way in which each supervisor is below the others may be as long as the manifest.
#[test]
fn supervisors_in_thousands_of_circles_are_refused() {
    let circles = filled("[hosts.'a:h']\n", "", |index| {
        let next = index + 1;
        format!(
            "[supervisors.'a:s{index}']\nhost='a:h'\n\
             children=[{{id='a',process='a:s{next}'}},{{id='b',process='a:s0'}}]\n"
        )
    });
    assert_refused("circles", &circles);
    let report = stderr(&check(&circles, "table"));
    let circle = "a supervisor is below itself: a:s0 > a:s1 > a:s2 > a:s3 > a:s4 > a:s5 > a:s6 > a:s7 > … ";
    assert!(report.contains(circle), "{report:.2000}");
}

/// A manifest with the process `a:p`, and supervisors that are each below the one before as often as `times` says.
fn tree(depth: usize, times: usize) -> String {
    let start = "[hosts.'a:h']\n[processes.'a:p']\nengine = 'lua'\nsource = 'ok.lua'\n".to_owned();
    (0..depth).fold(start, |mut manifest, index| {
        let below = if index + 1 < depth { format!("a:s{}", index + 1) } else { "a:p".to_owned() };
        let children: Vec<_> =
            (0..times).map(|child| format!("{{id='c{child}',process='{below}'}}")).collect();
        let children = children.join(",");
        let _ = writeln!(manifest, "[supervisors.'a:s{index}']\nhost='a:h'\nchildren=[{children}]");
        manifest
    })
}

#[test]
fn a_manifest_that_describes_a_tree_of_any_size_is_checked() {
    // 2^40 processes below 2^40 - 1 supervisors, for which no host has room.
    let refused = check(&tree(40, 2), "table");
    let report = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{report:.2000}");
    assert!(report.contains("its supervisors and their children are 2199023255551"), "{report:.2000}");
    // 5 000 supervisors below each other.
    let output = check(&tree(5000, 1), "table");
    assert!(output.status.success(), "{:.2000}", stderr(&output));
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.lines().count() < 5020 && shown.len() < LONGEST_REPORT, "{}", shown.len());
}

#[test]
fn a_script_that_thousands_of_functions_share_is_read_and_compiled_once() {
    let function = |index| format!("[functions.'a:f{index}']\nengine='lua'\nsource='shared.lua'\n");
    let manifest = filled("", "", function);
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("shared.lua"), "local x = 1\n".repeat(80_000)).unwrap();
    let output = check_in(directory.path(), &manifest, "table");
    // More than 200 local variables.
    assert_eq!(output.status.code(), Some(2), "{:.2000}", stderr(&output));
    assert!(stderr(&output).ends_with("\n1 problem\n"), "{:.2000}", stderr(&output));
    fs::write(directory.path().join("shared.lua"), "x = 1\n".repeat(160_000)).unwrap();
    let output = check_in(directory.path(), &manifest, "table");
    assert!(output.status.success(), "{:.2000}", stderr(&output));
}

#[test]
fn ten_thousand_functions_are_checked_without_a_vm_for_each() {
    let directory = tempfile::tempdir().unwrap();
    let mut manifest = String::new();
    for index in 0..10_000 {
        fs::write(directory.path().join(format!("{index}.lua")), format!("return {index}\n")).unwrap();
        let _ = writeln!(manifest, "[functions.'a:{index}']\nengine='lua'\nsource='{index}.lua'");
    }
    fs::write(directory.path().join("app.toml"), &manifest).unwrap();
    // A fifth of what as many VMs take.
    let script = "ulimit -d 300000 && exec \"$0\" check app.toml --format json";
    let mut command = Command::new("sh");
    command.current_dir(directory.path()).args(["-c", script, env!("CARGO_BIN_EXE_frame")]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{:.2000}", stderr(&output));
}
