//! Two resolvers of one pair, whose values are statics.

#[path = "../harness/mod.rs"]
mod harness;
#[macro_use]
mod linked;

linked!(static, 2);
