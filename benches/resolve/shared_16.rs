//! Sixteen resolvers of one pair, whose values are behind an `Arc`.

#[path = "../harness/mod.rs"]
mod harness;
#[macro_use]
mod linked;

linked!(shared, 16);
