//! What the engines of scripts and components share: slices of time on a thread, and the clock that ends them.

pub(crate) mod clock;
#[cfg(feature = "lua")]
pub(crate) mod signal;
mod slices;
mod sync;
mod unit;

pub(crate) use self::unit::Unit;
