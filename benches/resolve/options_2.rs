//! Two resolvers of one pair, each making a pair of the option it covers.

#[path = "../harness/mod.rs"]
mod harness;
#[macro_use]
mod linked;

linked!(options, 2);
