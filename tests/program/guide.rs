//! The guide's commands run, and print what the guide shows.
//!
//! In a page, an HTML comment before a block of code marks it. `<!-- file: NAME -->` writes the block to a file.
//! `<!-- run -->` runs a block of commands, in a directory that all blocks of the page share, with the
//! repository's `examples` in it. `$FRAME` is the repository.
//!
//! A command is a line that begins with `$ `, and the lines after it are its standard output. If it fails, its
//! standard error follows without the records of the log. `…` in a line stands for any text, and a line of it for
//! any lines. A command without lines has to succeed, and may print anything.
//!
//! `<!-- run: rust -->` needs a toolchain. It runs if the variable `FRAME_TEST_TOOLCHAINS`, such as `rust,python`,
//! names it, and is skipped with a message otherwise.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// Far more than any command of the guide takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// A block of code that a comment marks.
enum Block<'a> {
    File { name: &'a str, text: &'a str },
    Commands { toolchain: Option<&'a str>, commands: Vec<Shown<'a>> },
}

/// A command, and the lines that the page shows after it.
struct Shown<'a> {
    command: &'a str,
    lines: Vec<&'a str>,
}

/// The marked blocks of a page, in their order.
fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for marked in page.split("<!-- ").skip(1) {
        let (mark, rest) = marked.split_once(" -->\n").expect("a comment ends");
        let (_, text) = rest.split_once('\n').expect("a block of code follows");
        let text = text.split("\n```").next().expect("it ends");
        assert!(rest.starts_with("```"), "`{mark}` marks no block of code");
        blocks.push(match mark.split_once(": ") {
            Some(("file", name)) => Block::File { name, text },
            Some(("run", toolchain)) => {
                Block::Commands { toolchain: Some(toolchain), commands: commands(text) }
            }
            None if mark == "run" => Block::Commands { toolchain: None, commands: commands(text) },
            _ => panic!("a block is marked `{mark}`"),
        });
    }
    blocks
}

fn commands(text: &str) -> Vec<Shown<'_>> {
    let mut commands: Vec<Shown<'_>> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push(Shown { command, lines: Vec::new() }),
            (None, Some(last)) => last.lines.push(line),
            (None, None) => panic!("`{line}` is the output of no command"),
        }
    }
    commands
}

/// A directory with the files of a page.
struct Reader {
    directory: TempDir,
    running: Vec<Child>,
}

impl Reader {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        std::os::unix::fs::symlink(examples, directory.path().join("examples")).expect("it is empty");
        Self { directory, running: Vec::new() }
    }

    /// A shell that finds the program, as it was built, as `frame`.
    fn shell(&self, command: &str) -> Command {
        let mut shell = super::command(&[]);
        let program = PathBuf::from(shell.get_program());
        let directory = program.parent().expect("it is in a directory").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(directory).chain(std::env::split_paths(&path));
        shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(self.directory.path());
        shell.env("PATH", std::env::join_paths(paths).expect("they have no colons"));
        shell.env_remove("CARGO_TARGET_DIR").env("FRAME", env!("CARGO_MANIFEST_DIR"));
        shell.env("XDG_RUNTIME_DIR", self.directory.path()).stdin(Stdio::null()).process_group(0);
        shell
    }

    /// Runs a command. Returns what a terminal shows of it, and whether it succeeded.
    fn run(&mut self, command: &str) -> (String, bool) {
        if let Some(command) = command.strip_suffix(" &") {
            let mut shell = self.shell(&format!("exec {command}"));
            let child = shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("there is a shell");
            self.running.push(child);
            self.wait_until_up(command);
            return (String::new(), true);
        }
        let output = self.shell(command).output().expect("there is a shell");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            for line in errors.lines().filter(|line| !is_record(line)) {
                text.push_str(line);
                text.push('\n');
            }
        }
        (text, output.status.success())
    }

    /// Waits for the app that `frame run` has started.
    fn wait_until_up(&mut self, command: &str) {
        let manifest = command.strip_prefix("frame run ").expect("only `frame run` is run beside others");
        let began = Instant::now();
        while !self
            .shell(&format!("frame ps {manifest}"))
            .output()
            .expect("there is a shell")
            .status
            .success()
        {
            let ended = self.running.last_mut().and_then(|child| child.try_wait().expect("it is a child"));
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "`{command}` is not up: {ended:?}");
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for child in &mut self.running {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process_group(pid, Signal::KILL));
            let _ = child.wait();
        }
    }
}

