//! Lists against a simple model: rules one by one, on what a person would call a destination.
//!
//! | variable | |
//! |---|---|
//! | `FRAME_FUZZ_SECONDS` | How long lists are made up. Default: 2. |
//! | `FRAME_FUZZ_SEED` | The seed of the first list; the next ones follow it. Default: 0. |

use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::endpoint::{Endpoint, Host};

/// A rule as the model has it.
#[derive(Debug, Clone)]
struct ModelRule {
    target: Target,
    ports: Option<(u16, u16)>,
}

#[derive(Debug, Clone)]
enum Target {
    Name(Vec<String>),
    Below(Vec<String>),
    /// The first bits of an address.
    Bits {
        is_v4: bool,
        bits: Vec<bool>,
    },
}

/// A destination as the model has it.
#[derive(Debug, Clone)]
struct Destination {
    host: ModelHost,
    port: u16,
}

#[derive(Debug, Clone)]
enum ModelHost {
    Name(Vec<String>),
    Address(IpAddr),
}

/// An IPv4-mapped address is the IPv4 address.
fn unmapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match v6.octets() {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        _ => address,
    }
}

fn bits(address: IpAddr) -> Vec<bool> {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    octets.iter().flat_map(|octet| (0..8).map(move |bit| octet & (0x80 >> bit) != 0)).collect()
}

impl ModelRule {
    fn covers(&self, to: &Destination) -> bool {
        let host = match (&self.target, &to.host) {
            (Target::Name(rule), ModelHost::Name(name)) => rule == name,
            (Target::Below(rule), ModelHost::Name(name)) => name.len() > rule.len() && name.ends_with(rule),
            (Target::Bits { is_v4, bits: rule }, ModelHost::Address(address)) => {
                let address = unmapped(*address);
                address.is_ipv4() == *is_v4 && bits(address).starts_with(rule)
            }
            _ => false,
        };
        host && self.ports.is_none_or(|(first, last)| first <= to.port && to.port <= last)
    }

    /// The rule as text: `style` chooses among the ways of writing it.
    fn text(&self, style: u8) -> String {
        let ports = match self.ports {
            None => String::new(),
            Some((first, last)) if first == last => format!(":{first}"),
            Some((first, last)) => format!(":{first}-{last}"),
        };
        match &self.target {
            Target::Name(labels) => format!("{}{ports}", name_text(labels, style)),
            Target::Below(labels) => format!("*.{}{ports}", name_text(labels, style)),
            Target::Bits { is_v4: true, bits } => {
                let address = Ipv4Addr::from_bits(u32::try_from(number(bits, 32)).unwrap());
                match style % 3 {
                    0 => format!("{address}/{}{ports}", bits.len()),
                    1 => format!("[::ffff:{address}/{}]{ports}", 96 + bits.len()),
                    _ if bits.len() == 32 => format!("{address}{ports}"),
                    _ => format!("{address}/{}{ports}", bits.len()),
                }
            }
            Target::Bits { is_v4: false, bits } => {
                format!("[{}/{}]{ports}", Ipv6Addr::from_bits(number(bits, 128)), bits.len())
            }
        }
    }
}

/// The number that begins with `bits`.
fn number(bits: &[bool], len: usize) -> u128 {
    (0..len).fold(0, |number, index| number << 1 | u128::from(bits.get(index) == Some(&true)))
}

fn name_text(labels: &[String], style: u8) -> String {
    let name = labels.join(".");
    match style % 4 {
        0 => name,
        1 => name.to_uppercase(),
        2 => format!("{name}."),
        _ => name.replace("xn--bcher-kva", "bücher"),
    }
}

impl Destination {
    fn endpoint(&self, style: u8) -> Endpoint {
        let host: Host = match &self.host {
            ModelHost::Address(address) => Host::Address(*address),
            ModelHost::Name(labels) => {
                let name = labels.join(".");
                let name = if style & 1 == 0 { name } else { name.to_uppercase() };
                let name = if style & 2 == 0 { name } else { format!("{name}.") };
                name.parse().unwrap()
            }
        };
        Endpoint::new(host, self.port).unwrap()
    }
}

/// Few labels, so that names are often related.
fn labels() -> impl Strategy<Value = Vec<String>> {
    let label = prop::sample::select(vec!["a", "b", "xn--bcher-kva", "example", "com"]);
    prop::collection::vec(label.prop_map(str::to_owned), 1..5)
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![1_u16..12, Just(443), Just(u16::MAX), 1..=u16::MAX]
}

fn address() -> impl Strategy<Value = IpAddr> {
    // Few bits that differ, so that blocks are often related.
    let v4 = (prop::sample::select(vec![0, 10, 127, 255_u8]), 0_u8..4, any::<bool>(), 0_u8..4)
        .prop_map(|(a, b, c, d)| Ipv4Addr::new(a, b, u8::from(c) << 7, d));
    let v6 = (prop::sample::select(vec![0, 0x2001_u16, 0xfe80]), 0_u16..4, 0_u16..4)
        .prop_map(|(a, b, c)| Ipv6Addr::new(a, b << 12, 0, 0, 0, 0, 0, c));
    prop_oneof![
        3 => v4.clone().prop_map(IpAddr::V4),
        1 => v4.prop_map(|v4| IpAddr::V6(v4.to_ipv6_mapped())),
        2 => v6.prop_map(IpAddr::V6),
    ]
}

