//! The rules against a model that is written another way: of names it has the labels, of addresses the bits as text, of
//! ports the numbers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;
use crate::direct::config::DirectConfig;

/// The ports that rules and targets are of, so that they meet.
const PORTS: [u16; 5] = [1, 80, 443, 8080, 65535];

/// Labels of names: ASCII, international ones in their ASCII form, and those that mean something at the end.
const LABELS: [&str; 7] = ["a", "b", "xn--bcher-kva", "xn--a", "localhost", "onion", "example"];

/// The addresses of a rule or a target, as zeros and ones.
fn bits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:032b}", address.to_bits()),
        IpAddr::V6(address) => format!("{:0128b}", address.to_bits()),
    }
}

/// The ports of a rule: none is all of them.
#[derive(Debug, Clone)]
struct RulePorts {
    text: String,
    numbers: Option<BTreeSet<u16>>,
}

fn rule_ports() -> impl Strategy<Value = RulePorts> {
    let all = Just(RulePorts { text: String::new(), numbers: None });
    let one = select(PORTS.to_vec())
        .prop_map(|port| RulePorts { text: port.to_string(), numbers: Some(BTreeSet::from([port])) });
    let some = (0..PORTS.len(), 0..PORTS.len()).prop_map(|(one, other)| {
        let places = one.min(other)..=one.max(other);
        let text = format!("{}-{}", PORTS[*places.start()], PORTS[*places.end()]);
        // From the first to the last port is what a rule without any says, too.
        let numbers = Some(PORTS[places].iter().copied().collect::<BTreeSet<_>>());
        let numbers = numbers.filter(|_| text != "1-65535");
        RulePorts { text, numbers }
    });
    prop_oneof![2 => all, 1 => one, 1 => some]
}

/// A rule in its two forms: as it is written, and as the model has it.
#[derive(Debug, Clone)]
struct ModelRule {
    text: String,
    what: What,
    ports: Option<BTreeSet<u16>>,
}

#[derive(Debug, Clone)]
enum What {
    /// Addresses that begin with these bits, out of so many.
    Bits {
        prefix: String,
        len: usize,
    },
    AnyName,
    Name(Vec<String>),
    Below(Vec<String>),
}

impl ModelRule {
    /// Whether it counts at `port`; without one, if it is a rule to allow, or one for all ports.
    fn counts(&self, port: Option<u16>, allows: bool) -> bool {
        match (&self.ports, port) {
            (None, _) => true,
            (Some(ports), Some(port)) => ports.contains(&port),
            (Some(_), None) => allows,
        }
    }

    fn has_bits(&self, bits: &str) -> bool {
        matches!(&self.what, What::Bits { prefix, len } if bits.len() == *len && bits.starts_with(prefix.as_str()))
    }

    fn has_name(&self, labels: &[String]) -> bool {
        match &self.what {
            What::Bits { .. } => false,
            What::AnyName => true,
            What::Name(name) => name == labels,
            What::Below(apex) => labels.len() > apex.len() && labels.ends_with(apex),
        }
    }

    /// To deny the IPv4-mapped form of addresses is to deny these.
    fn with_mapped(self) -> Vec<Self> {
        let mapped = ["0".repeat(80), "1".repeat(16)].concat();
        let inner = match &self.what {
            What::Bits { prefix, len: 128 } => prefix.strip_prefix(&mapped).map(str::to_owned),
            _ => None,
        };
        let inner = inner.map(|prefix| Self { what: What::Bits { prefix, len: 32 }, ..self.clone() });
        std::iter::once(self).chain(inner).collect()
    }
}

/// IPv4 addresses: public ones and special ones, of few networks, so that rules and targets meet.
fn v4() -> impl Strategy<Value = (Ipv4Addr, bool)> {
    let public = select(vec![[8, 8], [9, 9]]).prop_map(|first| (first, false));
    let special = select(vec![[10, 0], [127, 0], [169, 254]]).prop_map(|first| (first, true));
    (prop_oneof![public, special], 0..3_u8, 0..3_u8)
        .prop_map(|(([a, b], is_special), c, d)| (Ipv4Addr::new(a, b, c, d), is_special))
}

/// A target that is an address, and what the model has to judge: the bits of each, and whether it is special.
#[derive(Debug, Clone)]
struct ModelAddress {
    address: IpAddr,
    judged: Vec<(String, bool)>,
}

