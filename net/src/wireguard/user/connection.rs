//! TCP connections in the stack.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{PortUse, Stack, User};
use crate::error::Cause;
use crate::wireguard::Refusal;

/// How many bytes each direction of a connection can have on its way, by how many connections there are: up to 64 as many
/// as arrive in 50 ms at 80 Mbit/s, and fewer beyond. So a script that opens many holds little more memory than one that
/// opens 64: with 512, at most 128 MiB. A page of it is taken when it is first written to.
pub(super) const fn buffer(connections: usize) -> usize {
    match connections {
        0..64 => 512 * 1024,
        64..256 => 128 * 1024,
        _ => 32 * 1024,
    }
}

/// The share of a buffer that has to be read for the far end to be told, if it does not hear of it anyway.
const NEWS: usize = 8;

/// How long a connection that nobody has any more may take to deliver what was written, and to close.
const LINGER: Duration = Duration::from_secs(30);

/// How many connections are kept that are closed, and only wait for packets that come late.
const MOST_WAITING: usize = 64;

/// How many connections are kept that no user has any more and that are not closed yet, and how much memory such
/// connections may hold. Beyond that the oldest is reset.
const MOST_ORPHANS: usize = 256;
const MOST_ORPHANED: usize = 16 * 1024 * 1024;

/// How often connections that are closed are looked at: more often than smoltcp forgets them, which takes 10 s.
const KEEP: Duration = Duration::from_secs(2);

/// What the stack knows of a connection beside its socket.
pub(super) struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
    /// The sequence number behind all that was sent.
    pub(super) sent: Option<u32>,
    /// How many bytes were read and written. As many of each buffer have been touched, up to its length.
    read: usize,
    written: usize,
    /// How many bytes were read that the far end may not have been told of.
    unannounced: usize,
    /// What is left to read of a connection that both ends closed. smoltcp forgets it after a while.
    end: Option<Vec<u8>>,
    /// When it is reset that nobody has any more.
    orphaned: Option<Instant>,
}

/// A socket that sends what it is given at once, with buffers of this length.
pub(super) fn socket(buffer: usize) -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; buffer]);
    let mut socket = Socket::new(buffer(), buffer());
    // Who writes a small piece wants it sent; who does not, buffers.
    socket.set_nagle_enabled(false);
    socket
}

impl Stack {
    /// Begins a connection.
    pub(in crate::wireguard) fn connect(&mut self, to: SocketAddr) -> Result<SocketHandle, Cause> {
        if self.is_full() {
            return Err(Refusal::TooManyConnections { most: self.most }.into());
        }
        let from = self.addresses.source(to.ip())?;
        let port = self.port(0, PortUse::Connection(from, &to))?;
        let from = SocketAddr::new(from, port);
        let mut socket = socket(buffer(self.connections.len()));
        let begun = socket.connect(self.interface.context(), to, from);
        begun.map_err(|error| io::Error::new(io::ErrorKind::AddrNotAvailable, error))?;
        Ok(self.insert(socket, from, to))
    }

    /// Adds the socket of a connection between these two.
    pub(super) fn insert(
        &mut self,
        socket: Socket<'static>,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> SocketHandle {
        let handle = self.sockets.add(socket);
        let connection = Connection {
            local,
            remote,
            sent: None,
            read: 0,
            written: 0,
            unannounced: 0,
            end: None,
            orphaned: None,
        };
        self.connections.insert(handle, connection);
        self.tuples.insert((local, remote), handle);
        handle
    }

    /// Returns whether there may be no more connections. Those that have no user any more do not count: they have a
    /// budget of their own.
    pub(super) fn is_full(&self) -> bool {
        self.connections.len().saturating_sub(self.orphans.len()) >= self.most
    }

    /// Removes a connection at once, and says nothing about it to the far end.
    pub(super) fn remove(&mut self, handle: SocketHandle) {
        if let Some(Connection { local, remote, .. }) = self.connections.remove(&handle) {
            self.tuples.remove(&(local, remote));
            self.sockets.remove(handle);
        }
    }

