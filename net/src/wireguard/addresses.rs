//! The addresses of this end of the tunnel.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::wireguard::Refusal;

/// The addresses of this end, each with the prefix that it is in.
#[derive(Debug, Clone)]
pub(super) struct Addresses(Vec<IpNet>);

impl Addresses {
    /// There is at least one; `Setup` has checked that.
    pub(super) const fn new(addresses: Vec<IpNet>) -> Self {
        Self(addresses)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.0.iter().copied()
    }

    /// Returns whether `address` is one of this end.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|own| own.addr() == address)
    }

    /// The address that packets to `to` come from: the one with the longest prefix around `to`, or else the first of
    /// that family. The kernel's stack has routes that say the same.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotRemote`] if nothing at the far end can have the address, [`Refusal::NoSource`] if this end has no
    /// address of that family.
    pub(super) fn source(&self, to: IpAddr) -> Result<IpAddr, Refusal> {
        let is_none = to.is_unspecified() || to.is_multicast() || to.is_loopback();
        if is_none || self.contains(to) {
            return Err(Refusal::NotRemote { address: to });
        }
        let family = self.0.iter().filter(|own| own.addr().is_ipv4() == to.is_ipv4());
        let around = family.clone().filter(|own| own.contains(&to));
        // Of equal prefixes the first, which `max_by_key` would not choose.
        let nearest = around.rev().max_by_key(|own| own.prefix_len()).or_else(|| family.clone().next());
        nearest.map(IpNet::addr).ok_or(Refusal::NoSource { address: to })
    }

    /// Refuses to listen at an address that is not one of this end.
    pub(super) fn check_local(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        match address {
            Some(address) if !self.contains(address) => Err(Refusal::NotLocal { address }),
            _ => Ok(()),
        }
    }

    /// The address to show for a socket that is bound to `address`, or to all of them.
    pub(super) fn shown(&self, address: Option<IpAddr>) -> IpAddr {
        address.unwrap_or_else(|| self.0[0].addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_in_the_longest_prefix_around_the_destination() {
        let own = ["10.0.0.1/8", "10.1.0.1/16", "10.1.0.2/16", "fd00::1/64"].map(|own| own.parse().unwrap());
        let own = Addresses::new(own.to_vec());
        let source = |to: &str| own.source(to.parse().unwrap()).map(|source| source.to_string());
        for (to, expected) in [
            ("10.9.9.9", "10.0.0.1"),
            ("10.1.9.9", "10.1.0.1"),
            ("192.0.2.1", "10.0.0.1"),
            ("fd00::9", "fd00::1"),
            ("2001:db8::1", "fd00::1"),
        ] {
            assert_eq!(source(to).as_deref(), Ok(expected), "{to}");
        }
        assert_eq!(source("10.1.0.2"), Err(Refusal::NotRemote { address: "10.1.0.2".parse().unwrap() }));
    }
}
