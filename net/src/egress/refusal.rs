//! Why a destination is not for a unit.

use std::fmt;

use super::list::EgressList;
use crate::endpoint::Host;

/// No rule of an [egress list](EgressList) of the unit covers the destination. Nothing was sent, and no name was looked up.
///
/// `Display` shows rules. It is for the log, and not for scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRefusal {
    host: Host,
    port: Option<u16>,
    /// The list as it is shown: copying it would take a table for each refused attempt.
    list: Box<str>,
    has_rules_for_names_only: bool,
}

impl EgressRefusal {
    pub(crate) fn new(host: Host, port: Option<u16>, list: &EgressList) -> Self {
        Self { host, port, list: list.to_string().into(), has_rules_for_names_only: list.has_names_only() }
    }

    /// The host that the unit may not reach.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The port that the unit may not reach; none in a lookup.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// The rules of the list that refused, the first of them if there are many.
    pub const fn list(&self) -> &str {
        &self.list
    }

    /// The host and the port, as a rule has them.
    fn destination(&self) -> String {
        match (&self.host, self.port) {
            (Host::Address(address), Some(port)) => std::net::SocketAddr::new(*address, port).to_string(),
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_string(),
        }
    }
}

impl fmt::Display for EgressRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destination = self.destination();
        write!(f, "`{destination}` is not covered by `egress`, which is {}", self.list)?;
        if self.has_rules_for_names_only && matches!(self.host, Host::Address(_)) {
            f.write_str(" and has no addresses")?;
        }
        write!(f, "; to allow it, add \"{destination}\"")
    }
}

impl std::error::Error for EgressRefusal {}
