//! Measures each case three ways: time with criterion, instructions with callgrind, allocations with a counting
//! allocator; then prints one table.
//!
//! Callgrind needs a process of its own: the program starts itself once more under valgrind, and there runs
//! each case a fixed number of times.

pub(crate) mod callgrind;

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use criterion::Criterion;
use frame_benches::{CountingAllocator, allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// How often callgrind sees a case.
const REPEATS: u32 = 1000;

/// Cases that are compared with each other: the first is what the ratios are of.
pub(crate) struct Suite {
    name: &'static str,
    mode: Mode,
}

enum Mode {
    Measure {
        criterion: Box<Criterion>,
        rows: Vec<Row>,
    },
    /// This is the process under valgrind.
    Count,
}

struct Row {
    case: String,
    allocations: u64,
}

impl Suite {
    pub(crate) fn new(name: &'static str) -> Self {
        if callgrind::is_child() {
            callgrind::counted(REPEATS, || ());
            return Self { name, mode: Mode::Count };
        }
        let criterion = Criterion::default()
            .without_plots()
            .output_directory(&output_directory())
            .sample_size(40)
            .nresamples(10_000)
            .warm_up_time(Duration::from_millis(150))
            .measurement_time(Duration::from_millis(500))
            .configure_from_args();
        Self { name, mode: Mode::Measure { criterion: Box::new(criterion), rows: Vec::new() } }
    }

    /// Measures `work`, which does the same at each call.
    pub(crate) fn case(&mut self, case: &str, mut work: impl FnMut()) -> &mut Self {
        work();
        match &mut self.mode {
            Mode::Count => callgrind::counted(REPEATS, work),
            Mode::Measure { criterion, rows } => {
                let before = allocations();
                work();
                let allocations = allocations() - before;
                criterion.bench_function(&format!("{}/{case}", self.name), |bencher| bencher.iter(&mut work));
                rows.push(Row { case: case.to_owned(), allocations });
            }
        }
        self
    }

    /// How often `case` allocated.
    #[allow(dead_code, reason = "not every benchmark asks")]
    pub(crate) fn allocations(&self, case: &str) -> Option<u64> {
        match &self.mode {
            Mode::Count => None,
            Mode::Measure { rows, .. } => rows.iter().find(|row| row.case == case).map(|row| row.allocations),
        }
    }

    /// Prints the table; says whether this is the process that does.
    pub(crate) fn finish(self) -> bool {
        let Mode::Measure { rows, .. } = &self.mode else { return false };
        let counts = callgrind::run_child().map(|counts| per_repeat(&counts));
        let times: Vec<_> = rows.iter().map(|row| self.median(&row.case)).collect();
        println!("\n| {} | ns | × | instructions | allocations |", self.name);
        println!("|---|---:|---:|---:|---:|");
        for (index, row) in rows.iter().enumerate() {
            let time = times[index].map_or_else(|| "–".to_owned(), |time| format!("{time:.1}"));
            let ratio = match (times[0], times[index]) {
                (Some(first), Some(time)) => format!("{:.2}", time / first),
                _ => "–".to_owned(),
            };
            let count =
                counts.as_ref().map_or_else(|| "–".to_owned(), |counts| format!("{:.0}", counts[index]));
            println!("| {} | {time} | {ratio} | {count} | {} |", row.case, row.allocations);
        }
        println!();
        true
    }

    /// The median that criterion wrote down, in nanoseconds; `None` where a filter left the case out.
    fn median(&self, case: &str) -> Option<f64> {
        let id = format!("{}/{case}", self.name).replace(['/', '?', '*', '"', '\\', ':', '<', '>', '|'], "_");
        let file = output_directory().join(id).join("new/estimates.json");
        let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        estimates["median"]["point_estimate"].as_f64()
    }
}

/// The instructions of each case, less those of the empty one, which came first.
fn per_repeat(counts: &[u64]) -> Vec<f64> {
    #[allow(clippy::cast_precision_loss)]
    let repeat = |&count: &u64| count as f64 / f64::from(REPEATS);
    let mut cases = counts.iter().skip(1).step_by(2).map(repeat);
    let empty = cases.next().unwrap_or_default();
    cases.map(|case| case - empty).collect()
}

/// `target/criterion`, seen from the program in `target/release/deps`.
fn output_directory() -> PathBuf {
    let program = std::env::current_exe().expect("the system knows the program");
    program.ancestors().nth(3).expect("the program is in `target/release/deps`").join("criterion")
}

/// Keeps the optimiser from knowing what is behind the reference.
#[inline]
pub(crate) fn opaque<T: ?Sized>(value: &T) -> &T {
    black_box(value)
}
