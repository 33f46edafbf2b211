//! Datagrams through the tunnel.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use smoltcp::iface::SocketHandle;

use crate::address::{LocalEndpoint, NetworkAddr};
use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, Step};
use crate::network::{BoxFuture, Datagrams};
use crate::wireguard::lookup::Resolver;
use crate::wireguard::shared::User;

/// A UDP port of this end.
pub(super) struct Port {
    user: Arc<User>,
    handle: SocketHandle,
    local: SocketAddr,
}

impl Port {
    /// Takes a port at `at`.
    pub(super) fn bind(user: &Arc<User>, at: &LocalEndpoint) -> Result<Self, Cause> {
        let (handle, local) = user.stack().bind(at.address, at.port)?;
        Ok(Self { user: Arc::clone(user), handle, local })
    }

    /// Sends a datagram, whole or not at all.
    pub(super) async fn send(&self, payload: &[u8], to: SocketAddr) -> Result<(), Cause> {
        self.user.routes.check(to.ip())?;
        poll_fn(|cx| self.user.stack().poll_send_to(self.handle, cx, payload, to)).await?;
        self.user.ring();
        Ok(())
    }

    /// Receives a datagram: how many bytes of it fit, and from whom it is.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.user.stack().poll_receive_from(self.handle, cx, buffer)).await
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.user.stack().unbind(self.handle);
    }
}

/// A [`Port`] that looks names up inside the tunnel.
pub(super) struct TunnelDatagrams {
    pub(super) port: Port,
    pub(super) resolver: Resolver,
    pub(super) deadline: Duration,
}

impl Datagrams for TunnelDatagrams {
    fn local(&self) -> NetworkAddr {
        self.port.local.into()
    }

    fn send_to<'a>(&'a self, payload: &'a [u8], to: &'a Endpoint) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async move {
            let deadline = Deadline::after(self.deadline);
            let addresses = self.resolver.addresses(to, deadline).await?;
            let failed = |cause| DriverError::new(Step::Send, to, cause);
            let address = self.resolver.first_reachable(&addresses).map_err(failed)?;
            self.port.send(payload, address).await.map_err(failed)
        })
    }

    fn receive_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, Result<(usize, NetworkAddr), DriverError>> {
        Box::pin(async move {
            let received = self.port.receive(buffer).await;
            let failed = |error| DriverError::new(Step::Receive, self.port.local, Cause::Io(error));
            received.map(|(len, from)| (len, from.into())).map_err(failed)
        })
    }
}
