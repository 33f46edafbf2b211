//! Modules of scripts.

mod fs;
mod http;
mod net;

pub use self::fs::FsModule;
