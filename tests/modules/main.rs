//! What scripts and components reach of the world, by the frame of the call that runs.

mod egress;
mod first_tests;
#[cfg(unix)]
mod fs;
mod http;
mod http_forms;
mod http_guide;
mod http_streams;
mod json;
#[cfg(unix)]
mod lua_reference;
mod net;
#[path = "../../src/command/demo/relay.rs"]
#[allow(dead_code)]
mod relay;
mod secrets;
mod support;
#[path = "../shared/tls_server.rs"]
mod tls_server;
mod trace;
#[cfg(feature = "wasm")]
mod wasi_http;
mod websocket;
