//! A list of rules, and the index that finds the one that covers a destination.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hashbrown::HashTable;
use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::name::{HashedName, hash};
use super::rule::{EgressRule, EgressRuleError};
use crate::direct::{AddressRule, Pattern, Ports, Rule};
use crate::endpoint::{Endpoint, Host, HostName};

/// The destinations that one level allows: the union of its [rules](EgressRule). An empty list allows none.
///
/// A check costs a few lookups in a hash table, or a binary search, however many rules there are. It does not allocate.
///
/// ```
/// use frame_net::EgressList;
///
/// let list = EgressList::parse(["api.example.com:443", "10.0.0.0/8"])?;
/// assert!(list.covering(&"API.example.com.:443".parse()?).is_some());
/// assert!(list.covering(&"10.1.2.3:22".parse()?).is_some());
/// assert!(list.covering(&"example.com:443".parse()?).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct EgressList {
    rules: Box<[EgressRule]>,
    names: HashTable<NameEntry>,
    /// The most labels that a name has whose subdomains are covered.
    max_labels: usize,
    /// By address, each before those within it.
    blocks: Box<[Block]>,
}

/// What is covered of a name, and of the names below it.
#[derive(Clone, Default)]
struct NameEntry {
    name: Box<str>,
    exactly: Covered,
    below: Covered,
}

/// What is covered of a block of addresses.
#[derive(Clone)]
struct Block {
    net: IpNet,
    ports: Covered,
    /// The index of the smallest block that this one is within.
    outer: Option<usize>,
}

impl EgressList {
    /// How many rules a list can have.
    pub const MAX_RULES: usize = 10_000;

    /// A list of these rules.
    ///
    /// # Errors
    ///
    /// [`EgressListError::TooMany`] if there are more than [`MAX_RULES`](Self::MAX_RULES).
    pub fn new(rules: impl IntoIterator<Item = EgressRule>) -> Result<Self, EgressListError> {
        let rules: Box<[EgressRule]> = rules.into_iter().take(Self::MAX_RULES + 1).collect();
        if rules.len() > Self::MAX_RULES {
            return Err(EgressListError::TooMany);
        }
        Ok(Self::index(rules))
    }

    /// A list of the rules that are written in `texts`.
    ///
    /// # Errors
    ///
    /// [`EgressListError`] if a text is not a rule, or if there are too many.
    pub fn parse<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, EgressListError> {
        let mut rules = Vec::new();
        for text in texts {
            if rules.len() == Self::MAX_RULES {
                return Err(EgressListError::TooMany);
            }
            rules.push(EgressRule::from_str(text.as_ref())?);
        }
        Ok(Self::index(rules.into()))
    }

    fn index(rules: Box<[EgressRule]>) -> Self {
        let mut names: HashMap<Box<str>, NameRanges> = HashMap::new();
        let mut blocks: BTreeMap<(IpAddr, u8), (IpNet, Vec<Range>)> = BTreeMap::new();
        let mut max_labels = 0;
        for (rule, index) in rules.iter().zip(0..) {
            match rule.rule() {
                Rule::Address(rule) => {
                    let net = rule.block.net();
                    let (_, ranges) = blocks.entry(order(net)).or_insert_with(|| (net, Vec::new()));
                    ranges.push(Range::new(rule.ports, index));
                }
                Rule::Name(rule) => {
                    let range = Range::new(rule.ports, index);
                    match &rule.pattern {
                        Pattern::Exactly(name) => {
                            names.entry(name.clone()).or_default().exactly.push(range);
                        }
                        Pattern::Below(name) => {
                            max_labels = max_labels.max(name.split('.').count());
                            names.entry(name.clone()).or_default().below.push(range);
                        }
                        // There is no such rule.
                        Pattern::Any => {}
                    }
                }
            }
        }
        let mut table = HashTable::with_capacity(names.len());
        for (name, NameRanges { exactly, below }) in names {
            let entry = NameEntry { name, exactly: Covered::new(exactly), below: Covered::new(below) };
            table.insert_unique(hash(entry.name.as_bytes()), entry, |entry| hash(entry.name.as_bytes()));
        }
        Self { rules, names: table, max_labels, blocks: nested(blocks.into_values()) }
    }

