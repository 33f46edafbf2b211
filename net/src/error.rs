//! Why there is no connection.

use std::fmt::{self, Display};
use std::io;
use std::time::Duration;

use crate::dialer::Route;
use crate::endpoint::Endpoint;
use crate::host::HostName;
use crate::id::NetworkId;
use crate::socks5::{HandshakeError, Stage};

/// A network could not be chosen, registered or used. None of these ever means that clearnet was taken instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The chosen network is not there.
    #[error("network `{id}`, chosen by {chosen_by}, is not to be had: {missing}")]
    NotFound {
        /// The network.
        id: NetworkId,
        /// What chose it.
        chosen_by: ChosenBy,
        /// What is missing.
        missing: Missing,
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
            Self::Connect { source, .. } | Self::Lookup { source, .. } => source.is_retryable(),
            Self::NotFound { .. }
            | Self::NotBooted
            | Self::AlreadyRegistered { .. }
            | Self::NotRegistered { .. } => false,
        }
    }
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
}

impl Display for ChosenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Option => "the option `network`",
            Self::ParentFrame => "the parent's frame",
            Self::AppDefault => "the app's default",
            Self::Frame => "the frame",
        })
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
#[derive(Debug, thiserror::Error)]
#[error("{step} {peer} failed")]
pub struct DriverError {
    step: Step,
    peer: Box<str>,
    #[source]
    cause: Cause,
}

impl DriverError {
    /// `step`, done with `peer`, failed for `cause`.
    pub fn new(step: Step, peer: impl Display, cause: Cause) -> Self {
        Self { step, peer: peer.to_string().into(), cause }
    }

    /// The step that failed.
    pub const fn step(&self) -> Step {
        self.step
    }

    /// With whom: the host, or the proxy on the way to it.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Why.
    pub const fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Whether the same call may succeed later with nobody changing the configuration.
    pub fn is_retryable(&self) -> bool {
        match &self.cause {
            Cause::Io(_) | Cause::TimedOut { .. } | Cause::Closed => true,
            Cause::Handshake(error) => error.is_retryable(),
            Cause::NotSupported { .. } => false,
        }
    }
}

/// A step towards a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A name is looked up.
    Lookup,
    /// A TCP connection is made.
    Connect,
    /// A stage of the SOCKS5 handshake.
    Socks5(Stage),
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lookup => "looking up",
            Self::Connect => "connecting to",
            Self::Socks5(Stage::Greeting) => "agreeing on an authentication method with SOCKS5 proxy",
            Self::Socks5(Stage::Authentication) => "authentication with SOCKS5 proxy",
            Self::Socks5(Stage::Request) => "the CONNECT request to SOCKS5 proxy",
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
    /// This kind of network has no such thing.
    #[error("a {kind} network does not support it")]
    NotSupported {
        /// The kind of network.
        kind: &'static str,
    },
}
