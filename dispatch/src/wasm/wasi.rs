//! WASI, with nothing of the host in it but its clocks and its randomness. Standard output and error are lines of the log.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio_util::bytes::Bytes;
use tracing::Level;
use wasmtime::StoreContextMut;
use wasmtime::component::{Component, Linker, Resource};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::io::streams::{Host as _, StreamError as WasiStreamError};
use wasmtime_wasi::p2::{self, DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiView, async_trait};

use super::state::GuestState;
use crate::log::{LONGEST, Log};

/// Adds the interfaces of WASI. Those of sockets and of name lookup are among them, because what is built with a standard
/// library imports them whether it uses them or not; they deny everything, for [`context`] allows nothing.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    linker.instance(STREAMS)?.func_wrap(
        "[method]output-stream.write",
        |mut store: StoreContextMut<'_, GuestState>,
         (stream, bytes): (Resource<DynOutputStream>, Vec<u8>)| {
            Ok((write(store.data_mut(), &stream, bytes)?,))
        },
    )
}

/// What the linker of wasmtime has streams under.
const STREAMS: &str = "wasi:io/streams@0.2.12";

/// Writes no more than the stream has said that it takes, as the interface has it. Wasmtime leaves that to the streams, and
/// those of files keep whatever is written until the system has taken it.
fn write(
    state: &mut GuestState,
    stream: &Resource<DynOutputStream>,
    bytes: Vec<u8>,
) -> wasmtime::Result<Result<(), WasiStreamError>> {
    let table = WasiView::ctx(state).table;
    let stream = table.get_mut(stream)?;
    let written = match stream.check_write() {
        Ok(permit) if bytes.len() > permit => {
            Err(StreamError::trap("more is written at once than `check-write` allows"))
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
        .stdout(LogStream::new(log, StandardStream::Stdout))
        .stderr(LogStream::new(log, StandardStream::Stderr));
    wasi
}

/// A standard stream of a guest.
#[derive(Debug, Clone, Copy)]
enum StandardStream {
    Stdout,
    Stderr,
}

/// Writes each line to the log. However often a guest opens it, it is one stream.
#[derive(Clone)]
struct LogStream {
    line: Arc<Mutex<Line>>,
}

/// What was written since the last line ended; at most as long as a message can be.
struct Line {
    log: Log,
    stream: StandardStream,
    text: Vec<u8>,
}

impl LogStream {
    fn new(log: &Log, stream: StandardStream) -> Self {
        Self { line: Arc::new(Mutex::new(Line { log: log.clone(), stream, text: Vec::new() })) }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = LONGEST - self.text.len();
            let within = &bytes[..bytes.len().min(room)];
            if let Some(end) = within.iter().position(|byte| *byte == b'\n') {
                self.text.extend_from_slice(&within[..end]);
                self.end();
                bytes = &bytes[end + 1..];
            } else {
                self.text.extend_from_slice(within);
                bytes = &bytes[within.len()..];
                if self.text.len() == LONGEST {
                    self.end();
                }
            }
        }
    }

    fn end(&mut self) {
        let (level, stream) = match self.stream {
            StandardStream::Stdout => (Level::INFO, "stdout"),
            StandardStream::Stderr => (Level::WARN, "stderr"),
        };
        self.log.write(level, Some(stream), &String::from_utf8_lossy(&self.text), None);
        self.text.clear();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.end();
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // Only this checks it. It is more than the rule of the interface: all of the lines are written in one go.
        if bytes.len() > LONGEST {
            return Err(StreamError::trap("more is written at once than `check-write` allows"));
        }
        self.line().write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LONGEST)
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.line().write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
