//! The ranges of addresses that are not the public internet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::embedded::{Form, embedded};
#[cfg(feature = "http")]
use super::pattern::is_local;
#[cfg(feature = "http")]
use crate::host::Host;

/// Whether `host` is not of the public internet for all that can be told without looking it up: an address that
/// [is special](is_special_address), or a local name, such as `localhost` and what is below it.
#[cfg(feature = "http")]
pub(crate) fn is_special(host: &Host) -> bool {
    match host {
        Host::Name(name) => is_local(name),
        Host::Address(address) => is_special_address(*address),
    }
}

/// Whether `address` is in a [`SpecialRange`], or holds one that is.
pub(crate) fn is_special_address(address: IpAddr) -> bool {
    special(address).is_some()
}

/// The range that `address` is in, or that an address in it is in, which is given then.
pub(super) fn special(address: IpAddr) -> Option<(Option<(Form, Ipv4Addr)>, SpecialRange)> {
    let own = SpecialRange::of(address).map(|range| (None, range));
    own.or_else(|| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(outer) => embedded(outer)
            .find_map(|(form, held)| Some((Some((form, held)), SpecialRange::of(held.into())?))),
    })
}

/// A range of addresses that is not the public internet, or not only that. It is shown as what it is, and its block:
/// `loopback (127.0.0.0/8)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialRange {
    what: &'static str,
    block: IpNet,
}

impl SpecialRange {
    /// What an address of the range is, such as `loopback`.
    pub const fn what(&self) -> &'static str {
        self.what
    }

    /// The range that `address` is in; of several, the narrowest.
    pub(super) fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => find(V4, |block| block.contains(&address)),
            IpAddr::V6(address) => find(V6, |block| block.contains(&address)),
        }
    }
}

impl fmt::Display for SpecialRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.block)
    }
}

fn find<N: Copy + Into<IpNet>>(
    table: &[(N, &'static str)],
    is_in: impl Fn(&N) -> bool,
) -> Option<SpecialRange> {
    let found = table.iter().find(|(block, _)| is_in(block));
    found.map(|&(block, what)| SpecialRange { what, block: block.into() })
}

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: [u16; 4], prefix: u8) -> Ipv6Net {
    let [a, b, c, d] = first;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// A block of IPv6 addresses whose first 64 bits are zero.
const fn low(last: [u16; 4], prefix: u8) -> Ipv6Net {
    let [a, b, c, d] = last;
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, a, b, c, d), prefix)
}

const UNSPECIFIED: &str = "the unspecified address, which is this host";
const LOOPBACK: &str = "loopback";
const PRIVATE: &str = "private";
const LINK_LOCAL: &str = "link-local";
const MULTICAST: &str = "multicast";
const IETF: &str = "for protocols of the IETF";
const DOCUMENTATION: &str = "for documentation";
const BENCHMARKING: &str = "for benchmarking";
const AS112: &str = "of the AS112 sink for DNS";
const AMT: &str = "of AMT relays";
const NAT64: &str = "a NAT64 address";
const ORCHID: &str = "an ORCHID, which is not routed";
const RESERVED: &str = "reserved";

/// The special-purpose registry of IANA for IPv4, and multicast. Of two blocks the narrower comes first. Those that
/// the registry calls globally reachable are here as well: nobody serves there what a function would ask for.
static V4: &[(Ipv4Net, &str)] = &[
    (v4([0, 0, 0, 0], 32), UNSPECIFIED),
    (v4([0, 0, 0, 0], 8), "of this network"),
    (v4([10, 0, 0, 0], 8), PRIVATE),
    (v4([100, 64, 0, 0], 10), "shared address space of a provider (CGNAT)"),
    (v4([127, 0, 0, 0], 8), LOOPBACK),
    // None of IANA's: a public address that Azure keeps for itself, at which each of its machines finds an agent of
    // the host. It is as dangerous as 169.254.169.254, and of no use to anybody else.
    (v4([168, 63, 129, 16], 32), "of Azure's platform"),
    (v4([169, 254, 0, 0], 16), LINK_LOCAL),
    (v4([172, 16, 0, 0], 12), PRIVATE),
    (v4([192, 0, 0, 0], 24), IETF),
    (v4([192, 0, 2, 0], 24), DOCUMENTATION),
    (v4([192, 31, 196, 0], 24), AS112),
    (v4([192, 52, 193, 0], 24), AMT),
    (v4([192, 88, 99, 0], 24), "of 6to4 relays"),
    (v4([192, 168, 0, 0], 16), PRIVATE),
    (v4([192, 175, 48, 0], 24), AS112),
    (v4([198, 18, 0, 0], 15), BENCHMARKING),
    (v4([198, 51, 100, 0], 24), DOCUMENTATION),
    (v4([203, 0, 113, 0], 24), DOCUMENTATION),
    (v4([224, 0, 0, 0], 4), MULTICAST),
    (v4([255, 255, 255, 255], 32), "broadcast"),
    (v4([240, 0, 0, 0], 4), RESERVED),
];

/// The same for IPv6, with the ranges that hold IPv4 addresses, those that were given up, and all that is not global
/// unicast (`2000::/3`): what is put to use there some day is not to be open before it is known here.
static V6: &[(Ipv6Net, &str)] = &[
    (low([0, 0, 0, 0], 128), UNSPECIFIED),
    (low([0, 0, 0, 1], 128), LOOPBACK),
    (low([0, 0, 0, 0], 96), "an IPv4-compatible address"),
    (low([0, 0xffff, 0, 0], 96), "an IPv4-mapped address"),
    (low([0xffff, 0, 0, 0], 96), "an IPv4-translated address"),
    (v6([0x64, 0xff9b, 0, 0], 96), NAT64),
    (v6([0x64, 0xff9b, 1, 0], 48), NAT64),
    (v6([0x100, 0, 0, 0], 64), "for discarding"),
    (v6([0x100, 0, 0, 1], 64), "a dummy"),
    (v6([0x2001, 0, 0, 0], 32), "a Teredo address"),
    (v6([0x2001, 2, 0, 0], 48), BENCHMARKING),
    (v6([0x2001, 3, 0, 0], 32), AMT),
    (v6([0x2001, 4, 0x112, 0], 48), AS112),
    (v6([0x2001, 0x10, 0, 0], 28), ORCHID),
    (v6([0x2001, 0x20, 0, 0], 28), ORCHID),
    (v6([0x2001, 0x30, 0, 0], 28), "a tag of a drone (DET)"),
    (v6([0x2001, 0, 0, 0], 23), IETF),
    (v6([0x2001, 0xdb8, 0, 0], 32), DOCUMENTATION),
    (v6([0x2002, 0, 0, 0], 16), "a 6to4 address"),
    (v6([0x2620, 0x4f, 0x8000, 0], 48), AS112),
    (v6([0x3fff, 0, 0, 0], 20), DOCUMENTATION),
    (v6([0x5f00, 0, 0, 0], 16), "for segment routing"),
    (v6([0xfc00, 0, 0, 0], 7), "unique local"),
    (v6([0xfe80, 0, 0, 0], 10), LINK_LOCAL),
    (v6([0xfec0, 0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0, 0], 8), MULTICAST),
    (v6([0, 0, 0, 0], 3), RESERVED),
    (v6([0x4000, 0, 0, 0], 2), RESERVED),
    (v6([0x8000, 0, 0, 0], 1), RESERVED),
];
