//! Two resolvers of one pair, each making a pair of the option it covers.

#[macro_use]
mod linked;

linked!(options, 2);