/// Returns whether a line is a record of the log, which has a time in it.
fn is_record(line: &str) -> bool {
    ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"]
        .iter()
        .any(|level| line.split_whitespace().take(2).any(|word| word == *level))
}

/// Returns whether `text` is what the page shows.
fn is_shown(shown: &[&str], text: &[&str]) -> bool {
    match shown.split_first() {
        None => text.is_empty(),
        Some((&"…", rest)) => (0..=text.len()).any(|skipped| is_shown(rest, &text[skipped..])),
        Some((line, rest)) => {
            text.split_first().is_some_and(|(first, text)| is_line(line, first) && is_shown(rest, text))
        }
    }
}

fn is_line(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    true
}

/// Returns whether the commands of a toolchain are to be run.
fn has(toolchain: &str) -> bool {
    let toolchains = std::env::var("FRAME_TEST_TOOLCHAINS").unwrap_or_default();
    toolchains.split(',').any(|named| named == toolchain)
}

/// Runs the marked blocks of a page. Returns how many commands there were.
fn follow(page: &Path) -> usize {
    let text = fs::read_to_string(page).expect("it is text");
    let mut reader = Reader::new();
    let mut ran = 0;
    for block in blocks(&text) {
        match block {
            Block::File { name, text } => {
                let path = reader.directory.path().join(name);
                fs::create_dir_all(path.parent().expect("it is in a directory")).expect("it can be made");
                let included = text.strip_prefix("{{#include ").and_then(|path| path.strip_suffix("}}"));
                let text = match included {
                    Some(included) => fs::read_to_string(page.with_file_name(included)).expect("it is text"),
                    None => format!("{text}\n"),
                };
                fs::write(path, text).expect("it can be written");
            }
            Block::Commands { toolchain: Some(toolchain), .. } if !has(toolchain) => {
                eprintln!("SKIPPED: {} needs `{toolchain}` in FRAME_TEST_TOOLCHAINS", page.display());
            }
            Block::Commands { commands, .. } => {
                for Shown { command, lines } in commands {
                    let (printed, succeeded) = reader.run(command);
                    let shown = lines.iter().copied().filter(|line| !line.is_empty()).collect::<Vec<_>>();
                    let text = printed.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>();
                    let page = page.display();
                    assert!(
                        if shown.is_empty() { succeeded } else { is_shown(&shown, &text) },
                        "{page}: `{command}` prints\n{printed}\nand the page shows\n{}",
                        lines.join("\n")
                    );
                    ran += 1;
                }
            }
        }
    }
    ran
}

#[test]
fn commands_of_the_guide_print_what_it_shows() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src");
    let mut pages = fs::read_dir(&guide)
        .expect("there is a guide")
        .map(|page| page.expect("it can be read").path())
        .collect::<Vec<_>>();
    pages.sort();
    let ran: usize = pages.iter().map(|page| follow(page)).sum();
    assert!(ran >= 10, "{ran}");
}

#[test]
fn dots_stand_for_text_and_for_lines() {
    assert!(is_shown(&["a … c", "…", "z"], &["a b c", "d", "e", "z"]));
    assert!(is_shown(&["…"], &[]));
    assert!(!is_shown(&["a … c"], &["a b d"]));
    assert!(!is_shown(&["a"], &["a", "b"]));
}
