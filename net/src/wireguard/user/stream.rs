//! A TCP connection through the tunnel.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use smoltcp::iface::SocketHandle;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::User;
use crate::error::Cause;

/// A connection. What is written goes into the buffer that the stack sends from, and what is read comes from the one
/// that it receives into.
///
/// Dropping it closes it, behind what was written.
pub(in crate::wireguard) struct Stream {
    user: Arc<User>,
    handle: SocketHandle,
}

impl Stream {
    /// A connection of the stack that nobody else has.
    pub(super) const fn new(user: Arc<User>, handle: SocketHandle) -> Self {
        Self { user, handle }
    }

    /// Connects to `to`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that was being made.
    pub(in crate::wireguard) async fn connect(user: &Arc<User>, to: SocketAddr) -> Result<Self, Cause> {
        let handle = user.stack().connect(to)?;
        let stream = Self::new(Arc::clone(user), handle);
        user.ring();
        poll_fn(|cx| user.stack().poll_connected(handle, cx)).await?;
        Ok(stream)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let is_news = ready!(self.user.stack().poll_read(self.handle, cx, buffer))?;
        if is_news {
            self.user.ring();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.user.stack().poll_write(self.handle, cx, bytes))?;
        self.user.ring();
        Poll::Ready(Ok(written))
    }

    /// What was written is on its way: nothing waits here to be flushed.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.user.stack().shutdown(self.handle);
        self.user.ring();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.user.stack().release(self.handle);
        self.user.ring();
    }
}
