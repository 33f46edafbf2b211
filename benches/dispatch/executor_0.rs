//! Calls through 0 resolvers.

#[macro_use]
mod executor;

executor!(0);
