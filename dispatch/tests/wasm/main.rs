//! Functions that are WebAssembly components.

mod bombs;
mod cache;
mod calls;
mod common;
mod ending;
mod engine;
mod hostile;
mod isolation;
mod limits;
mod modules;
mod processes;
mod wasi;
