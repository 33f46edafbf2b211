//! The connection, as the protocol sees it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::flood::{Flooded, FrameCounter};
use crate::network::BoxStream;

/// How many times the connection is read before other tasks have their turn. A server may send frames without end that
/// are no message.
const READS: u32 = 8;

/// A connection that is read and written without waiting: where it would have to, the error is `WouldBlock`, and the task
/// is woken when it is worth another try.
pub(super) struct Transport {
    stream: BoxStream,
    waker: Waker,
    reads_left: u32,
    has_received: bool,
    has_sent: bool,
    frames: FrameCounter,
    /// Whether there were too many frames. It is told with the next read, after the frames that came before.
    is_flooded: bool,
}

impl Transport {
    /// Of `stream`, on which `received` has arrived already.
    pub(super) fn new(stream: BoxStream, received: &[u8]) -> Self {
        let waker = Waker::noop().clone();
        let mut frames = FrameCounter::new();
        let is_flooded = frames.read(received).is_err();
        Self { stream, waker, reads_left: 0, has_received: false, has_sent: false, frames, is_flooded }
    }

    /// Notes that a ping is sent. Its answer does not count as part of a flood.
    pub(super) fn expect_pong(&mut self) {
        self.frames.expect_pong();
    }

    /// Begins a poll of the task that has the connection.
    pub(super) fn begin(&mut self, cx: &Context<'_>) {
        self.waker.clone_from(cx.waker());
        self.reads_left = READS;
    }

    /// Whether anything was received since the last time.
    pub(super) const fn take_received(&mut self) -> bool {
        std::mem::replace(&mut self.has_received, false)
    }

    /// Whether anything was sent since the last time.
    pub(super) const fn take_sent(&mut self) -> bool {
        std::mem::replace(&mut self.has_sent, false)
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn ready<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.reads_left.checked_sub(1) else {
            self.waker.wake_by_ref();
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if self.is_flooded {
            return Err(io::Error::other(Flooded));
        }
        let mut buffer = ReadBuf::new(buffer);
        let mut cx = Context::from_waker(&self.waker);
        ready(Pin::new(&mut self.stream).poll_read(&mut cx, &mut buffer))?;
        self.reads_left = left;
        let len = buffer.filled().len();
        self.has_received |= len > 0;
        self.is_flooded = self.frames.read(buffer.filled()).is_err();
        Ok(len)
    }
}

impl io::Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut cx = Context::from_waker(&self.waker);
        let len = ready(Pin::new(&mut self.stream).poll_write(&mut cx, bytes))?;
        self.has_sent |= len > 0;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut cx = Context::from_waker(&self.waker);
        ready(Pin::new(&mut self.stream).poll_flush(&mut cx))
    }
}
