//! What components import.

mod fs;
mod http;

pub use self::http::HttpModule;
