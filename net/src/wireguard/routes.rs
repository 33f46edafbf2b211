//! Which peer a packet goes to, and from which address of this end.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use ipnet::IpNet;

use crate::wireguard::Refusal;

/// Who owns what, and who is known to be somewhere.
pub(super) struct Routes {
    owners: AllowedIps<usize>,
    /// By the index of the peer.
    reachable: Vec<AtomicBool>,
}

impl Routes {
    pub(super) fn new(owners: AllowedIps<usize>, reachable: impl Iterator<Item = bool>) -> Self {
        Self { owners, reachable: reachable.map(AtomicBool::new).collect() }
    }

    /// The index of the peer that owns `address`.
    pub(super) fn owner(&self, address: IpAddr) -> Option<usize> {
        self.owners.owner(address)
    }

    /// The peer was heard from.
    pub(super) fn set_reachable(&self, peer: usize) {
        // Written once, as a rule, and read by every packet.
        if !self.reachable[peer].load(Ordering::Relaxed) {
            self.reachable[peer].store(true, Ordering::Relaxed);
        }
    }

    /// Refuses an address that no peer owns, or one that is nobody knows where.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        let owner = self.owner(address).ok_or(Refusal::NoPeer { address })?;
        if self.reachable[owner].load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(Refusal::NoEndpoint { address })
        }
    }
}

/// Cryptokey routing: an address belongs to the owner of the longest prefix that it is in.
///
/// Looking one up takes a binary search for each length of prefix that is in use, whatever the number of prefixes.
#[derive(Debug, Clone)]
pub(super) struct AllowedIps<T> {
    v4: Vec<Level<T>>,
    v6: Vec<Level<T>>,
}

/// The prefixes of one length, by network. The levels of a table are sorted by length, the longest first.
#[derive(Debug, Clone)]
struct Level<T> {
    prefix_len: u8,
    networks: Vec<(u128, T)>,
}

impl<T: Copy> AllowedIps<T> {
    /// A table of these prefixes. Bits of the host in them mean nothing.
    ///
    /// # Errors
    ///
    /// The first prefix that is in it twice.
    pub(super) fn new(prefixes: impl IntoIterator<Item = (IpNet, T)>) -> Result<Self, IpNet> {
        let mut table = Self { v4: Vec::new(), v6: Vec::new() };
        for (prefix, owner) in prefixes {
            let network = network(prefix.addr(), prefix.prefix_len());
            let levels = table.levels_mut(prefix.addr());
            let level = levels.binary_search_by(|level| prefix.prefix_len().cmp(&level.prefix_len));
            let level = level.unwrap_or_else(|place| {
                levels.insert(place, Level { prefix_len: prefix.prefix_len(), networks: Vec::new() });
                place
            });
            let networks = &mut levels[level].networks;
            match networks.binary_search_by_key(&network, |&(network, _)| network) {
                Ok(_) => return Err(prefix.trunc()),
                Err(place) => networks.insert(place, (network, owner)),
            }
        }
        Ok(table)
    }

    /// The owner of `address`.
    pub(super) fn owner(&self, address: IpAddr) -> Option<T> {
        let levels = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        levels.iter().find_map(|level| {
            let network = network(address, level.prefix_len);
            let found = level.networks.binary_search_by_key(&network, |&(network, _)| network);
            found.ok().map(|found| level.networks[found].1)
        })
    }

    fn levels_mut(&mut self, address: IpAddr) -> &mut Vec<Level<T>> {
        if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

/// The first `prefix_len` bits of the address, as a number.
fn network(address: IpAddr, prefix_len: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    // Of a prefix without bits nothing is left; a shift by all 128 would be too far.
    bits.checked_shr(width - u32::from(prefix_len)).unwrap_or(0)
}

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
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// Addresses that are close together, so that prefixes have others within.
    fn address() -> impl Strategy<Value = IpAddr> {
        let crowded = prop_oneof![0_u32..8, Just(u32::MAX), any::<u32>()];
        (any::<bool>(), crowded, 0_u32..2).prop_map(|(is_v4, low, high)| {
            if is_v4 {
                Ipv4Addr::from_bits(low ^ (high << 31)).into()
            } else {
                Ipv6Addr::from_bits(u128::from(low) | (u128::from(high) << 127)).into()
            }
        })
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        (address(), 0_u8..=128).prop_map(|(address, prefix_len)| {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, prefix_len.min(longest)).unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_longest_prefix_owns_an_address(
            prefixes in prop::collection::vec(prefix(), 0..24),
            addresses in prop::collection::vec(address(), 1..24),
        ) {
            let mut unique: Vec<IpNet> = Vec::new();
            for prefix in &prefixes {
                if !unique.contains(&prefix.trunc()) {
                    unique.push(prefix.trunc());
                }
            }
            let table = AllowedIps::new(unique.iter().copied().zip(0..)).unwrap();
            for address in addresses {
                let containing = unique.iter().enumerate().filter(|(_, prefix)| prefix.contains(&address));
                let longest = containing.max_by_key(|(_, prefix)| prefix.prefix_len());
                prop_assert_eq!(table.owner(address), longest.map(|(index, _)| index));
            }
            let is_unique = unique.len() == prefixes.len();
            prop_assert_eq!(AllowedIps::new(prefixes.into_iter().zip(0..)).is_ok(), is_unique);
        }
    }

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
