//! What an idle process takes: bytes of the heap, as they were asked for, and what the program grows by. Beside actors of
//! ractor and kameo; with the feature `engines`, processes that are scripts and components as well.
//!
//! What one kind gave back the next one uses, so that growth says something of components alone, which are not on the heap.

// The modules are those of the rates, which use all that is in them.
#![allow(dead_code)]

#[cfg(feature = "engines")]
mod engines;
mod frames;
mod heap;
mod with_kameo;
mod with_ractor;

use tokio::runtime::Builder;

use frames::Frames;
use heap::CountingHeap;

#[global_allocator]
static HEAP: CountingHeap = CountingHeap;

/// How many messages a mailbox has room for, but those of ractor.
const MAILBOX: usize = 1024;

const NATIVE: usize = 100_000;

/// What there was, and what it grew by.
struct Growth {
    bytes: usize,
    resident: usize,
}

impl Growth {
    fn begin() -> Self {
        Self { bytes: heap::bytes(), resident: resident() }
    }

    #[allow(clippy::cast_precision_loss)]
    fn print(&self, what: &str, count: usize) {
        let each = |now: usize, before: usize| now.saturating_sub(before) as f64 / count as f64;
        let (bytes, resident) = (each(heap::bytes(), self.bytes), each(resident(), self.resident));
        println!("| {what} | {count} | {bytes:.0} | {resident:.0} |");
    }
}

/// Bytes of the program that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is one of the lines");
    let kib = line.trim().trim_end_matches(" kB").trim().parse::<usize>().expect("it is a number");
    kib * 1024
}

fn main() {
    let runtime = Builder::new_current_thread().enable_time().build().expect("this machine can");
    println!("| idle | how many | bytes of the heap | bytes resident |");
    println!("|---|---:|---:|---:|");
    runtime.block_on(async {
        let frames = Frames::new();
        let start = frames.of("bench:idle");
        // What grows once, such as the table, is there afterwards, and what ended is remembered.
        frames.idle(&start, NATIVE).await.end().await;
        let growth = Growth::begin();
        let idle = frames.idle(&start, NATIVE).await;
        growth.print("frame-dispatch, native", NATIVE);
        idle.end().await;

        with_ractor::end(with_ractor::idle(NATIVE).await).await;
        let growth = Growth::begin();
        let idle = with_ractor::idle(NATIVE).await;
        growth.print("ractor", NATIVE);
        with_ractor::end(idle).await;

        with_kameo::end(with_kameo::idle(NATIVE).await).await;
        let growth = Growth::begin();
        let idle = with_kameo::idle(NATIVE).await;
        growth.print("kameo", NATIVE);
        with_kameo::end(idle).await;

        #[cfg(feature = "engines")]
        engines::measure().await;
    });
}
