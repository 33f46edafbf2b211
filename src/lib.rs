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

pub mod app;
pub mod audit;
mod command;
#[cfg(unix)]
mod control;
#[cfg(unix)]
mod descriptors;
mod exit;
pub mod explain;
mod files;
pub mod manifest;
pub mod modules;
mod options;
mod report;
pub mod telemetry;
mod threads;

pub use crate::command::main;
pub use crate::options::{fs_root, spawn, trace};

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The guide's code compiles, and runs.
#[cfg(doctest)]
mod guide {
    macro_rules! chapters {
        ($($chapter:ident = $file:literal,)*) => {
            $(#[doc = include_str!(concat!("../docs/src/", $file))] pub mod $chapter {})*
        };
    }

    chapters! {
        introduction = "introduction.md",
        adding_an_option = "adding-an-option.md",
        overlays = "overlays.md",
        processes = "processes.md",
        embedding = "embedding.md",
        testing = "testing.md",
        extending = "extending.md",
    }
}
