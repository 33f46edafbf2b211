//! Runs a test in namespaces of its own: the part of `frame-net`'s test servers that other test programs need.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    unreachable_pub,
    missing_docs,
    reason = "only what runs a test in namespaces is of use here"
)]

#[path = "../../net/tests/servers/namespace.rs"]
pub(crate) mod namespace;
#[path = "../../net/tests/servers/port.rs"]
pub(crate) mod port;
#[path = "../../net/tests/servers/program.rs"]
pub(crate) mod program;
