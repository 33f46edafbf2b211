//! Counts instructions by running the program once more under `valgrind --tool=callgrind`.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

/// Set in the process under valgrind.
const MODE: &str = "FRAME_BENCHES_UNDER_CALLGRIND";
const REPEATS: u32 = 1000;

pub(crate) fn is_child() -> bool {
    std::env::var_os(MODE).is_some()
}

/// Repeats `work`. Callgrind writes down what ran before this is called, and what ran until it ends.
pub(crate) fn counted(mut work: impl FnMut()) {
    count_begins();
    for _ in 0..REPEATS {
        black_box(&mut work)();
    }
    count_ends();
}

#[inline(never)]
fn count_begins() {
    black_box("begins");
}

#[inline(never)]
fn count_ends() {
    black_box("ends");
}

/// The instructions of one repeat of each case in the order they ran, the empty one of `Suite::new` first; `None`
/// where there is no valgrind.
pub(crate) fn run_children() -> Option<Vec<f64>> {
    let dumps = dumps(&["--dump-before=*count_begins*", "--dump-before=*count_ends*"])?;
    let counted = dumps.iter().filter(|dump| dump.trigger.contains("count_ends"));
    #[allow(clippy::cast_precision_loss)]
    Some(counted.map(|dump| dump.instructions as f64 / f64::from(REPEATS)).collect())
}

/// A part of the profile: what ran between two triggers.
pub(crate) struct Dump {
    pub(crate) trigger: String,
    pub(crate) instructions: u64,
}

/// Runs this program under callgrind with `options` and reads what it dumps.
pub(crate) fn dumps(options: &[&str]) -> Option<Vec<Dump>> {
    let program = std::env::current_exe().ok()?;
    let directory = program.with_extension("callgrind");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).ok()?;
    let out = format!("--callgrind-out-file={}/out", directory.display());
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", &out])
        .args(options)
        .arg(&program)
        .env(MODE, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("no instruction counts: `valgrind --tool=callgrind` did not run");
        return None;
    }
    let dumps = read(&directory);
    let _ = fs::remove_dir_all(&directory);
    dumps
}

/// The dumps are files `out.1`, `out.2`, …; what ran after the last is in `out`.
fn read(directory: &Path) -> Option<Vec<Dump>> {
    let mut dumps = Vec::new();
    for number in 1.. {
        let Ok(text) = fs::read_to_string(directory.join(format!("out.{number}"))) else { break };
        dumps.push(parse(&text)?);
    }
    Some(dumps)
}

fn parse(text: &str) -> Option<Dump> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(Dump {
        trigger: field("desc: Trigger:")?.to_owned(),
        instructions: field("totals:").or_else(|| field("summary:"))?.parse().ok()?,
    })
}
