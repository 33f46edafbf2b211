//! Why there is no connection.

use std::fmt::{self, Display};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use frame_registry::BoxError;

use crate::audit::Unrecorded;
use crate::direct::Denied;
use crate::driver::ConfigError;
use crate::egress::EgressRefusal;
use crate::endpoint::{Endpoint, HostName, LocalEndpoint};
#[cfg(feature = "http-connect")]
use crate::http_connect::{ConnectStage, HttpConnectError};
#[cfg(feature = "i2p")]
use crate::i2p::{self, SamError};
use crate::limits::LimitReached;
use crate::network::{NetworkId, Route};
use crate::socks5::{HandshakeError, Stage};

/// A network could not be chosen, registered or used. None of these ever means that clearnet was taken instead.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The chosen network is not there.
    #[error("unknown network `{id}` (from {chosen_by}){}", without_registry(*.missing))]
    NotFound {
        /// The network.
        id: NetworkId,
        /// What chose it.
        chosen_by: ChosenBy,
        /// What is missing.
        missing: Missing,
    },
    /// Code that is not trusted chose a network that is not for it to choose.
    #[error(
        "scripts and components may not switch from {instead_of} to `{id}`; remove the option `network`, or set \
         `selectable = true` on `{id}`"
    )]
    NotSelectable {
        /// The network.
        id: NetworkId,
        /// What it was chosen in the place of.
        instead_of: InsteadOf,
    },
    /// The app has no networks, not even clearnet.
    #[error("the app has no networks; call `frame_net::boot` before it is built")]
    NotBooted,
    /// A network of that id is registered.
    #[error("network `{id}` is registered already; replace it, or unregister it first")]
    AlreadyRegistered {
        /// The id.
        id: NetworkId,
    },
    /// There is no network of that id to replace.
    #[error("network `{id}` is not registered, so it cannot be replaced")]
    NotRegistered {
        /// The id.
        id: NetworkId,
    },
    /// A network cannot be made from its configuration.
    #[error("network `{id}` cannot be configured so")]
    Config {
        /// The network.
        id: NetworkId,
        /// Why.
        source: ConfigError,
    },
    /// A network panicked when it was asked of what kind it is, what it goes through and what it keeps apart.
    #[error("network `{id}` panicked when it was registered")]
    Panicked {
        /// The network.
        id: NetworkId,
    },
    /// A network is to go through one that is not there.
    #[error("network `{id}` goes via `{via}`, which is not registered; register that one first")]
    ViaNotRegistered {
        /// The network.
        id: NetworkId,
        /// What it is to go through.
        via: NetworkId,
    },
    /// A network is to go through itself, be it with others in between.
    #[error("network `{id}` would go through itself: {}", path(.cycle))]
    ViaCycle {
        /// The network.
        id: NetworkId,
        /// The networks that it goes through, the last one by way of `id` again.
        cycle: Vec<NetworkId>,
    },
    /// No connection was made.
    #[error("no connection to {to} through {route}")]
    Connect {
        /// Where it was to go.
        to: Endpoint,
        /// Through what.
        route: Route,
        /// How far it came, and why no further.
        source: DriverError,
    },
    /// Nothing listens.
    #[error("not listening at {at} through {route}")]
    Listen {
        /// Where it was to be.
        at: LocalEndpoint,
        /// Through what.
        route: Route,
        /// Why.
        source: DriverError,
    },
    /// No datagrams can be sent or received.
    #[error("no datagrams at {at} through {route}")]
    Bind {
        /// Where they were to come from.
        at: LocalEndpoint,
        /// Through what.
        route: Route,
        /// Why.
        source: DriverError,
    },
    /// A name was not looked up.
    #[error("no addresses of {name} through {route}")]
    Lookup {
        /// The name.
        name: HostName,
        /// Who was asked.
        route: Route,
        /// Why.
        source: DriverError,
    },
}

impl NetworkError {
    /// Whether the same call may succeed later with nobody changing the configuration.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { source, .. }
            | Self::Listen { source, .. }
            | Self::Bind { source, .. }
            | Self::Lookup { source, .. } => source.is_retryable(),
            Self::Config { .. }
            | Self::Panicked { .. }
            | Self::ViaNotRegistered { .. }
            | Self::ViaCycle { .. }
            | Self::NotFound { .. }
            | Self::NotSelectable { .. }
            | Self::NotBooted
            | Self::AlreadyRegistered { .. }
            | Self::NotRegistered { .. } => false,
        }
    }
}

/// `a:b` → `a:c` → `a:b`.
fn path(cycle: &[NetworkId]) -> String {
    let ids = cycle.iter().map(|id| format!("`{id}`"));
    ids.collect::<Vec<_>>().join(" via ")
}

