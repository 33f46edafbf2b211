//! What components import.

mod fs;
mod http;
