//! How many processes a second are started and end, and how many messages they send: beside ractor and kameo, in turns
//! within one run, so that a clock that changes its mind changes it for all of them. A ratio is the median of the ratios
//! of the turns.

// The modules are shared with what measures memory.
#![allow(dead_code)]

mod contenders;
mod frames;
mod with_kameo;
mod with_ractor;

use std::fs;
use std::time::Instant;

use contenders::{Contender, MANY, NAMES};
use tokio::runtime::{Builder, Runtime};

/// How many messages a mailbox has room for, but those of ractor.
const MAILBOX: usize = 1024;

const TURNS: usize = 15;

/// What is compared, and how often it is done in one turn.
const WORK: [(&str, u32); 6] = [
    ("start, exit, one after the other", 10_000),
    ("start, exit, 10 000 at once", 10_000),
    ("round trip of a message", 50_000),
    ("call and reply", 50_000),
    ("message, 1 to 1", 160_000),
    ("message, 16 to 1", 160_000),
];

async fn work(contender: &Contender, case: usize) {
    let count = WORK[case].1;
    match case {
        0 => contender.exec(count).await,
        1 => contender.exec_all(count).await,
        2 => contender.round_trips(count).await,
        3 => contender.calls(count).await,
        4 => contender.one_to_one(count).await,
        _ => contender.many_to_one(count).await,
    }
}

/// Nanoseconds for each of what was done, by the clock and of the processors' time.
#[derive(Clone, Copy)]
struct Cost {
    clock: f64,
    processor: f64,
}

#[allow(clippy::cast_precision_loss)]
fn cost(runtime: &Runtime, contender: &Contender, case: usize) -> Cost {
    let (begun, processor) = (Instant::now(), processor_time());
    runtime.block_on(work(contender, case));
    let count = f64::from(WORK[case].1);
    Cost {
        clock: begun.elapsed().as_nanos() as f64 / count,
        processor: (processor_time() - processor) as f64 / count,
    }
}

/// Nanoseconds that the kernel has given to the threads of this program.
fn processor_time() -> u64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux tells");
    let texts =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    texts.filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn table(title: &str, runtime: &Runtime) {
    let contenders = runtime.block_on(Contender::all());
    println!("\n| {title} |  | ns | a second | × | processor ns | × |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    for (case, (what, _)) in WORK.iter().enumerate() {
        let mut costs: [Vec<Cost>; 3] = Default::default();
        for round in 0..=TURNS {
            for place in 0..contenders.len() {
                // Nobody is always first, or always after the same other.
                let place = if round % 2 == 0 { place } else { contenders.len() - 1 - place };
                let index = (place + round / 2) % contenders.len();
                let cost = cost(runtime, &contenders[index], case);
                // The first turn warms up.
                if round > 0 {
                    costs[index].push(cost);
                }
            }
        }
        for (index, name) in NAMES.iter().enumerate() {
            let of = |of: fn(&Cost) -> f64| median(costs[index].iter().map(of));
            let ratio = |of: fn(&Cost) -> f64| {
                median(costs[index].iter().zip(&costs[0]).map(|(this, ours)| of(this) / of(ours)))
            };
            let (clock, processor) = (of(|cost| cost.clock), of(|cost| cost.processor));
            println!(
                "| {what} | {name} | {clock:.0} | {:.0} | {:.2} | {processor:.0} | {:.2} |",
                1e9 / clock,
                ratio(|cost| cost.clock),
                ratio(|cost| cost.processor),
            );
        }
    }
}

fn main() {
    assert_eq!(MANY, 16);
    let one = Builder::new_current_thread().enable_time().build().expect("this machine can");
    table("on one thread", &one);
    drop(one);
    let two = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("this machine can");
    table("on two workers", &two);
}
