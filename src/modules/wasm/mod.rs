//! What components import.

mod fs;
mod http;

pub use self::fs::FsModule;
pub use self::http::HttpModule;