    /// The rules, in the order in which they were given.
    pub const fn rules(&self) -> &[EgressRule] {
        &self.rules
    }

    /// Returns whether it has rules, and all of them are for names.
    pub(super) fn has_names_only(&self) -> bool {
        !self.rules.is_empty() && self.blocks.is_empty()
    }

    /// The rule that covers `to`, if one does.
    pub fn covering(&self, to: &Endpoint) -> Option<&EgressRule> {
        self.covering_host(to.host(), Some(to.port()))
    }

    /// The rule that covers `host` with `port`, or with any port if none is given, if one does.
    pub fn covering_host(&self, host: &Host, port: Option<u16>) -> Option<&EgressRule> {
        match host {
            Host::Name(name) => self.covering_name(name, port),
            Host::Address(address) => self.covering_address(*address, port),
        }
    }

    /// The rule that covers `name` with `port`, or with any port if none is given, if one does.
    pub fn covering_name(&self, name: &HostName, port: Option<u16>) -> Option<&EgressRule> {
        self.covering_hashed(&HashedName::new(name, self.max_labels)?, port)
    }

    /// The most labels of the names below which a rule covers all.
    pub(super) const fn max_labels(&self) -> usize {
        self.max_labels
    }

    pub(super) fn covering_hashed(&self, name: &HashedName, port: Option<u16>) -> Option<&EgressRule> {
        let exactly = self.entry(name.whole()).and_then(|entry| entry.exactly.find(port));
        // The shortest first, so that a name of many labels costs no more than the rules ask for.
        let mut parents = name.parents().take(self.max_labels);
        let below = || parents.find_map(|parent| self.entry(parent)?.below.find(port));
        self.rule(exactly.or_else(below)?)
    }

    fn entry(&self, (name, hash): (&[u8], u64)) -> Option<&NameEntry> {
        self.names.find(hash, |entry| entry.name.as_bytes() == name)
    }

    /// Returns whether a destination exists that both the list and `rule` cover.
    pub fn overlaps(&self, rule: &EgressRule) -> bool {
        let scan = || self.rules.iter().any(|own| own.overlaps(rule));
        match rule.rule() {
            Rule::Name(name) => match &name.pattern {
                Pattern::Exactly(exactly) => {
                    let of = |name: &str| self.entry((name.as_bytes(), hash(name.as_bytes())));
                    of(exactly).is_some_and(|entry| entry.exactly.overlaps(name.ports))
                        || exactly.rmatch_indices('.').take(self.max_labels).any(|(dot, _)| {
                            of(&exactly[dot + 1..]).is_some_and(|entry| entry.below.overlaps(name.ports))
                        })
                }
                Pattern::Below(_) | Pattern::Any => scan(),
            },
            Rule::Address(AddressRule { block, ports }) => {
                let net = block.net();
                let within = |block: &&Block| block.net.contains(&net);
                self.blocks_from(order(net)).filter(within).any(|block| block.ports.overlaps(*ports))
                    || net.prefix_len() < net.max_prefix_len() && scan()
            }
        }
    }

    pub(super) fn covering_address(&self, address: IpAddr, port: Option<u16>) -> Option<&EgressRule> {
        let address = address.to_canonical();
        let mut blocks = self.blocks_from((address, u8::MAX)).filter(|block| block.net.contains(&address));
        self.rule(blocks.find_map(|block| block.ports.find(port))?)
    }

    /// The last block that is not after `place`, and those that it is within, the smallest first. All blocks that contain what
    /// has this place are among them.
    fn blocks_from(&self, place: (IpAddr, u8)) -> impl Iterator<Item = &Block> {
        let last = self.blocks.partition_point(|block| order(block.net) <= place).checked_sub(1);
        let block = |index: usize| self.blocks.get(index);
        std::iter::successors(last.and_then(block), move |inner| block(inner.outer?))
    }

