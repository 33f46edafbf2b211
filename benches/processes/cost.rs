//! What a process and a message cost in instructions and allocations, beside ractor and kameo, on one thread.

// The modules are those of the rates, which use all that is in them.
#![allow(dead_code)]

mod contenders;
mod frames;
#[path = "../harness/mod.rs"]
mod harness;
mod with_kameo;
mod with_ractor;

use contenders::{Contender, NAMES};
use harness::{Suite, opaque};
use tokio::runtime::Builder;

/// How many messages a mailbox has room for, but those of ractor.
const MAILBOX: usize = 1024;

fn main() {
    let runtime = Builder::new_current_thread().enable_time().build().expect("this machine can");
    let contenders = runtime.block_on(Contender::all());
    let each = || contenders.iter().zip(NAMES);

    let mut suite = Suite::new("processes");
    for (contender, name) in each() {
        suite.case(&format!("start, exit: {name}"), || runtime.block_on(opaque(contender).exec(1)));
    }
    for (contender, name) in each() {
        let case = format!("100 round trips: {name}");
        suite.case(&case, || runtime.block_on(opaque(contender).round_trips(100)));
    }
    for (contender, name) in each() {
        let case = format!("100 calls and replies: {name}");
        suite.case(&case, || runtime.block_on(opaque(contender).calls(100)));
    }
    for (contender, name) in each() {
        let case = format!("100 messages, 1 to 1: {name}");
        suite.case(&case, || runtime.block_on(opaque(contender).one_to_one(100)));
    }
    suite.finish();
}
