//! A connection through a session.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::i2p::bridge::Socket;
use crate::i2p::session::Session;
use crate::network::BoxStream;

/// A socket of a bridge, once all that comes is from the other end. It keeps the session, which it is over without.
pub(super) struct I2pStream {
    inner: BoxStream,
    /// What came together with the last line of the bridge; empty once it was read.
    unread: Vec<u8>,
    /// Until when the first byte must be there; none once it was, or if there is no limit.
    first_byte: Option<FirstByte>,
    _session: Arc<Session>,
}

struct FirstByte {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    is_missed: bool,
}

impl I2pStream {
    /// The connection on `socket`. Its first read fails if nothing was received for as long as `limit` from now.
    pub(super) fn new(socket: Socket, session: Arc<Session>, limit: Option<Duration>) -> Self {
        let Socket { stream: inner, mut unread, .. } = socket;
        let unread = std::mem::take(&mut *unread);
        let first_byte = limit.filter(|_| unread.is_empty()).map(|limit| FirstByte {
            limit,
            timer: Box::pin(tokio::time::sleep(limit)),
            is_missed: false,
        });
        Self { inner, unread, first_byte, _session: session }
    }

    /// Reads while it counts how long the first byte takes.
    fn poll_first(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        mut first_byte: FirstByte,
    ) -> Poll<io::Result<()>> {
        if !first_byte.is_missed {
            let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
            if polled.is_ready() {
                return polled;
            }
            first_byte.is_missed = first_byte.timer.as_mut().poll(cx).is_ready();
        }
        let polled = if first_byte.is_missed { Poll::Ready(Err(first_byte.error())) } else { Poll::Pending };
        self.first_byte = Some(first_byte);
        polled
    }
}

impl FirstByte {
    fn error(&self) -> io::Error {
        let text = format!("nothing was received within {:?} of the connection", self.limit);
        io::Error::new(io::ErrorKind::TimedOut, text)
    }
}

impl AsyncRead for I2pStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let len = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread[..len]);
            self.unread.drain(..len);
            return Poll::Ready(Ok(()));
        }
        // To read nothing is no way to find out whether something is there.
        match self.first_byte.take_if(|_| buffer.remaining() > 0) {
            Some(first_byte) => self.poll_first(cx, buffer, first_byte),
            None => Pin::new(&mut self.inner).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for I2pStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
