use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn guard(config: Value) -> Guard {
    Guard::new(serde_json::from_value(config).unwrap())
}

/// Why `address` is denied at `port`, if it is.
fn literal(guard: &Guard, address: &str, port: u16) -> Option<DeniedBy> {
    guard.literal(Some(port)).check(address.parse().unwrap()).err().map(|denied| denied.by().clone())
}

/// Whether `name` passes, and then each of `addresses`.
fn named(guard: &Guard, name: &str, port: u16, addresses: &[&str]) -> Result<(), String> {
    let name = name.parse().unwrap();
    let target = guard.named(&name, Some(port)).map_err(|denied| denied.to_string())?;
    let mut addresses = addresses.iter().map(|address| address.parse().unwrap());
    addresses.try_for_each(|address| target.check(address)).map_err(|denied| denied.to_string())
}

/// What is special, from the registries of IANA for special-purpose addresses and multicast: the addresses before it,
/// its first and last, and those behind it. `-` where the neighbour is special, too.
const SPECIAL: &[[&str; 5]] = &[
    ["-", "0.0.0.0", "0.0.0.0", "-", "unspecified"],
    ["-", "0.0.0.1", "0.255.255.255", "1.0.0.0", "network"],
    ["9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0", "private"],
    ["100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0", "CGNAT"],
    ["126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0", "loopback"],
    ["168.63.129.15", "168.63.129.16", "168.63.129.16", "168.63.129.17", "Azure"],
    ["169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0", "link-local"],
    ["172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0", "private"],
    ["191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0", "IETF"],
    ["192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0", "documentation"],
    ["192.31.195.255", "192.31.196.0", "192.31.196.255", "192.31.197.0", "AS112"],
    ["192.52.192.255", "192.52.193.0", "192.52.193.255", "192.52.194.0", "AMT"],
    ["192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0", "6to4"],
    ["192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0", "private"],
    ["192.175.47.255", "192.175.48.0", "192.175.48.255", "192.175.49.0", "AS112"],
    ["198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0", "benchmarking"],
    ["198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0", "documentation"],
    ["203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0", "documentation"],
    ["223.255.255.255", "224.0.0.0", "239.255.255.255", "-", "multicast"],
    ["-", "240.0.0.0", "255.255.255.254", "-", "reserved"],
    ["-", "255.255.255.255", "255.255.255.255", "-", "broadcast"],
    ["-", "::", "::", "-", "unspecified"],
    ["-", "::1", "::1", "-", "loopback"],
    ["-", "::2", "::ffff:ffff", "-", "IPv4-compatible"],
    ["-", "::1:0:0", "::fffe:ffff:ffff", "-", "reserved"],
    ["-", "::ffff:0.0.0.0", "::ffff:255.255.255.255", "-", "IPv4-mapped"],
    ["-", "::ffff:0:0.0.0.0", "::ffff:0:255.255.255.255", "-", "IPv4-translated"],
    ["-", "64:ff9b::", "64:ff9b::ffff:ffff", "-", "NAT64"],
    ["-", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "-", "NAT64"],
    ["-", "100::", "100::ffff:ffff:ffff:ffff", "-", "discarding"],
    ["-", "100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff", "-", "dummy"],
    ["-", "100:0:0:2::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2000::", "reserved"],
    [
        "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001::",
        "2001:0:ffff:ffff:ffff:ffff:ffff:ffff",
        "-",
        "Teredo",
    ],
    ["-", "2001:1::", "2001:1:ffff:ffff:ffff:ffff:ffff:ffff", "-", "IETF"],
    ["-", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "-", "benchmarking"],
    ["-", "2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff", "-", "AMT"],
    ["-", "2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff", "-", "AS112"],
    ["-", "2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "-", "ORCHID"],
    ["-", "2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", "-", "ORCHID"],
    ["-", "2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff", "-", "DET"],
    ["-", "2001:40::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::", "IETF"],
    [
        "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db8::",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db9::",
        "documentation",
    ],
    [
        "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2002::",
        "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2003::",
        "6to4",
    ],
    [
        "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff",
        "2620:4f:8000::",
        "2620:4f:8000:ffff:ffff:ffff:ffff:ffff",
        "2620:4f:8001::",
        "AS112",
    ],
    [
        "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "3fff::",
        "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
        "3fff:1000::",
        "documentation",
    ],
    [
        "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "4000::",
        "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "-",
        "reserved",
    ],
    ["-", "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "-", "segment routing"],
    ["-", "5f01::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "-", "reserved"],
    ["-", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "-", "unique local"],
    ["-", "fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "-", "reserved"],
    ["-", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "-", "link-local"],
    ["-", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "-", "site-local"],
    ["-", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "-", "multicast"],
];

#[test]
fn every_special_range_is_denied_from_its_first_address_to_its_last() {
    let guard = guard(json!({ "allow": ["*"] }));
    for [before, first, last, after, what] in SPECIAL {
        for address in [first, last] {
            let denied = literal(&guard, address, 443);
            let Some(DeniedBy::Special(range)) = &denied else { panic!("{address}: {denied:?}") };
            assert!(range.contains(what), "{address} is {range}, and not {what}");
            assert!(named(&guard, "a.example", 443, &["8.8.8.8", address]).is_err(), "{address}");
        }
        for address in [before, after].into_iter().filter(|&&address| address != "-") {
            assert_eq!(literal(&guard, address, 443), None, "{address}");
            assert_eq!(named(&guard, "a.example", 443, &[address]), Ok(()), "{address}");
        }
    }
}

#[test]
fn places_that_are_known_to_be_attacked_are_denied() {
    let guard = guard(json!({}));
    for address in [
        "169.254.169.254",
        "169.254.170.2",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "::ffff:169.254.169.254",
        "::ffff:a9fe:a9fe",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::",
        "2a00::5efe:169.254.169.254",
        "2001:0:8.8.8.8::".replace("8.8.8.8", "808:808").as_str(),
    ] {
        assert!(literal(&guard, address, 80).is_some(), "{address}");
    }
}

#[test]
fn an_address_rule_opens_what_is_in_it_and_at_its_ports() {
    let guard = guard(json!({ "allow": ["127.0.0.0/30:8000-8999", "::1"] }));
    for (address, port) in [("127.0.0.0", 8000), ("127.0.0.3", 8999), ("::1", 1)] {
        assert_eq!(literal(&guard, address, port), None, "{address}");
    }
    for (address, port) in
        [("127.0.0.0", 7999), ("127.0.0.3", 9000), ("127.0.0.4", 8000), ("::", 1), ("::2", 1)]
    {
        assert!(literal(&guard, address, port).is_some(), "{address}");
    }
}

#[test]
fn a_rule_for_a_name_opens_no_special_range() {
    let guard = guard(json!({ "allow": ["*", "localhost"], "default": "deny" }));
    assert_eq!(named(&guard, "localhost", 80, &["8.8.8.8"]), Ok(()));
    assert_eq!(
        named(&guard, "localhost", 80, &["8.8.8.8", "127.0.0.1"]).unwrap_err(),
        "`localhost` has the address 127.0.0.1, which is loopback (127.0.0.0/8), and in no address rule of `allow`; to \
         allow it, add \"127.0.0.1:80\" to `allow`"
    );
}

#[test]
fn to_deny_wins_over_to_allow() {
    let config = json!({
        "allow": ["10.0.0.0/8", "8.8.8.8", "a.example"],
        "deny": ["10.1.0.0/16", "8.8.0.0/16:53", "a.example:25", "*.b.example"],
    });
    let guard = guard(config);
    assert_eq!(literal(&guard, "10.0.0.1", 80), None);
    assert_eq!(literal(&guard, "10.1.0.1", 80), Some(DeniedBy::Rule("10.1.0.0/16".parse().unwrap())));
    assert_eq!(literal(&guard, "8.8.8.8", 80), None);
    assert!(literal(&guard, "8.8.8.8", 53).is_some());
    assert_eq!(named(&guard, "a.example", 80, &["1.1.1.1", "10.0.0.1"]), Ok(()));
    assert_eq!(
        named(&guard, "A.Example.", 25, &[]).unwrap_err(),
        "`A.Example.` is denied by the rule `a.example:25`"
    );
    assert_eq!(
        named(&guard, "x.b.example", 80, &[]).unwrap_err(),
        "`x.b.example` is denied by the rule `*.b.example`"
    );
    assert_eq!(
        named(&guard, "c.example", 80, &["1.1.1.1", "10.1.2.3"]).unwrap_err(),
        "`c.example` has the address 10.1.2.3, which is denied by the rule `10.1.0.0/16`"
    );
}

#[test]
fn to_deny_an_ipv4_address_in_its_mapped_form_denies_the_address() {
    let guard =
        guard(json!({ "deny": ["::ffff:8.8.8.8", "[::ffff:9.9.0.0/112]:53"], "allow": ["::ffff:0:0/96"] }));
    for (address, port) in [("8.8.8.8", 80), ("::ffff:8.8.8.8", 80), ("9.9.9.9", 53), ("::ffff:9.9.9.9", 53)]
    {
        assert!(matches!(literal(&guard, address, port), Some(DeniedBy::Rule(_))), "{address}");
    }
    assert_eq!(literal(&guard, "9.9.9.9", 80), None);
    assert_eq!(literal(&guard, "8.8.4.4", 80), None);
}

#[test]
fn names_of_other_networks_are_not_looked_up() {
    let foreign = ["a.onion", "A.ONION.", "x.a.i2p", "a.b32.i2p", "onion", "a.alt"];
    for config in [json!({}), json!({ "allow": ["*", "0.0.0.0/0", "a.onion.example"] })] {
        let guard = guard(config);
        for name in foreign {
            let denied = named(&guard, name, 80, &[]).unwrap_err();
            assert!(denied.contains("is not looked up over clearnet"), "{denied}");
        }
        for name in ["onion.example", "a.onion.example", "aonion", "onion-a", "i2p.alt.example"] {
            assert_eq!(named(&guard, name, 80, &["8.8.8.8"]), Ok(()), "{name}");
        }
    }
    let guard = guard(json!({ "allow": ["*.onion:80"] }));
    assert_eq!(named(&guard, "a.onion", 80, &["8.8.8.8"]), Ok(()));
    assert_eq!(
        named(&guard, "a.onion", 81, &[]).unwrap_err(),
        "`a.onion` is a name that is Tor's (.onion), and is not looked up over clearnet; choose a network that knows \
         it: with the option `network`, or with `via` for a proxy"
    );
}

#[test]
fn to_deny_by_default_leaves_what_a_rule_allows() {
    let guard = guard(json!({ "allow": ["1.1.1.0/24:443", "*.a.example"], "default": "deny" }));
    assert_eq!(literal(&guard, "1.1.1.1", 443), None);
    assert_eq!(literal(&guard, "1.1.1.1", 80), Some(DeniedBy::Default));
    assert_eq!(literal(&guard, "8.8.8.8", 443), Some(DeniedBy::Default));
    assert_eq!(named(&guard, "x.a.example", 80, &["8.8.8.8"]), Ok(()));
    // A rule for addresses is none for the names that lead there.
    assert_eq!(
        named(&guard, "other.example", 443, &[]).unwrap_err(),
        "`other.example` matches no name rule of `allow`, and the default is to deny without looking it up; to allow \
         it, add \"other.example:443\" to `allow`"
    );
}

#[test]
fn an_address_inside_an_address_needs_a_rule_as_well() {
    let inner = |config| literal(&guard(config), "64:ff9b::10.0.0.1", 80);
    assert!(matches!(inner(json!({})), Some(DeniedBy::Special(range)) if range.contains("NAT64")));
    assert!(
        matches!(inner(json!({ "allow": ["10.0.0.0/8"] })), Some(DeniedBy::Special(range)) if range.contains("NAT64"))
    );
    assert!(
        matches!(inner(json!({ "allow": ["64:ff9b::/96"] })), Some(DeniedBy::Special(range)) if range.starts_with("private ("))
    );
    assert_eq!(inner(json!({ "allow": ["64:ff9b::/96", "10.0.0.0/8"] })), None);
    let denied = json!({ "allow": ["64:ff9b::/96", "10.0.0.0/8"], "deny": ["10.0.0.1"] });
    assert_eq!(inner(denied), Some(DeniedBy::Rule("10.0.0.1".parse().unwrap())));
}

#[test]
fn what_is_public_behind_an_allowed_translator_is_open() {
    let open = guard(json!({ "allow": ["64:ff9b::/96"] }));
    assert_eq!(literal(&open, "64:ff9b::8.8.8.8", 443), None);
    let by_name = guard(json!({ "allow": ["64:ff9b::/96", "a.example"], "default": "deny" }));
    assert_eq!(named(&by_name, "a.example", 443, &["64:ff9b::8.8.8.8"]), Ok(()));
    let by_address = guard(json!({ "allow": ["64:ff9b::/96"], "default": "deny" }));
    let held = by_address.literal(Some(443)).check("64:ff9b::8.8.8.8".parse().unwrap()).unwrap_err();
    assert_eq!(
        held.to_string(),
        "64:ff9b::808:808 is the NAT64 form of 8.8.8.8, which matches no rule of `allow`, and the default is to deny; \
         to allow it, add \"8.8.8.8:443\" to `allow`"
    );
}

#[test]
fn a_lookup_is_denied_by_rules_for_all_ports_and_allowed_by_rules_for_one() {
    let config = json!({
        "allow": ["a.example:443", "10.0.0.1:80"],
        "deny": ["b.example:443", "c.example", "1.1.1.1:53", "9.9.9.9"],
        "default": "deny",
    });
    let guard = guard(config);
    let lookup = |name: &str, address: &str| {
        let name = name.parse().unwrap();
        guard.named(&name, None).and_then(|target| target.check(address.parse().unwrap()))
    };
    assert!(lookup("a.example", "8.8.8.8").is_ok());
    assert!(lookup("a.example", "1.1.1.1").is_ok());
    assert!(lookup("a.example", "10.0.0.1").is_ok());
    // The rule for the address is none for a name.
    assert!(lookup("b.example", "10.0.0.1").is_err());
    assert!(lookup("c.example", "10.0.0.1").is_err());
    assert!(lookup("a.example", "9.9.9.9").is_err());
    assert_eq!(
        lookup("a.example", "127.0.0.1").unwrap_err().to_string(),
        "`a.example` has the address 127.0.0.1, which is loopback (127.0.0.0/8), and in no address rule of `allow`; to \
         allow it, add \"127.0.0.1\" to `allow`"
    );
}

#[test]
fn listening_is_for_the_places_of_its_rules() {
    let local = |listen: Value, at: LocalEndpoint| {
        guard(json!({ "allow": ["0.0.0.0/0", "::/0"], "listen": listen }))
            .local(&at)
            .map_err(|error| error.to_string())
    };
    let at = |address: &str, port| LocalEndpoint::new(address.parse().unwrap(), port);
    let address = |text: &str| Ok(text.parse().unwrap());
    assert_eq!(
        local(json!([]), at("127.0.0.1", 80)),
        Err("127.0.0.1 is in no rule of `listen`; to allow it, add \"127.0.0.1:80\" to `listen`".into())
    );
    assert_eq!(local(json!(["127.0.0.0/8:80"]), at("127.0.0.1", 80)), address("127.0.0.1:80"));
    assert!(local(json!(["127.0.0.0/8:80"]), at("127.0.0.1", 81)).is_err());
    // A port that the system chooses.
    assert_eq!(local(json!(["127.0.0.1"]), at("127.0.0.1", 0)), address("127.0.0.1:0"));
    assert_eq!(
        local(json!(["127.0.0.1:80-99"]), at("127.0.0.1", 0)),
        Err("127.0.0.1 is in no rule of `listen`; to allow it, add \"127.0.0.1\" to `listen`".into())
    );
    // All addresses.
    assert_eq!(local(json!(["0.0.0.0"]), LocalEndpoint::port(80)), address("0.0.0.0:80"));
    assert_eq!(local(json!(["0.0.0.0", "::"]), LocalEndpoint::port(80)), address("[::]:80"));
    assert_eq!(
        local(json!(["::", "127.0.0.1"]), LocalEndpoint::port(80)),
        Err("0.0.0.0 is in no rule of `listen`; to allow it, add \"0.0.0.0:80\" to `listen`".into())
    );
    assert!(local(json!(["127.0.0.1"]), LocalEndpoint::port(80)).is_err());
    assert!(local(json!(["::ffff:127.0.0.1"]), at("::ffff:127.0.0.1", 80)).is_err());
    assert!(local(json!(["::ffff:127.0.0.1", "127.0.0.1"]), at("::ffff:127.0.0.1", 80)).is_ok());
}

/// An address and a prefix length, of few enough that rules and targets meet.
fn block() -> impl Strategy<Value = (u32, u32)> {
    let first = prop_oneof![Just(0x0800_0000), Just(0x0a00_0000), Just(0x7f00_0000)];
    (first, 0_u32..4, 6_u32..=32).prop_map(|(first, low, prefix)| (first | low, prefix))
}

/// A rule, as it is written, and as the model has it.
#[derive(Debug, Clone)]
enum Model {
    /// An IPv4 block, and whether the rule is for NAT64 addresses of what is in it.
    Block {
        bits: u32,
        prefix: u32,
        nat64: bool,
        ports: (u16, u16),
    },
    Name {
        name: &'static str,
        ports: (u16, u16),
    },
}

impl Model {
    fn text(&self) -> String {
        match *self {
            Self::Block { bits, prefix, nat64, ports: (first, last) } => {
                let address = Ipv4Addr::from_bits(bits & (u32::MAX << (32 - prefix)));
                if nat64 {
                    format!("[64:ff9b::{address}/{}]:{first}-{last}", 96 + prefix)
                } else {
                    format!("{address}/{prefix}:{first}-{last}")
                }
            }
            Self::Name { name, ports: (first, last) } => format!("{name}:{first}-{last}"),
        }
    }

    fn has_port(&self, port: u16) -> bool {
        let (Self::Block { ports, .. } | Self::Name { ports, .. }) = self;
        ports.0 <= port && port <= ports.1
    }

    fn has_address(&self, address: u32, is_nat64: bool) -> bool {
        match *self {
            Self::Block { bits, prefix, nat64, .. } => {
                nat64 == is_nat64 && (bits ^ address).checked_shr(32 - prefix).unwrap_or(0) == 0
            }
            Self::Name { .. } => false,
        }
    }

    fn has_name(&self, target: Option<&str>) -> bool {
        match (self, target) {
            (Self::Name { name, .. }, Some(target)) => match name.strip_prefix('*') {
                Some(end) => target.ends_with(end),
                None => target == *name,
            },
            _ => false,
        }
    }
}

fn model() -> impl Strategy<Value = Model> {
    let ports = || (1_u16..4, 1_u16..4).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let names = proptest::sample::select(vec!["*", "*.b", "a.b", "b"]);
    prop_oneof![
        (block(), any::<bool>(), ports()).prop_map(|((bits, prefix), nat64, ports)| Model::Block {
            bits,
            prefix,
            nat64,
            ports
        }),
        (names, ports()).prop_map(|(name, ports)| Model::Name { name, ports }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn decides_as_the_model_says(
        allow in proptest::collection::vec(model(), 0..5),
        deny in proptest::collection::vec(model(), 0..3),
        default_is_deny: bool,
        name in proptest::option::of(proptest::sample::select(vec!["a.b", "b", "c.a.b", "d"])),
        (address, _) in block(),
        is_nat64: bool,
        port in 1_u16..5,
    ) {
        let text = |rules: &[Model]| rules.iter().map(Model::text).collect::<Vec<_>>();
        let config = json!({
            "allow": text(&allow),
            "deny": text(&deny),
            "default": if default_is_deny { "deny" } else { "allow" },
        });
        let guard = guard(config.clone());
        let shown = Ipv4Addr::from_bits(address).to_string();
        let shown = if is_nat64 { format!("64:ff9b::{shown}") } else { shown };
        let decided = match name {
            Some(name) => named(&guard, name, port, &[&shown]).is_ok(),
            None => literal(&guard, &shown, port).is_none(),
        };

        let at_port = |rules: &[Model]| rules.iter().filter(|rule| rule.has_port(port)).cloned().collect::<Vec<_>>();
        let (allow, deny) = (at_port(&allow), at_port(&deny));
        let name_allowed = allow.iter().any(|rule| rule.has_name(name));
        let may_reach = |address: u32, is_nat64: bool| {
            let is_public = !is_nat64 && address >> 24 == 8;
            let denied = deny.iter().any(|rule| rule.has_address(address, is_nat64));
            let by_address = allow.iter().any(|rule| rule.has_address(address, is_nat64));
            !denied && (by_address || is_public && (name_allowed || !default_is_deny))
        };
        let expected = !deny.iter().any(|rule| rule.has_name(name))
            && (name.is_none() || name_allowed || !default_is_deny)
            && may_reach(address, false)
            && (!is_nat64 || may_reach(address, true));
        prop_assert_eq!(decided, expected, "{} {:?} {}:{}", config, name, shown, port);
    }

    #[test]
    fn what_is_denied_stays_so_in_whatever_form_it_is_written(address: u32, allow_forms: bool) {
        let inner = Ipv4Addr::from_bits(address);
        let [a, b, c, d] = inner.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let allow = if allow_forms { json!(["::/0"]) } else { json!([]) };
        let guard = guard(json!({ "allow": allow }));
        let denied = literal(&guard, &inner.to_string(), 80).is_some();
        for outer in [
            format!("::ffff:{inner}"),
            format!("64:ff9b::{inner}"),
            format!("64:ff9b:1::{inner}"),
            format!("2002:{high:x}:{low:x}::1"),
            format!("2001:0:808:808:0:0:{:x}:{:x}", !high, !low),
            format!("2001:0:{high:x}:{low:x}:0:0:f7f7:f7f7"),
            format!("fe80::5efe:{inner}"),
        ] {
            prop_assert_eq!(literal(&guard, &outer, 80).is_some(), denied || !allow_forms, "{}", outer);
        }
        prop_assert_eq!(literal(&guard, &format!("2a00::5efe:{inner}"), 80).is_some(), denied);
    }

    #[test]
    fn to_deny_an_address_denies_all_its_forms(address: u32) {
        let inner = Ipv4Addr::from_bits(address);
        let guard = guard(json!({ "allow": ["0.0.0.0/0", "::/0"], "deny": [inner.to_string()] }));
        let rule = DeniedBy::Rule(inner.to_string().parse().unwrap());
        for outer in [format!("{inner}"), format!("::ffff:{inner}"), format!("64:ff9b::{inner}"), format!("2a00::200:5efe:{inner}")] {
            prop_assert_eq!(literal(&guard, &outer, 80), Some(rule.clone()), "{}", outer);
        }
    }
}

/// Whether the rules of an overlay network let `to` pass.
fn overlay(config: &Value, to: &str) -> Result<(), String> {
    let config: crate::socks5::Socks5Config = {
        let mut config = config.clone();
        config["proxy"] = json!("127.0.0.1:1080");
        serde_json::from_value(config).unwrap()
    };
    let guard = OverlayGuard::new(&config.allow, &config.deny, config.default);
    guard.check(&to.parse().unwrap()).map_err(|denied| denied.to_string())
}

#[test]
fn an_overlay_denies_what_is_special_and_local_unless_a_rule_allows_it() {
    for [_, first, last, ..] in SPECIAL {
        for address in [first, last] {
            let to = if address.contains(':') { format!("[{address}]:80") } else { format!("{address}:80") };
            assert!(overlay(&json!({ "allow": ["*"] }), &to).is_err(), "{to}");
            assert_eq!(overlay(&json!({ "allow": ["0.0.0.0/0", "::/0"] }), &to), Ok(()), "{to}");
        }
    }
    for name in [
        "localhost",
        "LOCALHOST.",
        "a.b.localhost",
        "a.LocalHost.",
        "ip6-localhost",
        "IP6-Loopback.",
        "localhost4",
        "localhost6",
        "localhost.localdomain",
        "host.LOCALDOMAIN.",
        "localhost4.localdomain4",
        "localhost6.localdomain6",
        "metadata",
        "Metadata.Google.Internal.",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
    ] {
        for allow in [json!([]), json!(["*", "0.0.0.0/0", "::/0", "localhost:81"])] {
            let denied = overlay(&json!({ "allow": allow }), &format!("{name}:80")).unwrap_err();
            assert!(denied.contains("would be the proxy's own host"), "{denied}");
        }
        let allowed = json!({ "allow": ["localhost", "*.localhost", name] });
        assert_eq!(overlay(&allowed, &format!("{name}:80")), Ok(()), "{name}");
    }
    assert_eq!(
        overlay(&json!({}), "localhost:80").unwrap_err(),
        "`localhost` would be the proxy's own host; to allow it, add \"localhost:80\" to `allow`"
    );
    assert_eq!(
        overlay(&json!({}), "[2a00::5efe:10.0.0.1]:80").unwrap_err(),
        "2a00::5efe:a00:1 is the ISATAP form of 10.0.0.1, which is private (10.0.0.0/8), and in no address rule of \
         `allow`; to allow it, add \"10.0.0.1:80\" to `allow`"
    );
    for to in [
        "8.8.8.8:80",
        "[2a00::1]:80",
        "a.example:80",
        "a.onion:80",
        "localhost.example:80",
        "notlocalhost:80",
        "localdomain.example:80",
        "metadata.example:80",
        "ip6-localhost.example:80",
        "google.internal:80",
    ] {
        assert_eq!(overlay(&json!({}), to), Ok(()), "{to}");
    }
}

#[test]
fn an_overlay_has_the_rules_of_clearnet_for_what_it_is_asked_for() {
    let config = json!({
        "allow": ["8.8.8.0/24:53", "*.a.example", "10.0.0.0/8"],
        "deny": ["10.1.0.0/16", "x.a.example:25", "::ffff:8.8.8.9"],
        "default": "deny",
    });
    for to in ["8.8.8.8:53", "b.a.example:25", "x.a.example:80", "10.0.0.1:1"] {
        assert_eq!(overlay(&config, to), Ok(()), "{to}");
    }
    for to in [
        "8.8.8.8:54",
        "8.8.8.9:53",
        "a.example:80",
        "x.A.example.:25",
        "10.1.0.1:1",
        "b.example:53",
        "9.9.9.9:53",
    ] {
        assert!(overlay(&config, to).is_err(), "{to}");
    }
}
