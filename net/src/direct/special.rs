//! Addresses and names that are not of the public internet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::rule::bare;
#[cfg(feature = "http")]
use crate::endpoint::Host;
use crate::endpoint::HostName;

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
pub(super) struct SpecialRange {
    what: &'static str,
    block: IpNet,
}

impl SpecialRange {
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

/// How an IPv6 address holds an IPv4 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Mapped,
    Compatible,
    Translated,
    Nat64,
    SixToFour,
    Teredo,
    Isatap,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mapped => "IPv4-mapped",
            Self::Compatible => "IPv4-compatible",
            Self::Translated => "IPv4-translated",
            Self::Nat64 => "NAT64",
            Self::SixToFour => "6to4",
            Self::Teredo => "Teredo",
            Self::Isatap => "ISATAP",
        })
    }
}

/// No address holds more: NAT64 can be read in four ways.
const MOST: usize = 4;

/// The IPv4 addresses that `address` holds, or may hold.
pub(super) fn embedded(address: Ipv6Addr) -> impl Iterator<Item = (Form, Ipv4Addr)> {
    let bytes = address.octets();
    let last = at(&bytes, [12, 13, 14, 15]);
    let mut found = [None; MOST];
    match address.segments() {
        // The unspecified address and loopback hold none.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => {}
        [0, 0, 0, 0, 0, 0, ..] => found[0] = Some((Form::Compatible, last)),
        [0, 0, 0, 0, 0, 0xffff, ..] => found[0] = Some((Form::Mapped, last)),
        [0, 0, 0, 0, 0xffff, 0, ..] => found[0] = Some((Form::Translated, last)),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => found[0] = Some((Form::Nat64, last)),
        [0x64, 0xff9b, 1, ..] => found = local_nat64(&bytes).map(|held| held.map(|held| (Form::Nat64, held))),
        // The server, and the client behind it, every bit of which is flipped (RFC 4380, 4).
        [0x2001, 0, ..] => {
            found[0] = Some((Form::Teredo, at(&bytes, [4, 5, 6, 7])));
            found[1] = Some((Form::Teredo, Ipv4Addr::from_bits(!last.to_bits())));
        }
        [first, _, _, _, interface @ ..] => {
            found[0] = (first == 0x2002).then(|| (Form::SixToFour, at(&bytes, [2, 3, 4, 5])));
            found[1] = matches!(interface, [0 | 0x200, 0x5efe, ..]).then_some((Form::Isatap, last));
        }
    }
    found.into_iter().flatten()
}

fn at(bytes: &[u8; 16], places: [usize; 4]) -> Ipv4Addr {
    places.map(|place| bytes[place]).into()
}

/// Within `64:ff9b:1::/48` the operator chooses the prefix, and its length says where the IPv4 address is (RFC 6052,
/// 2.2). All readings count behind which there is nothing but zeros. One that is itself nothing but zeros counts only
/// if there is no other: it is what is behind a shorter prefix's address.
fn local_nat64(bytes: &[u8; 16]) -> [Option<Ipv4Addr>; MOST] {
    let readings = [([6, 7, 9, 10], 11), ([7, 9, 10, 11], 12), ([9, 10, 11, 12], 13), ([12, 13, 14, 15], 16)];
    let mut found = readings.map(|(places, end)| {
        let held = at(bytes, places);
        (!held.is_unspecified() && bytes[end..].iter().all(|&byte| byte == 0)).then_some(held)
    });
    if found.iter().all(Option::is_none) {
        found[0] = Some(Ipv4Addr::UNSPECIFIED);
    }
    found
}

/// A name that another network knows, and that whoever asks a name server for shows where they wanted to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ForeignName {
    top: &'static str,
    whose: &'static str,
}

/// By the last label. RFC 7686 says of `onion`, and RFC 9476 of `alt`, that they are not to be looked up in the DNS.
const FOREIGN: [ForeignName; 3] = [
    ForeignName { top: "onion", whose: "Tor's" },
    ForeignName { top: "i2p", whose: "I2P's" },
    ForeignName { top: "alt", whose: "not the DNS's" },
];

