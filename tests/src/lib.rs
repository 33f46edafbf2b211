//! What the tests of this package share: little Cargo projects, and a look into the programs they make.

#![allow(clippy::missing_panics_doc, reason = "a helper of tests fails by panicking")]

mod elf;
mod project;

pub use elf::Program;
pub use project::{BuildOptions, Built, Project, run, workspace};
