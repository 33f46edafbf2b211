//! What scripts and components reach of the world, each by the frame of the call that runs.

mod connect;
pub mod lua;
mod refusal;
pub(crate) mod units;
#[cfg(feature = "wasm")]
pub mod wasm;
