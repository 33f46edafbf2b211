//! The program `frame`, as a library: for programs that are the same and have options of their own.
//!
//! An option is declared and resolved where a crate says so, with [`frame_registry`]; that crate has to be linked in, and
//! nothing here is edited for it:
//!
//! ```no_run
//! // The crate with the option and its resolver.
//! # mod tenant {}
//! use tenant as _;
//!
//! fn main() -> std::process::ExitCode {
//!     frame_runtime::main()
//! }
//! ```
//!
//! # Cargo features
//!
//! - `otlp` (default): traces are sent to an OpenTelemetry collector, where the manifest names one.
//! - `wasm` (default): functions and processes that are WebAssembly components. Needs rustc 1.95.

mod app;
mod command;
mod demo;
pub mod explain;
pub mod manifest;
pub mod modules;
mod options;
mod report;
mod telemetry;

pub use crate::command::main;
pub use crate::options::{fs_root, trace};