    /// The far end of a connection.
    pub(super) fn remote(&self, handle: SocketHandle) -> Option<SocketAddr> {
        self.connections.get(&handle).map(|connection| connection.remote)
    }

    /// The connection that is between these two, if nobody has it any more and it waits for packets that come late.
    pub(super) fn waiting(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<SocketHandle> {
        let is_between = |handle: &&SocketHandle| {
            let connection = &self.connections[handle];
            (connection.local, connection.remote) == (local, remote)
        };
        let handle = *self.orphans.iter().find(is_between)?;
        (self.tcp(handle).state() == State::TimeWait).then_some(handle)
    }

    pub(super) fn tcp(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Waits until the far end has answered.
    pub(in crate::wireguard) fn poll_connected(
        &mut self,
        handle: SocketHandle,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let is_over = self.is_over;
        let socket = self.tcp(handle);
        match socket.state() {
            State::SynSent | State::SynReceived => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            State::Closed if is_over => Poll::Ready(Err(over())),
            State::Closed => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Reads, and says whether the far end should hear that there is room again.
    pub(in crate::wireguard) fn poll_read(
        &mut self,
        handle: SocketHandle,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let is_over = self.is_over;
        let Some(connection) = self.connections.get_mut(&handle) else {
            return Poll::Ready(Err(over()));
        };
        if let Some(end) = &mut connection.end {
            let len = end.len().min(buffer.remaining());
            buffer.put_slice(&end[..len]);
            end.drain(..len);
            return Poll::Ready(Ok(false));
        }
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        // What is received lies around the end of the buffer, at times, and is then in two pieces.
        let mut read = 0;
        let error = loop {
            let piece = socket.recv(|piece| {
                let len = piece.len().min(buffer.remaining());
                buffer.put_slice(&piece[..len]);
                (len, len)
            });
            match piece {
                Ok(0) => break None,
                Ok(len) => read += len,
                Err(error) => break Some(error),
            }
        };
        if read > 0 || buffer.remaining() == 0 {
            connection.read = connection.read.saturating_add(read);
            connection.unannounced += read;
            let is_news = connection.unannounced >= socket.recv_capacity() / NEWS;
            if is_news {
                connection.unannounced = 0;
            }
            return Poll::Ready(Ok(is_news));
        }
        match error {
            None => {
                socket.register_recv_waker(cx.waker());
                Poll::Pending
            }
            Some(RecvError::Finished) => Poll::Ready(Ok(false)),
            Some(RecvError::InvalidState) => Poll::Ready(Err(lost(is_over))),
        }
    }

    /// Writes as much as there is room for, and says how much that was.
    pub(in crate::wireguard) fn poll_write(
        &mut self,
        handle: SocketHandle,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let is_over = self.is_over;
        if self.connections.get(&handle).is_none_or(|connection| connection.end.is_some()) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            Ok(len) => {
                if let Some(connection) = self.connections.get_mut(&handle) {
                    connection.written = connection.written.saturating_add(len);
                }
                Poll::Ready(Ok(len))
            }
            Err(_) if socket.state() == State::Closed => Poll::Ready(Err(lost(is_over))),
            // This end said that nothing more comes.
            Err(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Tells the far end, behind all that was written, that nothing more comes.
    pub(in crate::wireguard) fn shutdown(&mut self, handle: SocketHandle) {
        self.tcp(handle).close();
    }

    /// Nobody has the connection any more. It is closed once what was written has arrived, or after a while.
    pub(in crate::wireguard) fn release(&mut self, handle: SocketHandle) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&handle) else { return };
        connection.orphaned = Some(now + LINGER.into());
        let socket = self.tcp(handle);
        match socket.state() {
            // Else the answer would be an open connection that nobody has.
            State::SynSent | State::SynReceived => socket.abort(),
            _ => socket.close(),
        }
        self.orphans.push(handle);
    }

    /// The connection is reset: what was not sent never is.
    pub(super) fn abort(&mut self, handle: SocketHandle) {
        self.release(handle);
        self.tcp(handle).abort();
    }

    /// Resets connections that have no user any more: those with received bytes that remain unread, as RFC 2525 has it,
    /// those whose far end does not answer, and the oldest if all of them hold too much.
    pub(super) fn reap(&mut self) {
        let now = self.now;
        let (mut count, mut held) = (0, 0_usize);
        // The newest first, because it is for the oldest that there is no room.
        for handle in self.orphans.iter().rev() {
            let connection = &self.connections[handle];
            let socket = self.sockets.get_mut::<Socket<'_>>(*handle);
            let is_waiting = socket.state() == State::TimeWait;
            count += usize::from(!is_waiting && socket.state() != State::Closed);
            held = held.saturating_add(connection.held(socket));
            let is_unread = socket.recv_queue() > 0 && socket.send_queue() == 0;
            let is_late = connection.orphaned.is_some_and(|until| until <= now) && !is_waiting;
            let is_beyond = count > MOST_ORPHANS || held > MOST_ORPHANED;
            if is_unread || is_late || is_beyond {
                socket.abort();
            }
        }
    }

    /// Forgets connections that nobody has any more, once they are closed.
    pub(super) fn forget(&mut self) {
        let mut orphans = std::mem::take(&mut self.orphans);
        let mut waiting = 0;
        // The newest first, because it is the oldest that there is no room for.
        for handle in orphans.iter().rev() {
            let socket = self.sockets.get_mut::<Socket<'_>>(*handle);
            let is_closed = match socket.state() {
                // One that was reset has an end to tell so until that is done.
                State::Closed => socket.remote_endpoint().is_none() || self.is_over,
                State::TimeWait => {
                    waiting += 1;
                    waiting > MOST_WAITING
                }
                _ => false,
            };
            if is_closed {
                self.remove(*handle);
            }
        }
        orphans.retain(|handle| self.connections.contains_key(handle));
        self.orphans = orphans;
    }

    /// When the next connection is reset that nobody has any more.
    pub(super) fn next_orphan(&self) -> Option<Duration> {
        let until = self.orphans.iter().filter_map(|handle| self.connections[handle].orphaned);
        let next = until.filter(|&until| until > self.now).min()?;
        Some((next - self.now).into())
    }

    /// Whether all connections that nobody has any more have delivered what was written.
    pub(in crate::wireguard) fn is_delivered(&self) -> bool {
        let state = |handle: &SocketHandle| self.sockets.get::<Socket<'_>>(*handle).state();
        self.orphans.iter().all(|handle| state(handle) == State::TimeWait)
    }

    /// Keeps what can still be read of connections that smoltcp is about to forget.
    pub(super) fn keep_ends(&mut self) {
        if self.now < self.kept + KEEP.into() {
            return;
        }
        self.kept = self.now;
        for (handle, connection) in &mut self.connections {
            let socket = self.sockets.get_mut::<Socket<'_>>(*handle);
            if socket.state() != State::TimeWait || connection.end.is_some() {
                continue;
            }
            let mut end = vec![0; socket.recv_queue()];
            if socket.recv_slice(&mut end) == Ok(end.len()) || end.is_empty() {
                connection.end = Some(end);
            }
        }
    }
}

impl Connection {
    /// How much memory the buffers of the connection's socket hold.
    fn held(&self, socket: &Socket<'_>) -> usize {
        let received = self.read.saturating_add(socket.recv_queue());
        received.min(socket.recv_capacity()) + self.written.min(socket.send_capacity())
    }
}

/// The far end reset the connection, or there is nothing that could reach it.
fn lost(is_over: bool) -> io::Error {
    if is_over { over() } else { io::ErrorKind::ConnectionReset.into() }
}

/// The runtime that carried the tunnel ended before who used it.
pub(super) fn over() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the task that carried the tunnel has ended")
}

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
