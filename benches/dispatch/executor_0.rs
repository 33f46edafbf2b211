//! Calls through 0 resolvers.

mod at_once;
#[path = "../harness/mod.rs"]
mod harness;
#[macro_use]
mod executor;

executor!(0);
