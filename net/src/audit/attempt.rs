//! What is recorded of an attempt.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::callers::Callers;
use super::end::End;
use crate::endpoint::{Endpoint, Host, HostName, LocalEndpoint, NetworkAddr};
use crate::isolation::IsolationKey;
use crate::limits::Unit;
use crate::network::{NetworkId, Route};

/// An attempt of a unit to reach something, or to be reached.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// A number that no other attempt of this process has.
    pub id: u64,
    /// When it began.
    pub time: SystemTime,
    /// What it is.
    pub kind: AttemptKind,
    /// The unit that it is of.
    pub unit: Unit,
    /// The units that called it.
    pub callers: Callers,
    /// The distributed trace that it is part of, as [`Audit::trace_id`](super::Audit::trace_id) returned it.
    pub trace_id: Option<Arc<str>>,
    /// The network that it goes through.
    pub route: Route,
    /// The networks that this network goes through in turn.
    pub via: Vec<NetworkId>,
    /// The isolation key. It may name a tenant, so a log should not show it.
    pub isolation: Option<IsolationKey>,
    /// Where it goes, as the unit asked for it.
    pub destination: Destination,
    /// The method, of an HTTP request. Path and query are not recorded, because they may hold secrets.
    pub method: Option<Box<str>>,
    /// The URL's scheme, of an HTTP request or a WebSocket.
    pub scheme: Option<&'static str>,
    /// The secret that a request names.
    pub secret: Option<Arc<str>>,
    /// What the rules for destinations say. A network may still refuse it: see [`Outcome::verdict`].
    pub verdict: Verdict,
}

/// What an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttemptKind {
    /// A connection.
    Connect,
    /// An HTTP request, or what one redirect leads to. A request that is sent again is one attempt. Connections that are
    /// kept carry many requests, so these are recorded and not the connections.
    Http,
    /// A WebSocket, with its opening request.
    WebSocket,
    /// A lookup of a name. What a connection looks up by itself is part of the connection.
    Lookup,
    /// A socket for datagrams.
    Bind,
    /// Datagrams to one peer and back.
    Datagram,
    /// A listener.
    Listen,
    /// A connection that a peer made to a listener.
    Accept,
}

impl AttemptKind {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Http => "http",
            Self::WebSocket => "websocket",
            Self::Lookup => "lookup",
            Self::Bind => "bind",
            Self::Datagram => "datagram",
            Self::Listen => "listen",
            Self::Accept => "accept",
        }
    }
}

impl fmt::Display for AttemptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an attempt goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Destination {
    /// A host and a port.
    Endpoint(Endpoint),
    /// A name, which is looked up.
    Name(HostName),
    /// An address of this end.
    Local(LocalEndpoint),
    /// A peer that connected.
    Peer(NetworkAddr),
}

impl Destination {
    /// Returns the host: a name or an address. A listener on all addresses of this end has none.
    pub fn host(&self) -> Option<Host> {
        match self {
            Self::Endpoint(endpoint) => Some(endpoint.host().clone()),
            Self::Name(name) => Some(Host::Name(name.clone())),
            Self::Local(local) => local.address.map(Host::Address),
            Self::Peer(peer) => Some(peer.host.clone()),
        }
    }

    /// Returns the port, which a name alone has not.
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Endpoint(endpoint) => Some(endpoint.port()),
            Self::Name(_) => None,
            Self::Local(local) => Some(local.port),
            Self::Peer(peer) => Some(peer.port),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::Local(local) => local.fmt(f),
            Self::Peer(peer) => peer.fmt(f),
        }
    }
}

impl From<&Endpoint> for Destination {
    fn from(endpoint: &Endpoint) -> Self {
        Self::Endpoint(endpoint.clone())
    }
}

impl From<&HostName> for Destination {
    fn from(name: &HostName) -> Self {
        Self::Name(name.clone())
    }
}

impl From<&LocalEndpoint> for Destination {
    fn from(local: &LocalEndpoint) -> Self {
        Self::Local(*local)
    }
}

impl From<&NetworkAddr> for Destination {
    fn from(peer: &NetworkAddr) -> Self {
        Self::Peer(peer.clone())
    }
}

/// Whether an attempt was allowed, and what decided that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Verdict {
    /// Whether it was refused.
    pub is_refused: bool,
    /// The rule, or the limit, that decided. None where nothing restricts the unit.
    pub rule: Option<Arc<str>>,
}

impl Verdict {
    /// Allowed by `rule`, or because no rule applies.
    pub const fn allowed(rule: Option<Arc<str>>) -> Self {
        Self { is_refused: false, rule }
    }

    /// Refused by `rule`.
    pub fn refused(rule: impl Into<Arc<str>>) -> Self {
        Self { is_refused: true, rule: Some(rule.into()) }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// Whether [`Audit::begin`](super::Audit::begin) was called for it and let it go on. If not, nothing of it has left.
    pub is_begun: bool,
    /// How it ended.
    pub end: End,
    /// Whether it was allowed, by the rules for destinations, the network, and the limits.
    pub verdict: Verdict,
    /// The address that was connected to, where this host made the connection itself.
    pub peer: Option<SocketAddr>,
    /// Bytes that the unit sent. Of HTTP, heads as HTTP/1.1 writes them, and bodies.
    pub sent: u64,
    /// Bytes that the unit received, counted in the same way.
    pub received: u64,
    /// How long it took, from its beginning to its end.
    pub duration: Duration,
}

impl Outcome {
    /// That of an attempt that was refused before anything of it left.
    pub const fn refused(verdict: Verdict) -> Self {
        let (sent, received, duration) = (0, 0, Duration::ZERO);
        Self { is_begun: false, end: End::Refused, verdict, peer: None, sent, received, duration }
    }
}