impl ForeignName {
    /// What `name` is, if it is such a name.
    pub(super) fn of(name: &HostName) -> Option<Self> {
        let last = bare(name).rsplit('.').next()?;
        FOREIGN.into_iter().find(|foreign| last.eq_ignore_ascii_case(foreign.top))
    }
}

impl fmt::Display for ForeignName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (.{})", self.whose, self.top)
    }
}

/// Names of the host that looks them up, besides those with a last label in [`LOCAL_TOPS`]: those that distributions put
/// into `/etc/hosts`, and those under which clouds have a service for each of their machines.
const LOCAL_NAMES: [&str; 9] = [
    "localhost4",
    "localhost6",
    "ip6-localhost",
    "ip6-loopback",
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "instance-data",
    "instance-data.ec2.internal",
];

/// `localhost` and what is below it (RFC 6761, section 6.3), and the domains that are made up for hosts without one.
const LOCAL_TOPS: [&str; 4] = ["localhost", "localdomain", "localdomain4", "localdomain6"];

/// Whether `name` is one of the host that looks it up, or of what is next to it, and is not of the DNS.
pub(super) fn is_local(name: &HostName) -> bool {
    let name = bare(name);
    let is_any = |names: &[&str], name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    is_any(&LOCAL_NAMES, name) || name.rsplit('.').next().is_some_and(|last| is_any(&LOCAL_TOPS, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read out of an address, as text.
    fn held(address: &str) -> Vec<String> {
        let found = embedded(address.parse().unwrap());
        found.map(|(form, held)| format!("{form} {held}")).collect()
    }

    #[test]
    fn every_form_is_read() {
        let forms = [
            ("::ffff:192.0.2.1", "IPv4-mapped 192.0.2.1"),
            ("::192.0.2.1", "IPv4-compatible 192.0.2.1"),
            ("::2", "IPv4-compatible 0.0.0.2"),
            ("::ffff:0:192.0.2.1", "IPv4-translated 192.0.2.1"),
            ("64:ff9b::192.0.2.1", "NAT64 192.0.2.1"),
            ("2002:c000:201::", "6to4 192.0.2.1"),
            ("2002:c000:201:ffff:ffff:ffff:ffff:ffff", "6to4 192.0.2.1"),
            ("2a00::5efe:192.0.2.1", "ISATAP 192.0.2.1"),
            ("fe80::200:5efe:192.0.2.1", "ISATAP 192.0.2.1"),
        ];
        for (address, read) in forms {
            assert_eq!(held(address), [read], "{address}");
        }
    }

    #[test]
    fn teredo_holds_the_server_and_the_flipped_client() {
        assert_eq!(
            held("2001:0:4136:e378:8000:63bf:3fff:fdd2"),
            ["Teredo 65.54.227.120", "Teredo 192.0.2.45"]
        );
    }

    #[test]
    fn forms_that_are_nested_are_both_read() {
        assert_eq!(held("2002:c000:201::5efe:10.0.0.1"), ["6to4 192.0.2.1", "ISATAP 10.0.0.1"]);
    }

    #[test]
    fn every_prefix_of_a_local_nat64_is_read() {
        // RFC 6052, 2.4, with another prefix: 192.0.2.33 behind 48, 56, 64 and 96 bits.
        for address in [
            "64:ff9b:1:c000:2:2100::",
            "64:ff9b:1:aac0:0:221::",
            "64:ff9b:1:aabb:c0:2:2100:0",
            "64:ff9b:1:aabb:0:0:192.0.2.33",
        ] {
            let held = held(address);
            assert!(held.contains(&"NAT64 192.0.2.33".to_owned()), "{address}: {held:?}");
        }
        assert_eq!(held("64:ff9b:1::"), ["NAT64 0.0.0.0"]);
        assert_eq!(held("64:ff9b:1::8.8.8.8"), ["NAT64 8.8.8.8"]);
    }

    #[test]
    fn other_addresses_hold_none() {
        for address in ["::", "::1", "2a00::1", "2001:db8::5efe", "fe80::1", "64:ff9c::1", "2001:1::1"] {
            assert!(held(address).is_empty(), "{address}");
        }
    }
}
