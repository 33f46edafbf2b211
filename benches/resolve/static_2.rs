//! Two resolvers of one pair, whose values are statics.

#[macro_use]
mod linked;

linked!(static, 2);
