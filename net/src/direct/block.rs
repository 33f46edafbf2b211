//! The addresses of a rule.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::ports::Ports;
use super::rule::AddressRule;
use super::rule_error::Problem;

/// Addresses with a prefix in common. A single one is shown without the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Block(IpNet);

impl Block {
    /// Reads `10.0.0.0/8`, `10.1.2.3`, `fd00::/8` or `::1`; nothing if it is not meant to be one of these. A rule that
    /// is proposed in an error has these `ports`.
    pub(super) fn parse(text: &str, ports: Ports) -> Result<Option<Self>, Problem> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        if address.contains('%') {
            return Err(Problem::Zone);
        }
        let Ok(address) = address.parse::<IpAddr>() else {
            return match prefix {
                _ if address.contains(':') => Err(Problem::Colons),
                Some(_) => Err(Problem::Slash),
                None => Ok(None),
            };
        };
        let one = IpNet::from(address);
        let Some(prefix) = prefix else { return Ok(Some(Self(one))) };
        let most = one.max_prefix_len();
        let length = prefix.parse().ok().filter(|length: &u8| length.to_string() == prefix);
        let net = length.and_then(|length| IpNet::new(address, length).ok());
        // A port behind an IPv6 address without brackets looks like a part of its prefix length.
        let problem = if prefix.contains(':') { Problem::Colons } else { Problem::Prefix { most } };
        let net = net.ok_or(problem)?;
        if net.network() == address {
            return Ok(Some(Self(net)));
        }
        let rule = |block| AddressRule { block, ports }.to_string().into();
        Err(Problem::HostBits { range: rule(Self(net.trunc())), address: rule(Self(one)) })
    }

    /// The one address.
    pub(super) fn one(address: IpAddr) -> Self {
        Self(address.into())
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// The addresses, as others write them.
    pub(crate) const fn net(&self) -> IpNet {
        self.0
    }

    /// Returns whether there are addresses that are in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// The IPv4 addresses that it has in their IPv4-mapped form, if it has no others.
    pub(crate) fn mapped(&self) -> Option<Self> {
        let IpNet::V6(net) = self.0 else { return None };
        let prefix = net.prefix_len().checked_sub(96)?;
        let address = net.addr().to_ipv4_mapped()?;
        Some(Self(Ipv4Net::new(address, prefix).ok()?.into()))
    }

    pub(super) const fn is_v6(&self) -> bool {
        matches!(self.0, IpNet::V6(_))
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}
