//! Datagrams through the tunnel.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::endpoint::{Endpoint, NetworkAddr};
use crate::error::{Cause, DriverError, Step};
use crate::network::{BoxFuture, Datagrams};
use crate::wireguard::inside::Port;
use crate::wireguard::lookup::Resolver;

/// A [`Port`] that looks names up inside the tunnel.
pub(super) struct TunnelDatagrams {
    pub(super) port: Port,
    pub(super) resolver: Resolver,
    pub(super) deadline: Duration,
}

impl Datagrams for TunnelDatagrams {
    fn local(&self) -> NetworkAddr {
        self.port.local().into()
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
            let failed = |error| DriverError::new(Step::Receive, self.port.local(), Cause::Io(error));
            received.map(|(len, from)| (len, from.into())).map_err(failed)
        })
    }
}