/// What chose a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChosenBy {
    /// The option [`NETWORK`](crate::NETWORK), given for the call or preset on the entry.
    Option,
    /// The frame of the unit that spawns.
    ParentFrame,
    /// The app's default.
    AppDefault,
    /// The frame that dials.
    Frame,
    /// A network that goes through it.
    Chain,
}

impl Display for ChosenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Option => "option `network`",
            Self::ParentFrame => "the parent's frame",
            Self::AppDefault => "the app's default",
            Self::Frame => "the frame",
            Self::Chain => "a network that goes via it",
        })
    }
}

/// What a frame had gone through, had nobody chosen another network for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsteadOf {
    /// This host's own network.
    Clearnet,
    /// A network: that of the parent's frame, or else the app's default.
    Network(NetworkId),
    /// The network that is preset for what was called.
    Preset,
}

impl Display for InsteadOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clearnet => f.write_str("clearnet"),
            Self::Network(id) => write!(f, "`{id}`"),
            Self::Preset => f.write_str("the network that is preset"),
        }
    }
}

/// Why no network at all is known, if that is so.
fn without_registry(missing: Missing) -> String {
    match missing {
        Missing::Network => String::new(),
        Missing::Registry => format!("; {missing}"),
    }
}

/// What is missing where a chosen network is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// The network, in the app's registry.
    Network,
    /// The registry: the app was built without [`boot`](crate::boot()).
    Registry,
}

impl Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "no network of that id is registered",
            Self::Registry => "the app has no networks; call `frame_net::boot` before it is built",
        })
    }
}

/// What a driver fails with: the step, with whom, and the [`Cause`] as its source.
// Behind a pointer, so that results without an error have no room for one.
#[derive(Debug, Clone)]
pub struct DriverError(Arc<Failure>);

/// What is behind a [`DriverError`].
#[derive(Debug)]
struct Failure {
    step: DriverStep,
    peer: Box<str>,
    cause: Cause,
}

impl DriverError {
    /// `step`, done with `peer`, failed for `cause`.
    pub fn new(step: DriverStep, peer: impl Display, cause: Cause) -> Self {
        Self(Arc::new(Failure { step, peer: peer.to_string().into(), cause }))
    }

    /// The step that failed.
    pub fn step(&self) -> DriverStep {
        self.0.step
    }

    /// With whom: the host, or the proxy on the way to it.
    pub fn peer(&self) -> &str {
        &self.0.peer
    }

    /// Why.
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// Whether the same call may succeed later with nobody changing the configuration.
    pub fn is_retryable(&self) -> bool {
        match self.cause() {
            Cause::Io(error) => {
                use io::ErrorKind::{InvalidInput, NotFound, PermissionDenied, Unsupported};
                match error.kind() {
                    InvalidInput | PermissionDenied | Unsupported => false,
                    // The name server has answered that there is no such name.
                    NotFound => self.step() != DriverStep::Lookup,
                    _ => true,
                }
            }
            Cause::TimedOut { .. }
            | Cause::Closed
            | Cause::Limit(_)
            | Cause::Unrecorded(_)
            | Cause::Transient(_) => true,
            Cause::Handshake(error) => error.is_retryable(),
            #[cfg(feature = "http-connect")]
            Cause::HttpConnect(error) => error.is_retryable(),
            #[cfg(feature = "http-connect")]
            Cause::Tls(error) => !crate::tls::is_of_rustls(error),
            #[cfg(feature = "wireguard")]
            Cause::WireGuard(refusal) => refusal.is_retryable(),
            #[cfg(feature = "i2p")]
            Cause::Sam(error) => error.is_retryable(),
            Cause::Via(error) => error.is_retryable(),
            Cause::Denied(_)
            | Cause::Egress(_)
            | Cause::NotSupported { .. }
            | Cause::Panicked
            | Cause::Permanent(_) => false,
        }
    }
}

impl Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} failed", self.step(), self.peer())
    }
}

impl std::error::Error for DriverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.cause())
    }
}

/// A step towards a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverStep {
    /// A name is looked up.
    Lookup,
    /// A TCP connection is made.
    Connect,
    /// A local address is taken, to accept connections there.
    Listen,
    /// A connection is accepted.
    Accept,
    /// A local address is taken, for datagrams.
    Bind,
    /// A datagram is sent.
    Send,
    /// A datagram is received.
    Receive,
    /// A stage of the SOCKS5 handshake.
    Socks5(Stage),
    /// A stage of the connection through an HTTP proxy.
    #[cfg(feature = "http-connect")]
    HttpConnect(ConnectStage),
    /// A stage of what is said to the SAM bridge of an I2P router.
    #[cfg(feature = "i2p")]
    Sam(i2p::Stage),
    /// A step that only this kind of network has. What is shown is this text, and then the peer.
    Other(&'static str),
}

