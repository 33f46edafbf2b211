//! Calls through 2 resolvers.

#[path = "../harness/mod.rs"]
mod harness;
#[macro_use]
mod executor;

executor!(2);
