//! Modules of scripts.

mod fs;
mod http;
mod net;
