//! One resolver of one pair, whose values are inline.

#[macro_use]
mod linked;

linked!(inline, 1);
