//! Calls through 2 resolvers.

#[macro_use]
mod executor;

executor!(2);
