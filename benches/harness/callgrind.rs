//! Counts instructions by running the program once more under `valgrind --tool=callgrind`.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

/// Set in the process under valgrind.
const MODE: &str = "FRAME_BENCHES_UNDER_CALLGRIND";

pub(crate) fn is_child() -> bool {
    std::env::var_os(MODE).is_some()
}

/// Repeats `work`. Callgrind writes down what ran before this is called, and what runs until it ends.
pub(crate) fn counted(repeats: u32, mut work: impl FnMut()) {
    count_begins();
    for _ in 0..repeats {
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

/// The instructions of the child process: before the first [`counted`], in it, before the second, in it, and so on.
/// `None` where there is no valgrind.
pub(crate) fn run_child() -> Option<Vec<u64>> {
    let program = std::env::current_exe().ok()?;
    let directory = program.with_extension("callgrind");
    fs::create_dir_all(&directory).ok()?;
    let out = format!("--callgrind-out-file={}/out", directory.display());
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", &out])
        .args(["--dump-before=*count_begins*", "--dump-before=*count_ends*"])
        .arg(&program)
        .env(MODE, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let counts = match status {
        Ok(status) if status.success() => read(&directory),
        _ => None,
    };
    if counts.is_none() {
        eprintln!("no instruction counts: `valgrind --tool=callgrind` did not run");
    }
    let _ = fs::remove_dir_all(&directory);
    counts
}

/// The dumps are files `out.1`, `out.2`, …; what ran after the last is in `out`.
fn read(directory: &Path) -> Option<Vec<u64>> {
    let files = (1..).map_while(|number| fs::read_to_string(directory.join(format!("out.{number}"))).ok());
    files
        .map(|text| text.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok())
        .collect()
}
