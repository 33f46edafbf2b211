//! Accepting connections through the tunnel.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::connection::{buffer, over, socket};
use super::{PortUse, Stack, Stream, User};
use crate::endpoint::{LocalEndpoint, NetworkAddr};
use crate::error::{Cause, DriverError, DriverStep};
use crate::network::{BoxFuture, BoxStream, Listener};
use crate::wireguard::packet::Segment;

/// A port of this end. The network's settings say which addresses that has.
pub(in crate::wireguard) struct TunnelListener {
    user: Arc<User>,
    id: ListenerId,
    local: SocketAddr,
}

impl TunnelListener {
    /// Accepts connections at `at`.
    pub(in crate::wireguard) fn new(user: &Arc<User>, at: &LocalEndpoint) -> Result<Self, Cause> {
        let (id, local) = user.stack().listen(at.address, at.port)?;
        Ok(Self { user: Arc::clone(user), id, local })
    }
}

impl Listener for TunnelListener {
    fn local(&self) -> NetworkAddr {
        self.local.into()
    }

    fn accept(&mut self) -> BoxFuture<'_, Result<(BoxStream, NetworkAddr), DriverError>> {
        Box::pin(async move {
            let accepted = poll_fn(|cx| self.user.stack().poll_accept(self.id, cx)).await;
            let (handle, from) = accepted
                .map_err(|error| DriverError::new(DriverStep::Accept, self.local, Cause::Io(error)))?;
            let stream = Stream::new(Arc::clone(&self.user), handle);
            Ok((Box::new(stream) as BoxStream, from.into()))
        })
    }
}

impl Drop for TunnelListener {
    fn drop(&mut self) {
        self.user.stack().unlisten(self.id);
        self.user.ring();
    }
}

/// How many connections may wait to be accepted, or for their handshake to end. One more is not answered, so that who
/// makes it tries again.
const BACKLOG: usize = 128;

/// Which listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::wireguard) struct ListenerId(u64);

/// A port where connections are accepted. A socket for one is made when it is opened, not before.
pub(super) struct Listening {
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    /// Their handshake is under way.
    pending: Vec<SocketHandle>,
    ready: VecDeque<SocketHandle>,
    waker: Option<Waker>,
}

impl Listening {
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What is not to be answered.
pub(super) struct Ignored;

/// A connection that is being opened.
#[derive(Clone, Copy)]
pub(super) struct Opened {
    listener: ListenerId,
    handle: SocketHandle,
}

impl Stack {
    /// Accepts connections, and says where.
    pub(in crate::wireguard) fn listen(
        &mut self,
        address: Option<IpAddr>,
        port: u16,
    ) -> Result<(ListenerId, SocketAddr), Cause> {
        self.addresses.check_local(address)?;
        let port = self.port(port, PortUse::Listener(address))?;
        let id = self.next_listener;
        self.next_listener = ListenerId(id.0 + 1);
        let (pending, ready) = (Vec::new(), VecDeque::new());
        self.listeners.insert(id, Listening { address, port, pending, ready, waker: None });
        Ok((id, SocketAddr::new(self.addresses.shown(address), port)))
    }

    /// The next connection, and who made it.
    pub(in crate::wireguard) fn poll_accept(
        &mut self,
        id: ListenerId,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(SocketHandle, SocketAddr)>> {
        let is_over = self.is_over;
        let Some(listening) = self.listeners.get_mut(&id).filter(|_| !is_over) else {
            return Poll::Ready(Err(over()));
        };
        let Some(handle) = listening.ready.pop_front() else {
            listening.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let remote = self.remote(handle).ok_or_else(over);
        Poll::Ready(remote.map(|remote| (handle, remote)))
    }

    /// Stops listening. Connections that nobody accepted are reset.
    pub(in crate::wireguard) fn unlisten(&mut self, id: ListenerId) {
        let Some(listening) = self.listeners.remove(&id) else { return };
        for handle in listening.pending.into_iter().chain(listening.ready) {
            self.abort(handle);
        }
    }

    /// If the packet opens a connection, then this makes the socket for it.
    pub(super) fn open(&mut self, packet: &[u8]) -> Result<Option<Opened>, Ignored> {
        let opening = Segment::of(packet).filter(Segment::opens);
        let Some(Segment { from: remote, to: local, .. }) = opening else { return Ok(None) };
        if self.tuples.contains_key(&(local, remote)) {
            // The far end has forgotten a connection of before, and makes another from the same port.
            match self.waiting(local, remote) {
                Some(waiting) => self.replace(waiting),
                None => return Ok(None),
            }
        }
        let at = |listening: &Listening| {
            listening.port == local.port() && listening.address.is_none_or(|address| address == local.ip())
        };
        let Some((&listener, listening)) = self.listeners.iter().find(|(_, listening)| at(listening)) else {
            return Ok(None);
        };
        let is_full = listening.pending.len() + listening.ready.len() >= BACKLOG || self.is_full();
        if is_full || remote.port() == 0 {
            return Err(Ignored);
        }
        let mut socket = socket(buffer(self.connections.len()));
        socket.listen(local).map_err(|_| Ignored)?;
        Ok(Some(Opened { listener, handle: self.insert(socket, local, remote) }))
    }

    fn replace(&mut self, waiting: SocketHandle) {
        self.orphans.retain(|&handle| handle != waiting);
        self.remove(waiting);
    }

    /// The packet that opened a connection was taken: either there is one now, or it was no good.
    pub(super) fn settle(&mut self, opened: Opened) {
        let is_open = self.tcp(opened.handle).state() != State::Listen;
        match self.listeners.get_mut(&opened.listener) {
            Some(listening) if is_open => listening.pending.push(opened.handle),
            _ => self.remove(opened.handle),
        }
    }

    /// Connections whose handshake ended can be accepted.
    pub(super) fn promote(&mut self) {
        let mut closed = Vec::new();
        for listening in self.listeners.values_mut() {
            let (sockets, ready) = (&mut self.sockets, &mut listening.ready);
            let before = ready.len();
            listening.pending.retain(|&handle| {
                let socket = sockets.get_mut::<smoltcp::socket::tcp::Socket<'_>>(handle);
                match socket.state() {
                    State::SynReceived => true,
                    State::Closed | State::Listen => {
                        closed.push(handle);
                        false
                    }
                    _ => {
                        ready.push_back(handle);
                        false
                    }
                }
            });
            if ready.len() > before {
                listening.wake();
            }
        }
        for handle in closed {
            self.abort(handle);
        }
    }
}
