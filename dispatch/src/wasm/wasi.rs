//! WASI, with nothing of the host in it but its clocks and its randomness.

use wasmtime::StoreContextMut;
use wasmtime::component::{Component, Linker, Resource};
use wasmtime_wasi::p2::bindings::io::streams::{Host as _, StreamError};
use wasmtime_wasi::p2::{self, DynOutputStream};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiView};

use super::state::State;
use super::stdio::{LogStream, Stream};
use crate::log::Log;

/// Adds the interfaces of WASI. Those of sockets and of name lookup are among them, because what is built with a standard
/// library imports them whether it uses them or not; they deny everything, for [`context`] allows nothing.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    linker.instance(STREAMS)?.func_wrap(
        "[method]output-stream.write",
        |mut store: StoreContextMut<'_, State>, (stream, bytes): (Resource<DynOutputStream>, Vec<u8>)| {
            Ok((write(store.data_mut(), &stream, bytes)?,))
        },
    )
}

/// What the linker of wasmtime has streams under.
const STREAMS: &str = "wasi:io/streams@0.2.12";

/// Writes no more than the stream has said that it takes, as the interface has it. Wasmtime leaves that to the streams, and
/// those of files keep whatever is written until the system has taken it.
fn write(
    state: &mut State,
    stream: &Resource<DynOutputStream>,
    bytes: Vec<u8>,
) -> wasmtime::Result<Result<(), StreamError>> {
    let table = WasiView::ctx(state).table;
    let stream = table.get_mut(stream)?;
    let written = match stream.check_write() {
        Ok(permit) if bytes.len() > permit => {
            Err(p2::StreamError::trap("more is written at once than `check-write` allows"))
        }
        Ok(_) => stream.write(bytes.into()),
        Err(error) => Err(error),
    };
    Ok(match written {
        Ok(()) => Ok(()),
        Err(error) => Err(table.convert_stream_error(error)?),
    })
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
