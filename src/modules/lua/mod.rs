//! Modules of scripts.

mod fs;
mod headers;
mod held;
mod http;
mod json;
mod members;
mod net;
mod websocket;

pub use self::fs::FsModule;
pub use self::http::HttpModule;
pub use self::json::JsonModule;
pub use self::net::NetModule;
pub use self::websocket::WebSocketModule;