/// An IPv4 address, itself or in one of the forms that IPv6 has of it, or an IPv6 address that holds none.
fn address() -> impl Strategy<Value = ModelAddress> {
    let forms = 0..9_u8;
    (v4(), forms, any::<bool>()).prop_map(|((inner, inner_is_special), form, other)| {
        let hex = |address: u32| format!("{:04x}:{:04x}", address >> 16, address & 0xffff);
        let (plain, flipped) = (hex(inner.to_bits()), hex(!inner.to_bits()));
        // The text, and whether the range of the form is special.
        let (text, is_special) = match form {
            0 => (inner.to_string(), inner_is_special),
            1 => (format!("::ffff:{inner}"), true),
            2 => (format!("::{inner}"), true),
            3 => (format!("::ffff:0:{inner}"), true),
            4 => (format!("64:ff9b::{inner}"), true),
            5 => (format!("2002:{plain}::{}", u8::from(other)), true),
            6 => (format!("2a00::{}:5efe:{inner}", if other { "0" } else { "200" }), false),
            // A Teredo server that is public, and a client.
            7 => (format!("2001:0:808:808::{flipped}"), true),
            _ => (if other { "2a00::1" } else { "fd00::1" }.to_owned(), !other),
        };
        let address: IpAddr = text.parse().unwrap();
        let mut judged = vec![(bits(address), is_special)];
        if (1..8).contains(&form) {
            judged.push((bits(inner.into()), inner_is_special));
        }
        if form == 7 {
            judged.push((bits(Ipv4Addr::new(8, 8, 8, 8).into()), false));
        }
        ModelAddress { address, judged }
    })
}

fn address_rule() -> impl Strategy<Value = ModelRule> {
    (address(), 0..=128_usize, rule_ports(), any::<bool>()).prop_map(|(target, len, ports, upper)| {
        let whole = bits(target.address);
        // Long prefixes most of the time: short ones have everything.
        let len = whole.len().saturating_sub(len * len / 128);
        let prefix = whole[..len].to_owned();
        let padded = format!("{prefix:0<width$}", width = whole.len());
        let first = match target.address {
            IpAddr::V4(_) => Ipv4Addr::from_bits(u32::from_str_radix(&padded, 2).unwrap()).to_string(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(u128::from_str_radix(&padded, 2).unwrap()).to_string(),
        };
        let first = if upper { first.to_uppercase() } else { first };
        let block = if len == whole.len() { first } else { format!("{first}/{len}") };
        let text = match (&*ports.text, target.address) {
            ("", _) => block,
            (ports, IpAddr::V4(_)) => format!("{block}:{ports}"),
            (ports, IpAddr::V6(_)) => format!("[{block}]:{ports}"),
        };
        ModelRule { text, what: What::Bits { prefix, len: whole.len() }, ports: ports.numbers }
    })
}

fn labels() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(select(LABELS.to_vec()).prop_map(str::to_owned), 1..4)
}

/// A name as users write it: in upper or lower case, with or without a trailing dot.
fn written(labels: &[String], upper: u32, dot: bool) -> String {
    let name = labels.join(".");
    let letters = name.chars().enumerate().map(|(place, letter)| {
        if upper >> (place % 32) & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
    });
    letters.chain(dot.then_some('.')).collect()
}

fn name_rule() -> impl Strategy<Value = ModelRule> {
    (labels(), 0..4_u8, any::<u32>(), any::<bool>(), rule_ports()).prop_map(
        |(labels, kind, upper, dot, ports)| {
            let name = written(&labels, upper, dot);
            let (name, what) = match kind {
                0 => ("*".to_owned(), What::AnyName),
                1 => (format!("*.{name}"), What::Below(labels)),
                _ => (name, What::Name(labels)),
            };
            let text = if ports.text.is_empty() { name } else { format!("{name}:{}", ports.text) };
            ModelRule { text, what, ports: ports.numbers }
        },
    )
}

fn rules(most: usize) -> impl Strategy<Value = Vec<ModelRule>> {
    proptest::collection::vec(prop_oneof![address_rule(), name_rule()], 0..most)
}

/// All that decides.
#[derive(Debug, Clone)]
struct Model {
    allow: Vec<ModelRule>,
    deny: Vec<ModelRule>,
    default_is_deny: bool,
}

impl Model {
    fn config(&self) -> DirectConfig {
        let text = |rules: &[ModelRule]| rules.iter().map(|rule| rule.text.clone()).collect::<Vec<_>>();
        let default = if self.default_is_deny { "deny" } else { "allow" };
        let config = json!({ "allow": text(&self.allow), "deny": text(&self.deny), "default": default });
        serde_json::from_value(config).unwrap()
    }

