//! Calls through 8 resolvers.

#[macro_use]
mod executor;

executor!(8);
