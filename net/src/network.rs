//! What a network is called and what it does.

use std::fmt;
use std::net::IpAddr;

use frame_registry::{Id, IdKind};
pub use futures_core::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::endpoint::{Endpoint, HostName, LocalEndpoint, NetworkAddr};
use crate::error::{Cause, DriverError, DriverStep};
use crate::isolation::{Isolation, IsolationKey};

/// A connection through a [`Network`].
pub type BoxStream = Box<dyn ByteStream>;

/// What accepts connections from a [`Network`].
pub type BoxListener = Box<dyn Listener>;

/// What sends and receives datagrams through a [`Network`].
pub type BoxDatagrams = Box<dyn Datagrams>;

/// Bytes both ways. Implemented for everything it can be.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

impl fmt::Debug for dyn ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteStream")
    }
}

/// Accepts connections that others make through a network. Dropping it stops that.
pub trait Listener: Send {
    /// Where others reach it.
    fn local(&self) -> NetworkAddr;

    /// The next connection, and who made it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection: the next call gets it.
    ///
    /// # Errors
    ///
    /// [`DriverError`]. One that [is retryable](DriverError::is_retryable) ended one connection, or a time of it; the
    /// listener goes on.
    fn accept(&mut self) -> BoxFuture<'_, Result<(BoxStream, NetworkAddr), DriverError>>;
}

impl fmt::Debug for dyn Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.local())
    }
}

/// Sends and receives datagrams through a network. Dropping it frees its port.
pub trait Datagrams: Send + Sync {
    /// Where others reach it.
    fn local(&self) -> NetworkAddr;

    /// Sends all of `payload` to `to`, as one datagram. As with any datagram, nobody says whether it arrives.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the datagram was sent whole, or not at all.
    ///
    /// # Errors
    ///
    /// [`DriverError`], also where the network has no room for a datagram as long.
    fn send_to<'a>(&'a self, payload: &'a [u8], to: &'a Endpoint) -> BoxFuture<'a, Result<(), DriverError>>;

    /// Receives a datagram: how many bytes it has, and from whom. What does not fit into `buffer` is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no datagram.
    ///
    /// # Errors
    ///
    /// [`DriverError`].
    fn receive_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, Result<(usize, NetworkAddr), DriverError>>;
}

impl fmt::Debug for dyn Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Datagrams({})", self.local())
    }
}

/// A network to reach others through: a driver, configured.
///
/// What a network cannot do it refuses with [`Cause::NotSupported`]; it never does it over another network instead.
/// Dropping it closes it; connections that it made may outlive it, and go on through it.
///
/// [`kind`](Network::kind), [`via`](Network::via) and [`isolation`](Network::isolation) are read once, when the network is
/// registered. If a registered network, or a stream, listener or socket of it, panics in a method, a future or its `Drop`,
/// then the one call fails with [`Cause::Panicked`].
pub trait Network: Send + Sync + 'static {
    /// The kind of driver, such as `socks5`.
    fn kind(&self) -> &'static str;

    /// The network that this one's own traffic goes through, if that is not this host's.
    fn via(&self) -> Option<&NetworkId> {
        None
    }

    /// What its operator should know about how it works on this host, if there is something.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Returns whether it works less well on this host than it could, for a reason that its [remark](Network::remark) names.
    fn is_degraded(&self) -> bool {
        false
    }

    /// How far it keeps connections apart from each other. Whoever asks for more is refused before
    /// [`connect`](Network::connect) is called, and before the other methods, which keep nothing apart.
    fn isolation(&self) -> Isolation {
        Isolation::None
    }

    /// Connects to `to`. It is the network that looks a name up: whoever carries the traffic must be the only one
    /// who learns of it. `isolation` is given only where the network [keeps connections apart](Network::isolation).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that was being made.
    ///
    /// # Errors
    ///
    /// [`DriverError`], which says how far it came.
    fn connect<'a>(
        &'a self,
        to: &'a Endpoint,
        isolation: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>>;

    /// Connects to `to`, the far end of a network that goes [`via`](Network::via) this one: its proxy, for example. The
    /// address is part of the configuration and not chosen by a unit, so a network whose
    /// [`connect`](Network::connect) has rules for units may carry it all the same.
    ///
    /// # Cancel safety
    ///
    /// As with `connect`.
    ///
    /// # Errors
    ///
    /// As `connect`.
    fn carry<'a>(&'a self, to: &'a Endpoint) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        self.connect(to, None)
    }

    /// Accepts connections at `at`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future frees what was taken.
    ///
    /// # Errors
    ///
    /// [`Cause::NotSupported`], unless the network can be reached through.
    fn listen<'a>(&'a self, at: &'a LocalEndpoint) -> BoxFuture<'a, Result<BoxListener, DriverError>> {
        Box::pin(async move { Err(self.not_supported(DriverStep::Listen, at, "listening")) })
    }

    /// Sends and receives datagrams from `at`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future frees what was taken.
    ///
    /// # Errors
    ///
    /// [`Cause::NotSupported`], unless the network carries datagrams.
    fn bind_datagram<'a>(
        &'a self,
        at: &'a LocalEndpoint,
    ) -> BoxFuture<'a, Result<BoxDatagrams, DriverError>> {
        Box::pin(async move { Err(self.not_supported(DriverStep::Bind, at, "datagrams")) })
    }

    /// The addresses of `name`, as the network sees them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the answer.
    ///
    /// # Errors
    ///
    /// [`Cause::NotSupported`], unless the network has a way to ask.
    fn lookup<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DriverError>> {
        Box::pin(async move { Err(self.not_supported(DriverStep::Lookup, name, "looking names up")) })
    }
}

/// The refusal of what a network does not do.
trait NotSupported {
    fn not_supported(&self, step: DriverStep, peer: impl fmt::Display, what: &'static str) -> DriverError;
}

impl<N: Network + ?Sized> NotSupported for N {
    fn not_supported(&self, step: DriverStep, peer: impl fmt::Display, what: &'static str) -> DriverError {
        DriverError::new(step, peer, Cause::NotSupported { kind: self.kind(), what })
    }
}

/// The name of an overlay network: `namespace:name`.
///
/// ```
/// use frame_net::NetworkId;
///
/// let id: NetworkId = "app:tor".parse()?;
/// assert_eq!((id.namespace(), id.name()), ("app", "tor"));
///
/// let error = "tor".parse::<NetworkId>().unwrap_err();
/// assert_eq!(error.to_string(), "network id \"tor\" has no namespace; write `namespace:name`, such as `app:tor`");
/// # Ok::<(), frame_registry::IdError>(())
/// ```
pub type NetworkId = Id<NetworkKind>;

/// Says that an [`Id`] is the name of an overlay network.
#[derive(Debug)]
pub enum NetworkKind {}

impl IdKind for NetworkKind {
    const NOUN: &'static str = "network";
    const EXAMPLE: &'static str = "app:tor";
}

/// What a frame's connections go through.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Route {
    /// The network of this host.
    Clearnet,
    /// An overlay network.
    Network(NetworkId),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clearnet => f.write_str("clearnet"),
            Self::Network(id) => write!(f, "network `{id}`"),
        }
    }
}
