//! What scripts and components reach of the world, each by the frame of the call that runs.

mod connect;
mod file_turns;
pub mod lua;
mod refusal;
#[cfg(feature = "wasm")]
pub mod wasm;
