//! IPv4 addresses inside IPv6 ones: whoever reaches the one may reach the other.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

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
