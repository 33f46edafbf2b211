//! What a program pays before `main`, and at the first and the second use of its table.

#[path = "../harness/callgrind.rs"]
mod callgrind;

use std::process::Command;
use std::time::Instant;

use frame_benches::{CountingAllocator, allocations};
use frame_registry::{App, Options, Pairs, ResolveContext};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Set in a process that is to use its table and say how that went.
const ONCE: &str = "FRAME_BENCHES_ONCE";
const PROCESSES: usize = 31;
/// Room for the pairs of all resolvers, so that the table's own allocations are left.
const ROOM: usize = 1000;

/// Uses the table twice in each of many processes, for there is a first time only once in each, and prints a table;
/// says whether this is the process that does.
pub(crate) fn measure(
    name: &str,
    mut resolve: impl FnMut(&ResolveContext<'_>, &Options, &mut Pairs),
) -> bool {
    let app = App::builder().build();
    let (ctx, options) = (ResolveContext::new(&app, None), Options::new());
    let mut lists = [Pairs::with_capacity(ROOM), Pairs::with_capacity(ROOM)];
    if callgrind::is_child() {
        for pairs in &mut lists {
            callgrind::counted(1, || resolve(&ctx, &options, pairs));
        }
        return false;
    }
    if std::env::var_os(ONCE).is_some() {
        for pairs in &mut lists {
            let before = allocations();
            let start = Instant::now();
            resolve(&ctx, &options, pairs);
            let time = start.elapsed().as_nanos();
            println!("{time} {} {}", allocations() - before, pairs.len());
        }
        return false;
    }

    let mut runs: Vec<[u64; 6]> = (0..PROCESSES).map(|_| process()).collect();
    runs.sort_unstable();
    let [first_time, first_allocations, count, second_time, second_allocations, _] = runs[PROCESSES / 2];
    let (before, first, second) = match callgrind::run_child().as_deref() {
        Some(&[before, first, _, second]) => (before.to_string(), first.to_string(), second.to_string()),
        _ => ("–".to_owned(), "–".to_owned(), "–".to_owned()),
    };
    println!("\n| {name}, {count} resolvers | instructions | ns | allocations |");
    println!("|---|---:|---:|---:|");
    println!("| until `main` has begun, {} | {before} | – | – |", constructors());
    println!("| first use | {first} | {first_time} | {first_allocations} |");
    println!("| second use | {second} | {second_time} | {second_allocations} |");
    println!();
    true
}

/// How many functions the loader calls before `main`; Rust's own runtime and the compiler's make two of them.
fn constructors() -> String {
    let program = std::env::current_exe().expect("the system knows the program");
    let output = Command::new("readelf").args(["--sections", "--wide"]).arg(program).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let line = text.lines().find(|line| line.contains("INIT_ARRAY"));
    // Behind the type: address, offset, size.
    let size = line.and_then(|line| line.split("INIT_ARRAY").nth(1)?.split_whitespace().nth(2));
    match size.and_then(|size| usize::from_str_radix(size, 16).ok()) {
        Some(size) => format!("{} constructors", size / size_of::<usize>()),
        None => "constructors unknown".to_owned(),
    }
}

/// Time, allocations and pairs, of the first use and of the second.
fn process() -> [u64; 6] {
    let program = std::env::current_exe().expect("the system knows the program");
    let output = Command::new(program).env(ONCE, "1").output().expect("it has run before");
    let text = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().expect("numbers")).collect();
    numbers.try_into().expect("six numbers")
}