impl Display for DriverStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lookup => "looking up",
            Self::Connect => "connecting to",
            Self::Listen => "listening at",
            Self::Accept => "accepting a connection at",
            Self::Bind => "taking for datagrams",
            Self::Send => "sending a datagram to",
            Self::Receive => "receiving a datagram at",
            Self::Other(text) => text,
            Self::Socks5(Stage::Greeting) => "agreeing on an authentication method with SOCKS5 proxy",
            Self::Socks5(Stage::Authentication) => "authentication with SOCKS5 proxy",
            Self::Socks5(Stage::Request) => "the CONNECT request to SOCKS5 proxy",
            #[cfg(feature = "http-connect")]
            Self::HttpConnect(ConnectStage::Tls) => "the TLS handshake with HTTP proxy",
            #[cfg(feature = "http-connect")]
            Self::HttpConnect(ConnectStage::Request) => "the CONNECT request to HTTP proxy",
            #[cfg(feature = "i2p")]
            Self::Sam(stage) => match stage {
                i2p::Stage::Greeting => "agreeing on a version with SAM bridge",
                i2p::Stage::Session => "creating a session at SAM bridge",
                i2p::Stage::Lookup => "looking a name up at SAM bridge",
                i2p::Stage::Connect => "the STREAM CONNECT request to SAM bridge",
                i2p::Stage::Accept => "the STREAM ACCEPT request to SAM bridge",
                i2p::Stage::Incoming => "waiting for a connection at SAM bridge",
            },
        })
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The operating system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The time for all steps was over.
    #[error("the deadline of {limit:?} passed")]
    TimedOut {
        /// How long all steps may take.
        limit: Duration,
    },
    /// The peer closed the connection in the middle of the step.
    #[error("the peer closed the connection")]
    Closed,
    /// The SOCKS5 proxy refused, or broke the protocol.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The HTTP proxy refused, or broke the protocol.
    #[cfg(feature = "http-connect")]
    #[error(transparent)]
    HttpConnect(#[from] HttpConnectError),
    /// There is no TLS with the proxy. Where certificates are to blame there is an error of rustls in it.
    #[cfg(feature = "http-connect")]
    #[error("{}", crate::tls::in_words(.0))]
    Tls(io::Error),
    /// The SAM bridge of an I2P router refused or broke the protocol, or was not asked in the first place.
    #[cfg(feature = "i2p")]
    #[error(transparent)]
    Sam(Box<SamError>),
    /// The network that this one goes through made no connection.
    #[error(transparent)]
    Via(Box<NetworkError>),
    /// A limit that units share was reached.
    #[error(transparent)]
    Limit(#[from] LimitReached),
    /// The audit log could not record it, so nothing of it has left.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
    /// The rules of the network do not let it.
    #[error(transparent)]
    Denied(Box<Denied>),
    /// The option [`egress`](crate::egress) does not let the unit.
    #[error(transparent)]
    Egress(Box<EgressRefusal>),
    /// This kind of network has no such thing.
    #[error("{what} is not supported by a {kind} network")]
    NotSupported {
        /// The kind of network.
        kind: &'static str,
        /// What was asked of it.
        what: &'static str,
    },
    /// A network of another crate panicked. The panic hook has reported how.
    #[error("the network panicked")]
    Panicked,
    /// A [`WireGuard`](crate::wireguard::WireGuard) network does not carry this.
    #[cfg(feature = "wireguard")]
    #[error(transparent)]
    WireGuard(#[from] crate::wireguard::Refusal),
    /// A driver that is none of this crate's says so, and that the same may succeed later with nobody changing the
    /// configuration.
    #[error(transparent)]
    Transient(BoxError),
    /// A driver that is none of this crate's says so, and that it stays so.
    #[error(transparent)]
    Permanent(BoxError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operating_system_says_may_pass_unless_it_is_about_what_was_asked() {
        let is_retryable = |kind: io::ErrorKind| {
            DriverError::new(DriverStep::Connect, "h:1", Cause::Io(kind.into())).is_retryable()
        };
        assert!(is_retryable(io::ErrorKind::ConnectionRefused) && is_retryable(io::ErrorKind::AddrInUse));
        assert!(!is_retryable(io::ErrorKind::PermissionDenied) && !is_retryable(io::ErrorKind::InvalidInput));
        let no_such_name = Cause::Io(io::ErrorKind::NotFound.into());
        assert!(!DriverError::new(DriverStep::Lookup, "nowhere.example", no_such_name).is_retryable());
    }
}
