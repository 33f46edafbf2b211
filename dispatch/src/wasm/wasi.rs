//! WASI, with nothing of the host in it but its clocks and its randomness.

use wasmtime::component::{Component, Linker};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use super::state::State;
use super::stdio::{LogStream, Stream};
use crate::log::Log;

/// Adds the interfaces of WASI. Those of sockets and of name lookup are among them, because what is built with a standard
/// library imports them whether it uses them or not; they deny everything, for [`context`] allows nothing.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

/// Whether a component imports any of WASI.
pub(crate) fn is_imported(component: &Component) -> bool {
    component.component_type().imports(component.engine()).any(|(name, _)| name.starts_with("wasi:"))
}

/// How many random bytes a guest gets at once: the host holds them before the guest does.
const LARGEST_RANDOM: u64 = 1 << 20;

/// No arguments, no environment, no directories, no sockets, no names; standard input is at its end, and what is
/// written to standard output and error goes to the log.
pub(crate) fn context(log: &Log) -> WasiCtxBuilder {
    let mut wasi = WasiCtx::builder();
    // That is what a builder starts with. It is said once more, because all of the sandbox hangs on it.
    wasi.allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .socket_addr_check(|_, _| Box::pin(async { false }))
        .max_random_size(LARGEST_RANDOM)
        .stdout(LogStream::new(log, Stream::Stdout))
        .stderr(LogStream::new(log, Stream::Stderr));
    wasi
}
