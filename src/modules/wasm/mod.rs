//! What components import.

mod fs;
mod http;

pub use self::fs::FsModule;
pub use self::http::HttpModule;

/// How many resources a call has handles of at once, of all interfaces together, once it has used files or `wasi:http`:
/// lists of directories, headers, bodies, streams and what to wait for among them. Each is memory of the host.
const MAX_RESOURCES: usize = 1024;
