//! Modules of scripts.

mod fs;
mod http;
mod json;
mod members;
mod net;

pub use self::fs::FsModule;
pub use self::http::HttpModule;
pub use self::json::JsonModule;
pub use self::net::NetModule;
