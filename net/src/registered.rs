//! A network in its place among the others, and the calls into it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::address::LocalEndpoint;
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, Step};
use crate::host::HostName;
use crate::id::NetworkId;
use crate::isolation::{Isolation, IsolationKey};
use crate::network::{BoxDatagrams, BoxFuture, BoxListener, BoxStream, Network};
use crate::reach;
use crate::shield::{Held, Panicked, Shielded};

/// A network in its place. The same network in another place, or there again, is another, and so is one that goes
/// through another than before.
///
/// Everything that this crate calls of a network, it calls here: networks may be of other crates, and panic.
pub(crate) struct Registered {
    network: Held<Arc<dyn Network>>,
    /// What the network says of itself, or that it panicked instead.
    described: Result<Description, Panicked>,
    /// Whether code that is not trusted may choose it.
    pub(crate) is_selectable: bool,
    /// Cancelled once it is not registered any more.
    pub(crate) retired: CancellationToken,
}

/// What a network says of itself.
#[derive(Clone)]
struct Description {
    kind: &'static str,
    via: Option<NetworkId>,
    isolation: Isolation,
}

impl Registered {
    pub(crate) fn new(network: Arc<dyn Network>, is_selectable: bool) -> Arc<Self> {
        let network = Held::new(network);
        let described = network.call(|network| Description {
            kind: network.kind(),
            via: network.via().cloned(),
            isolation: network.isolation(),
        });
        Arc::new(Self { network, described, is_selectable, retired: CancellationToken::new() })
    }

    /// The same network, in another place.
    pub(crate) fn renewed(&self) -> Arc<Self> {
        let Self { network, described, is_selectable, .. } = self;
        let (network, described) = (network.clone(), described.clone());
        Arc::new(Self {
            network,
            described,
            is_selectable: *is_selectable,
            retired: CancellationToken::new(),
        })
    }

    /// Whether the network says of itself what it has to.
    pub(crate) const fn is_described(&self) -> bool {
        self.described.is_ok()
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.described.as_ref().map_or("unknown", |described| described.kind)
    }

    /// The network that this one goes through.
    pub(crate) fn via(&self) -> Option<&NetworkId> {
        self.described.as_ref().ok()?.via.as_ref()
    }

    pub(crate) fn isolation(&self) -> Isolation {
        self.described.as_ref().map_or(Isolation::None, |described| described.isolation)
    }

    /// Connects to `to` for a unit, with the isolation that the network lacks refused.
    pub(crate) async fn connect(
        &self,
        to: &Endpoint,
        isolation: Option<&IsolationKey>,
    ) -> Result<BoxStream, DriverError> {
        if isolation.is_some() && self.isolation() == Isolation::None {
            return Err(self.not_supported(Step::Connect, to, "isolating connections"));
        }
        self.call(Step::Connect, to, |network| network.connect(to, isolation)).await
    }

    /// Connects to `to`, the far end of a network that goes through this one.
    pub(crate) async fn carry(&self, to: &Endpoint) -> Result<BoxStream, DriverError> {
        reach::unwatched(self.call(Step::Connect, to, |network| network.carry(to))).await
    }

    pub(crate) async fn listen(&self, at: &LocalEndpoint) -> Result<BoxListener, DriverError> {
        self.call(Step::Listen, at, |network| network.listen(at)).await
    }

    pub(crate) async fn bind_datagram(&self, at: &LocalEndpoint) -> Result<BoxDatagrams, DriverError> {
        self.call(Step::Bind, at, |network| network.bind_datagram(at)).await
    }

    pub(crate) async fn lookup(&self, name: &HostName) -> Result<Vec<IpAddr>, DriverError> {
        self.call(Step::Lookup, name, |network| network.lookup(name)).await
    }

    /// Calls the network, whose panic is an error of `step`.
    async fn call<'a, T>(
        &'a self,
        step: Step,
        peer: &(impl fmt::Display + Sync),
        make: impl FnOnce(&'a dyn Network) -> BoxFuture<'a, Result<T, DriverError>>,
    ) -> Result<T, DriverError> {
        let called = Shielded::new(self.network.call(|network| make(&**network))).await;
        called.unwrap_or_else(|panicked| Err(panicked.at(step, peer)))
    }

    /// Refuses `step` to who wants connections kept apart: there is no other than the one that all have in common.
    pub(crate) fn check_shared(
        &self,
        step: Step,
        peer: impl fmt::Display,
        isolation: Option<&IsolationKey>,
    ) -> Result<(), DriverError> {
        match isolation {
            None => Ok(()),
            Some(_) => Err(self.not_supported(step, peer, "anything but connecting, with an isolation key,")),
        }
    }

    fn not_supported(&self, step: Step, peer: impl fmt::Display, what: &'static str) -> DriverError {
        DriverError::new(step, peer, Cause::NotSupported { kind: self.kind(), what })
    }
}
