//! What accepts connections through the tunnel.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use super::listening::ListenerId;
use super::{Stream, User};
use crate::endpoint::{LocalEndpoint, NetworkAddr};
use crate::error::{Cause, DriverError, Step};
use crate::network::{BoxFuture, BoxStream, Listener};

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
            let (handle, from) =
                accepted.map_err(|error| DriverError::new(Step::Accept, self.local, Cause::Io(error)))?;
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
