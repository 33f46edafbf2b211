//! This end of the tunnel, as its connections see it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::endpoint::LocalEndpoint;
use crate::error::Cause;
use crate::network::{BoxListener, BoxStream};
#[cfg(target_os = "linux")]
use crate::wireguard::kernel::{self, Kernel};
use crate::wireguard::routes::{Addresses, Routes};
use crate::wireguard::user::{self, User};
use crate::wireguard::{Refusal, packet};

/// The addresses of this end, the routes to others, and the stack that has the connections.
pub(super) struct Inside {
    pub(super) addresses: Arc<Addresses>,
    pub(super) routes: Arc<Routes>,
    pub(super) mtu: usize,
    pub(super) backend: Backend,
}

/// Whose TCP and UDP it is.
pub(super) enum Backend {
    User(Arc<User>),
    #[cfg(target_os = "linux")]
    Kernel(Arc<Kernel>),
}

impl Inside {
    /// Refuses an address that nothing can be sent to.
    pub(super) fn check(&self, to: IpAddr) -> Result<(), Refusal> {
        self.addresses.source(to)?;
        self.routes.check(to)
    }

    /// Connects to `to`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that was being made.
    pub(super) async fn connect(&self, to: SocketAddr) -> Result<BoxStream, Cause> {
        self.check(to.ip())?;
        Ok(match &self.backend {
            Backend::User(user) => Box::new(user::Stream::connect(user, to).await?),
            #[cfg(target_os = "linux")]
            Backend::Kernel(kernel) => Box::new(kernel::Stream::connect(kernel, to).await?),
        })
    }

    /// Accepts connections at `at`.
    pub(super) async fn listen(&self, at: &LocalEndpoint) -> Result<BoxListener, Cause> {
        Ok(match &self.backend {
            Backend::User(user) => Box::new(user::TunnelListener::new(user, at)?),
            #[cfg(target_os = "linux")]
            Backend::Kernel(kernel) => Box::new(kernel::TunnelListener::new(kernel, at).await?),
        })
    }

    /// Takes a port for datagrams at `at`.
    pub(super) async fn bind(self: &Arc<Self>, at: &LocalEndpoint) -> Result<Port, Cause> {
        let socket = match &self.backend {
            Backend::User(user) => Socket::User(user::Port::bind(user, at)?),
            #[cfg(target_os = "linux")]
            Backend::Kernel(kernel) => Socket::Kernel(kernel::Port::bind(kernel, at).await?),
        };
        Ok(Port { inside: Arc::clone(self), socket })
    }
}

/// A UDP port of this end.
pub(super) struct Port {
    inside: Arc<Inside>,
    socket: Socket,
}

enum Socket {
    User(user::Port),
    #[cfg(target_os = "linux")]
    Kernel(kernel::Port),
}

impl Port {
    pub(super) const fn local(&self) -> SocketAddr {
        match &self.socket {
            Socket::User(port) => port.local(),
            #[cfg(target_os = "linux")]
            Socket::Kernel(port) => port.local(),
        }
    }

    /// Sends a datagram, whole or not at all, and never in fragments.
    pub(super) async fn send(&self, payload: &[u8], to: SocketAddr) -> Result<(), Cause> {
        self.inside.check(to.ip())?;
        let most = packet::longest_datagram(to.ip(), self.inside.mtu);
        if payload.len() > most {
            return Err(Refusal::TooLong { len: payload.len(), most }.into());
        }
        match &self.socket {
            Socket::User(port) => port.send(payload, to).await,
            #[cfg(target_os = "linux")]
            Socket::Kernel(port) => port.send(payload, to).await,
        }
    }

    /// Receives a datagram. Returns how many bytes of it fit, and the sender.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
        match &self.socket {
            Socket::User(port) => port.receive(buffer).await,
            #[cfg(target_os = "linux")]
            Socket::Kernel(port) => port.receive(buffer).await,
        }
    }
}
