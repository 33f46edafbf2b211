//! What the tests of this package share: little Cargo projects, and a look into the programs they make.

mod elf;
mod project;

pub use elf::Program;
pub use project::{BuildOptions, Built, Project, run, workspace};
