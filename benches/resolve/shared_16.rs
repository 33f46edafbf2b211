//! Sixteen resolvers of one pair, whose values are behind an `Arc`.

#[macro_use]
mod linked;

linked!(shared, 16);
