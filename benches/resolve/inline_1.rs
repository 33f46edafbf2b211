//! One resolver of one pair, whose values are inline.

#[path = "../harness/mod.rs"]
mod harness;
#[macro_use]
mod linked;

linked!(inline, 1);