    fn rule(&self, index: u32) -> Option<&EgressRule> {
        self.rules.get(usize::try_from(index).ok()?)
    }
}

/// The order of blocks: each comes before those within it.
fn order(net: IpNet) -> (IpAddr, u8) {
    (net.addr(), net.prefix_len())
}

/// Finds what each block is within. They are given in [order].
fn nested(ordered: impl Iterator<Item = (IpNet, Vec<Range>)>) -> Box<[Block]> {
    let mut blocks: Vec<Block> = Vec::new();
    for (net, ranges) in ordered {
        let mut outer = blocks.len().checked_sub(1);
        while let Some(index) = outer.filter(|index| !blocks[*index].net.contains(&net)) {
            outer = blocks[index].outer;
        }
        blocks.push(Block { net, ports: Covered::new(ranges), outer });
    }
    blocks.into()
}

#[derive(Default)]
struct NameRanges {
    exactly: Vec<Range>,
    below: Vec<Range>,
}

/// Ports that a rule covers.
#[derive(Clone, Copy)]
struct Range {
    first: u16,
    last: u16,
    /// The index of the rule.
    rule: u32,
}

impl Range {
    fn new(ports: Ports, rule: u32) -> Self {
        let (first, last) = ports.bounds();
        Self { first, last, rule }
    }
}

/// The ports of one name or block, in ranges that are sorted and do not overlap.
#[derive(Clone, Default)]
struct Covered(Box<[Range]>);

impl Covered {
    fn new(mut ranges: Vec<Range>) -> Self {
        ranges.sort_unstable_by_key(|range| (range.first, range.rule));
        let mut apart: Vec<Range> = Vec::with_capacity(ranges.len());
        for range in ranges {
            let first = match apart.last() {
                Some(before) if before.last >= range.last => continue,
                Some(before) => range.first.max(before.last + 1),
                None => range.first,
            };
            apart.push(Range { first, ..range });
        }
        Self(apart.into())
    }

    /// Whether one of `ports` is covered.
    fn overlaps(&self, ports: Ports) -> bool {
        let (first, last) = ports.bounds();
        let index = self.0.partition_point(|range| range.last < first);
        self.0.get(index).is_some_and(|range| range.first <= last)
    }

    /// The rule that covers `port`, or any port if none is given.
    fn find(&self, port: Option<u16>) -> Option<u32> {
        let Some(port) = port else { return self.0.first().map(|range| range.rule) };
        let index = self.0.partition_point(|range| range.last < port);
        self.0.get(index).filter(|range| range.first <= port).map(|range| range.rule)
    }
}

impl PartialEq for EgressList {
    /// The rules decide, in their order.
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for EgressList {}

impl fmt::Debug for EgressList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EgressList({self})")
    }
}

impl fmt::Display for EgressList {
    /// Shows the first rules, and how many more there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        f.write_str("[")?;
        for (index, rule) in self.rules.iter().take(SHOWN).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{rule}")?;
        }
        match self.rules.len().saturating_sub(SHOWN) {
            0 => f.write_str("]"),
            more => write!(f, ", and {more} more]"),
        }
    }
}

impl Serialize for EgressList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.rules)
    }
}

impl<'de> Deserialize<'de> for EgressList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = EgressList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of rules, such as [\"example.com:443\", \"10.0.0.0/8\"]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut rules: A) -> Result<EgressList, A::Error> {
                let mut read = Vec::new();
                while let Some(rule) = rules.next_element()? {
                    if read.len() == EgressList::MAX_RULES {
                        return Err(de::Error::custom(EgressListError::TooMany));
                    }
                    read.push(rule);
                }
                Ok(EgressList::index(read.into()))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

/// Texts are not an [`EgressList`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EgressListError {
    /// One of them is not a rule.
    #[error(transparent)]
    Rule(#[from] EgressRuleError),
    /// There are more than [`EgressList::MAX_RULES`].
    #[error(
        "a list has at most {} rules; cover several destinations with one rule, such as `*.example.com` or `10.0.0.0/8`",
        EgressList::MAX_RULES
    )]
    TooMany,
}