fn rule() -> impl Strategy<Value = ModelRule> {
    let block = (address(), 0_usize..=128).prop_map(|(address, length)| {
        let address = unmapped(address);
        let bits = bits(address);
        let length = length * bits.len() / 128;
        Target::Bits { is_v4: address.is_ipv4(), bits: bits[..length].to_vec() }
    });
    let target = prop_oneof![labels().prop_map(Target::Name), labels().prop_map(Target::Below), block];
    let ports = prop::option::of((port(), port()).prop_map(|(a, b)| (a.min(b), a.max(b))));
    (target, ports).prop_map(|(target, ports)| ModelRule { target, ports })
}

fn destination() -> impl Strategy<Value = Destination> {
    let host = prop_oneof![labels().prop_map(ModelHost::Name), address().prop_map(ModelHost::Address)];
    (host, port()).prop_map(|(host, port)| Destination { host, port })
}

/// Rules, each with the way of writing it.
type Level = Vec<(ModelRule, u8)>;

/// Up to three levels of rules, and destinations.
fn case() -> impl Strategy<Value = (Vec<Level>, Vec<(Destination, u8)>)> {
    let level = prop::collection::vec((rule(), any::<u8>()), 0..24);
    (prop::collection::vec(level, 1..4), prop::collection::vec((destination(), any::<u8>()), 1..24))
}

fn check(levels: &[Level], destinations: &[(Destination, u8)]) -> Result<(), TestCaseError> {
    let written = levels.iter().map(|level| level.iter().map(|(rule, style)| rule.text(*style)));
    let lists: Vec<_> = written.map(|rules| EgressList::parse(rules).unwrap()).collect();
    let chain =
        lists.iter().cloned().map(Egress::new).reduce(|outer, inner| outer.narrowed_by(&inner)).unwrap();
    for (to, style) in destinations {
        let endpoint = to.endpoint(*style);
        let allowed = levels.iter().all(|level| level.iter().any(|(rule, _)| rule.covers(to)));
        let verdict = chain.check(&endpoint);
        prop_assert_eq!(verdict.is_allowed(), allowed, "{} {}", endpoint, verdict);
        // What decides is what the model has, too.
        match verdict {
            Verdict::Allowed(by) => {
                let mut rules = levels.iter().flatten();
                prop_assert!(
                    rules.any(|(rule, _)| rule.covers(to) && rule.text(0).parse().as_ref() == Ok(by))
                );
            }
            Verdict::Refused(by) => {
                let refusing = levels.iter().position(|level| !level.iter().any(|(rule, _)| rule.covers(to)));
                prop_assert_eq!(by, &lists[refusing.unwrap()]);
            }
            Verdict::Unrestricted => prop_assert!(false, "there are lists"),
        }
        for (list, level) in lists.iter().zip(levels) {
            let ModelHost::Name(_) = &to.host else { continue };
            let Host::Name(name) = endpoint.host() else { unreachable!("it is a name") };
            let any_port = level.iter().any(|(rule, _)| ModelRule { ports: None, ..rule.clone() }.covers(to));
            prop_assert_eq!(list.covering_name(name, None).is_some(), any_port, "{}", name);
        }
    }
    let read: Egress = serde_json::from_value(serde_json::to_value(&chain).unwrap()).unwrap();
    prop_assert_eq!(read, chain);
    Ok(())
}

#[test]
fn lists_decide_as_the_model_does() {
    let number = |name: &str, default| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seconds, first): (u64, u64) = (number("FRAME_FUZZ_SECONDS", 2), number("FRAME_FUZZ_SEED", 0));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut seed = first;
    while Instant::now() < until {
        let config = Config { cases: 256, failure_persistence: None, ..Config::default() };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let run = TestRunner::new_with_rng(config, rng)
            .run(&case(), |(levels, destinations)| check(&levels, &destinations));
        run.unwrap_or_else(|error| panic!("FRAME_FUZZ_SEED={seed}: {error}"));
        seed += 1;
    }
    println!("{} lists", (seed - first) * 256);
}

proptest! {
    /// Whatever a script gives as a rule, it is refused, or it is a rule that is written as one that is the same.
    #[test]
    fn any_text_is_a_rule_or_refused(text in "\\PC{0,40}|[*.:\\[\\]/%0-9a-zA-Z-]{0,30}") {
        if let Ok(rule) = text.parse::<EgressRule>() {
            prop_assert_eq!(&rule.to_string().parse::<EgressRule>().unwrap(), &rule);
        }
    }

    /// Rules that overlap have a destination in common, and others have none.
    #[test]
    fn rules_that_do_not_overlap_cover_nothing_in_common(one in rule(), other in rule(), to in destination()) {
        let (read, read_other): (EgressRule, EgressRule) = (one.text(0).parse().unwrap(), other.text(0).parse().unwrap());
        prop_assert!(!(one.covers(&to) && other.covers(&to)) || read.overlaps(&read_other));
    }

    /// A list overlaps what one of its rules overlaps.
    #[test]
    fn a_list_overlaps_what_its_rules_do(rules in proptest::collection::vec(rule(), 0..6), other in rule()) {
        let list = EgressList::parse(rules.iter().map(|rule| rule.text(0))).unwrap();
        let other: EgressRule = other.text(0).parse().unwrap();
        prop_assert_eq!(list.overlaps(&other), list.rules().iter().any(|rule| rule.overlaps(&other)));
    }
}