    /// Whether all that an address is, or holds, may be reached. One of a name has got past the default already.
    fn has_address(&self, target: &ModelAddress, port: Option<u16>, is_named: bool) -> bool {
        let deny: Vec<_> = self.deny.iter().cloned().flat_map(ModelRule::with_mapped).collect();
        target.judged.iter().all(|(bits, is_special)| {
            let is_denied = deny.iter().any(|rule| rule.counts(port, false) && rule.has_bits(bits));
            let is_allowed = self.allow.iter().any(|rule| rule.counts(port, true) && rule.has_bits(bits));
            let by_default = !is_special && (is_named || !self.default_is_deny);
            !is_denied && (is_allowed || by_default)
        })
    }

    /// Whether a name passes, before any address of it is known. Those that end in `reserved` have to be meant.
    fn has_name(&self, labels: &[String], port: Option<u16>, reserved: &str) -> bool {
        let has_name = |rule: &&ModelRule| rule.has_name(labels);
        let is_denied = self.deny.iter().filter(|rule| rule.counts(port, false)).any(|rule| has_name(&rule));
        let allowing: Vec<_> =
            self.allow.iter().filter(|rule| rule.counts(port, true)).filter(has_name).collect();
        let is_meant = allowing.iter().any(|rule| !matches!(rule.what, What::AnyName));
        let is_reserved = labels.last().is_some_and(|last| last == reserved);
        !is_denied && (!is_reserved || is_meant) && (!self.default_is_deny || !allowing.is_empty())
    }
}

fn model() -> impl Strategy<Value = Model> {
    (rules(5), rules(4), any::<bool>()).prop_map(|(allow, deny, default_is_deny)| Model {
        allow,
        deny,
        default_is_deny,
    })
}

fn port() -> impl Strategy<Value = Option<u16>> {
    proptest::option::weighted(0.8, select(PORTS.to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn addresses_are_decided_as_the_model_says(model in model(), target in address(), port in port()) {
        let guard = Guard::new(model.config());
        let decided = guard.literal(port).check(target.address);
        prop_assert_eq!(decided.is_ok(), model.has_address(&target, port, false), "{}: {:?}", target.address, decided);
    }

    #[test]
    fn names_and_their_addresses_are_decided_as_the_model_says(
        model in model(),
        labels in labels(),
        upper: u32,
        dot: bool,
        target in address(),
        port in port(),
    ) {
        let guard = Guard::new(model.config());
        let name: HostName = written(&labels, upper, dot).parse().unwrap();
        let named = guard.named(&name, port);
        prop_assert_eq!(named.is_ok(), model.has_name(&labels, port, "onion"), "{}: {:?}", name, named);
        if let Ok(named) = named {
            let decided = named.check(target.address);
            let expected = model.has_address(&target, port, true);
            prop_assert_eq!(decided.is_ok(), expected, "{} at {}: {:?}", name, target.address, decided);
        }
    }

    #[test]
    fn what_proxies_are_asked_for_is_decided_as_the_model_says(
        model in model(),
        labels in labels(),
        upper: u32,
        dot: bool,
        target in address(),
        port in select(PORTS.to_vec()),
    ) {
        let DirectConfig { allow, deny, default, .. } = model.config();
        let guard = OverlayGuard::new(&allow, &deny, default);
        let name: HostName = written(&labels, upper, dot).parse().unwrap();
        let by_name = guard.check(&Endpoint::new(Host::Name(name.clone()), port).unwrap());
        let expected = model.has_name(&labels, Some(port), "localhost");
        prop_assert_eq!(by_name.is_ok(), expected, "{}: {:?}", name, by_name);
        let by_address = guard.check(&Endpoint::new(target.address.into(), port).unwrap());
        let expected = model.has_address(&target, Some(port), false);
        prop_assert_eq!(by_address.is_ok(), expected, "{}: {:?}", target.address, by_address);
    }

    #[test]
    fn a_rule_is_the_same_however_it_is_written(model in model()) {
        for rule in model.allow.iter().chain(&model.deny) {
            let read: Rule = rule.text.parse().unwrap();
            let shown = read.to_string();
            prop_assert_eq!(shown.parse::<Rule>().unwrap(), read.clone());
            // Addresses are shown in small letters, too.
            prop_assert_eq!(shown.to_ascii_lowercase(), shown.clone());
            prop_assert_eq!(shown.to_ascii_uppercase().parse::<Rule>().unwrap(), read, "{}", shown);
        }
    }

    #[test]
    fn international_names_are_for_rules_and_hosts_in_their_ascii_form(letters in "[a-zäöüß]{0,5}[äöüß日本][a-z]{0,3}") {
        let name = format!("{letters}.example");
        for rule in [name.clone(), format!("*.{name}"), format!("{name}:443")] {
            prop_assert!(rule.parse::<Rule>().unwrap_err().to_string().contains("xn--"), "{}", rule);
        }
        prop_assert!(name.parse::<HostName>().is_err());
    }
}
