//! Standard output and error of a guest: lines of the log.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio_util::bytes::Bytes;
use tracing::Level;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::log::{LONGEST, Log};

/// Which of the two it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Writes each line to the log. However often a guest opens it, it is one stream.
#[derive(Clone)]
pub(crate) struct LogStream {
    line: Arc<Mutex<Line>>,
}

/// What was written since the last line ended; at most as long as a message can be.
struct Line {
    log: Log,
    stream: Stream,
    text: Vec<u8>,
}

impl LogStream {
    pub(crate) fn new(log: &Log, stream: Stream) -> Self {
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
            Stream::Stdout => (Level::INFO, "stdout"),
            Stream::Stderr => (Level::WARN, "stderr"),
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
        // Nobody else looks at it. It is not only the interface's rule: all of the lines are written in one go.
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
