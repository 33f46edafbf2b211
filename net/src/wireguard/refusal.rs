//! What a WireGuard network does not do, and why.

use std::net::IpAddr;

/// A WireGuard network refuses. Nothing was sent then, to nobody, but for what the name server was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No peer owns the destination.
    #[error("no peer has {address} among its allowed IPs")]
    NoPeer {
        /// The destination.
        address: IpAddr,
    },
    /// It is not known where the peer is that owns the destination.
    #[error("the peer with {address} among its allowed IPs has no endpoint, and was not heard from yet")]
    NoEndpoint {
        /// The destination.
        address: IpAddr,
    },
    /// This end has no address of the destination's family.
    #[error("this end of the tunnel has no address from which to reach {address}")]
    NoSource {
        /// The destination.
        address: IpAddr,
    },
    /// The destination is this end of the tunnel, or none at all.
    #[error("{address} is not at the far end of the tunnel")]
    NotRemote {
        /// The destination.
        address: IpAddr,
    },
    /// An address to listen at, or to send from, is not one of this end.
    #[error("{address} is not an address of this end of the tunnel")]
    NotLocal {
        /// The address.
        address: IpAddr,
    },
    /// A datagram is longer than what the tunnel carries in one piece.
    #[error("a datagram of {len} bytes is too long: with this MTU {most} fit")]
    TooLong {
        /// Its length.
        len: usize,
        /// The longest that there can be.
        most: usize,
    },
    /// The network has as many connections as it may have.
    #[error(
        "the network has {most} connections open, and may not have more; close one, or raise `max_connections`"
    )]
    TooManyConnections {
        /// How many it may have.
        most: usize,
    },
    /// The network has no name servers.
    #[error("this network has no `dns`, so names cannot be looked up")]
    NoNameServer,
    /// The name servers know no address of a name.
    #[error("the name has no address")]
    NoAddress,
    /// A name server in the tunnel does not answer the question.
    #[error("the name server {server} answers with the error {code}")]
    NameServer {
        /// The server.
        server: IpAddr,
        /// The code of the error, of RFC 1035.
        code: u8,
    },
}

impl Refusal {
    /// Whether the same call may succeed later with nobody changing the configuration.
    pub const fn is_retryable(self) -> bool {
        /// What a name server answers that has troubles of its own.
        const SERVER_FAILURE: u8 = 2;
        match self {
            Self::NoEndpoint { .. } | Self::TooManyConnections { .. } => true,
            Self::NameServer { code, .. } => code == SERVER_FAILURE,
            Self::NoPeer { .. }
            | Self::NoSource { .. }
            | Self::NotRemote { .. }
            | Self::NotLocal { .. }
            | Self::TooLong { .. }
            | Self::NoNameServer
            | Self::NoAddress => false,
        }
    }
}
