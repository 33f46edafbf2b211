//! Calls through 1 resolvers.

#[macro_use]
mod executor;

executor!(1);
