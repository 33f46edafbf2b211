//! Completions, the manual page, help, and colour.

use std::fs;
use std::process::{Command, Stdio};

use super::{App, command, frame, frame_given, stderr, stdout};

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];
const COMMANDS: [&str; 10] =
    ["run", "check", "call", "ps", "audit", "resolvers", "options", "demo", "completions", "man"];

#[test]
fn every_shell_completes_every_command() {
    for shell in SHELLS {
        let script = stdout(&["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(script.contains("frame") && script.contains("timeout"), "{shell}");
    }
    let unknown = frame(&["completions", "tcsh"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("possible values: bash"), "{}", stderr(&unknown));
}

#[test]
fn bash_takes_its_script_and_completes_with_it() {
    if Command::new("bash").arg("--version").output().is_err() {
        eprintln!("not tried: there is no bash");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("frame.bash");
    fs::write(&script, stdout(&["completions", "bash"])).unwrap();
    let complete = "source \"$1\"; COMP_WORDS=(frame call --ti); COMP_CWORD=2; _frame frame --ti call; echo \"${COMPREPLY[@]}\"";
    let completed =
        Command::new("bash").args(["--norc", "-c", complete, "bash"]).arg(&script).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "--timeout", "{}", stderr(&completed));
}

#[test]
fn the_manual_has_the_exit_codes_and_names_every_command() {
    let page = stdout(&["man"]);
    assert!(page.contains(".TH FRAME 1"), "{page}");
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "SUBCOMMANDS", "EXIT STATUS", "VERSION"] {
        assert!(page.contains(section), "{section}");
    }
    for command in COMMANDS {
        assert!(page.contains(&format!("frame\\-{command}(1)")), "{command}: {page}");
    }
}

#[test]
fn manual_pages_have_nothing_to_lint() {
    if Command::new("mandoc").arg("-T").arg("lint").stdin(Stdio::null()).output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "mandoc is installed there");
        eprintln!("skipped: there is no mandoc");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    stdout(&["man", "--dir", directory.path().to_str().unwrap()]);
    for page in fs::read_dir(directory.path()).unwrap() {
        let mut lint = Command::new("mandoc");
        let output = lint.args(["-T", "lint", "-W", "style"]).arg(page.unwrap().path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "{said}{}", stderr(&output));
    }
}

#[test]
fn a_directory_is_filled_with_a_page_for_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("share/man1");
    assert_eq!(stdout(&["man", "--dir", pages.to_str().unwrap()]), "");
    for command in COMMANDS {
        let page = fs::read_to_string(pages.join(format!("frame-{command}.1"))).unwrap();
        assert!(page.contains("EXIT STATUS") && page.contains("SYNOPSIS"), "{command}");
    }
    let page = fs::read_to_string(pages.join("frame.1")).unwrap();
    assert_eq!(page, stdout(&["man"]));

    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = frame(&["man", "--dir", file.join("pages").to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("cannot be written"), "{}", stderr(&refused));
}

#[test]
fn the_manual_is_rendered_without_a_complaint() {
    let mut groff = Command::new("groff");
    groff.args(["-man", "-Tutf8", "-ww", "-P-cbou"]);
    let Ok(mut child) = groff.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    else {
        eprintln!("not tried: there is no groff");
        return;
    };
    let page = stdout(&["man"]);
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), page.as_bytes()).unwrap();
    let rendered = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&rendered.stdout);
    assert!(rendered.status.success() && rendered.stderr.is_empty(), "{}", stderr(&rendered));
    assert!(text.contains("deadline: not done in time"), "{text}");
}

#[test]
fn the_help_lists_commands_in_the_order_in_which_one_needs_them() {
    let help = stdout(&["--help"]);
    let places = COMMANDS.map(|command| {
        let line = format!("\n  {command} ");
        help.find(&line).unwrap_or_else(|| panic!("{command} is missing: {help}"))
    });
    assert!(places.is_sorted(), "{help}");
    assert!(help.contains("Exit codes:"), "{help}");
    assert!(stdout(&["--version"]).starts_with("frame "));
}

#[test]
fn nothing_is_coloured_where_there_is_no_terminal() {
    let app = App::of_scripts(&[("echo", "return ...")]);
    let call = ["call", &app.manifest, "app:echo"];
    let runs: &[&[&str]] = &[
        &["--help"],
        &["call", "--help"],
        &["caal"],
        &["resolvers"],
        &["options"],
        &["man"],
        &["completions", "bash"],
        &["ps", "--socket", "/nowhere/control.sock"],
        &call,
        &["call", &app.manifest, "app:ecko"],
        &["call", &app.manifest, "app:echo", "-o", "netwrok=x"],
        &["call", "/nowhere/app.toml", "app:echo"],
    ];
    for arguments in runs {
        let output = frame(arguments);
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        assert!(!said.contains(&0x1b), "{arguments:?}: {}", String::from_utf8_lossy(&said));
        assert!(!said.is_empty(), "{arguments:?}");
    }
}

#[test]
fn colour_can_be_forced_and_forbidden() {
    let failing = ["ps", "--socket", "/nowhere/control.sock"];
    let forced = command(&failing).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(stderr(&forced).contains("\u{1b}["), "{}", stderr(&forced));
    let forbidden = command(&failing).envs([("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).output().unwrap();
    assert!(!stderr(&forbidden).contains('\u{1b}'), "{}", stderr(&forbidden));
}

#[test]
fn a_terminal_is_coloured_unless_that_is_not_wanted() {
    let program = env!("CARGO_BIN_EXE_frame");
    let on_terminal = |environment: &str| {
        let mut script = Command::new("script");
        script.args([
            "-qec",
            &format!("{environment} {program} ps --socket /nowhere/control.sock"),
            "/dev/null",
        ]);
        script.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
        script.output().ok().map(|output| (output.status.code(), output.stdout))
    };
    let (Some((code, coloured)), Some((_, plain))) = (on_terminal(""), on_terminal("NO_COLOR=1")) else {
        eprintln!("not tried: there is no `script`, which has a terminal");
        return;
    };
    assert_eq!(code, Some(8));
    assert!(coloured.contains(&0x1b), "{}", String::from_utf8_lossy(&coloured));
    assert!(!plain.contains(&0x1b), "{}", String::from_utf8_lossy(&plain));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = command(&["options"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    assert_eq!(frame_given(&["completions", "bash"], b"").status.code(), Some(0));
}
