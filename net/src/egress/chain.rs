//! Lists that all have to be passed.

use std::fmt;
use std::sync::Arc;

use frame_registry::{Frame, Narrow};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

use super::list::{EgressList, EgressListError};
use super::name::HashedName;
use super::rule::EgressRule;
use crate::endpoint::{Endpoint, Host, HostName};

/// The destinations that a unit may reach: those that every one of its [lists](EgressList) covers. There is at least one
/// list, the outermost caller's first.
///
/// Cloning it copies no rules. It is written as a list of rules, and as a list of such lists if there are several. Both are
/// read, from formats that describe themselves, such as JSON and CBOR. An empty map is an empty list, because in Lua they are
/// the same.
///
/// ```
/// use frame_net::{Egress, EgressList};
///
/// let outer = Egress::new(EgressList::parse(["*.example.com"])?);
/// let both = outer.narrowed_by(&Egress::new(EgressList::parse(["*.example.com:443", "10.0.0.0/8"])?));
/// let verdict = both.check(&"api.example.com:443".parse()?);
/// assert_eq!(verdict.to_string(), "allowed by `*.example.com:443`");
/// let verdict = both.check(&"10.0.0.1:443".parse()?);
/// assert_eq!(verdict.to_string(), "refused by [*.example.com]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Egress {
    outermost: Arc<EgressList>,
    further: Arc<[Arc<EgressList>]>,
}

impl Egress {
    /// How many lists a frame can have. Calls that are nested in more different ones are refused.
    pub const MAX_LISTS: usize = 32;

    /// The destinations of `list`.
    pub fn new(list: EgressList) -> Self {
        Self { outermost: Arc::new(list), further: Arc::default() }
    }

    /// No destination.
    pub fn none() -> Self {
        Self::new(EgressList::default())
    }

    /// The destinations that both `self` and `by` allow. A list that is there already is not added again.
    #[must_use]
    pub fn narrowed_by(&self, by: &Self) -> Self {
        let is_new =
            |list: &&Arc<EgressList>| !self.lists().any(|held| Arc::ptr_eq(held, list) || held == *list);
        let mut new = by.lists().filter(is_new).peekable();
        if new.peek().is_none() {
            return self.clone();
        }
        let further = self.further.iter().chain(new).cloned().collect();
        Self { outermost: Arc::clone(&self.outermost), further }
    }

    /// The lists, the outermost caller's first.
    pub fn lists(&self) -> impl DoubleEndedIterator<Item = &Arc<EgressList>> + Clone {
        std::iter::once(&self.outermost).chain(&*self.further)
    }

    /// How many rules there are in all lists.
    pub(super) fn rules_len(&self) -> usize {
        self.lists().map(|list| list.rules().len()).sum()
    }

    /// Returns whether a unit may connect, or send a datagram, to `to`. Does not allocate.
    pub fn check(&self, to: &Endpoint) -> Verdict<'_> {
        self.check_host(to.host(), Some(to.port()))
    }

    /// Returns whether a unit may reach `host` with `port`, or with any port if none is given, as in a lookup. Does not
    /// allocate.
    pub fn check_host(&self, host: &Host, port: Option<u16>) -> Verdict<'_> {
        match host {
            Host::Name(name) => self.check_name(name, port),
            Host::Address(address) => self.check_by(|list| list.covering_address(*address, port)),
        }
    }

    /// The same, of a name.
    pub(crate) fn check_name(&self, name: &HostName, port: Option<u16>) -> Verdict<'_> {
        let max_labels = self.lists().map(|list| list.max_labels()).max().unwrap_or(0);
        let name = HashedName::new(name, max_labels);
        self.check_by(|list| list.covering_hashed(name.as_ref()?, port))
    }

    fn check_by<'a>(&'a self, covering: impl Fn(&'a EgressList) -> Option<&'a EgressRule>) -> Verdict<'a> {
        let Some(mut rule) = covering(&self.outermost) else { return Verdict::Refused(&self.outermost) };
        for list in &*self.further {
            match covering(list) {
                Some(further) => rule = further,
                None => return Verdict::Refused(list),
            }
        }
        Verdict::Allowed(rule)
    }

    /// The destinations of `frame`: those that every [`Egress`] on it allows, whatever its key.
    pub(crate) fn of(frame: &Frame) -> Option<Self> {
        let all = frame.iter().filter_map(|pair| pair.value::<Self>());
        all.fold(None, |narrowed: Option<Self>, egress| {
            Some(narrowed.map_or_else(|| egress.clone(), |narrowed| narrowed.narrowed_by(egress)))
        })
    }
}

impl From<EgressList> for Egress {
    fn from(list: EgressList) -> Self {
        Self::new(list)
    }
}

impl Narrow for Egress {
    fn narrowed_by(&self, by: &Self) -> Self {
        self.narrowed_by(by)
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Egress({self})")
    }
}

impl fmt::Display for Egress {
    /// Shows the lists, with `and` between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outermost.fmt(f)?;
        self.further.iter().try_for_each(|list| write!(f, " and {list}"))
    }
}

impl Serialize for Egress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.further.is_empty() {
            return self.outermost.serialize(serializer);
        }
        serializer.collect_seq(self.lists().map(|list| &**list))
    }
}

impl<'de> Deserialize<'de> for Egress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EgressVisitor)
    }
}

struct EgressVisitor;

impl<'de> Visitor<'de> for EgressVisitor {
    type Value = Egress;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rules, such as [\"example.com:443\", \"10.0.0.0/8\"]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Egress, A::Error> {
        let (mut rules, mut lists) = (Vec::new(), Vec::new());
        while let Some(element) = elements.next_element()? {
            match element {
                Element::Rule(rule) if rules.len() < EgressList::MAX_RULES => rules.push(rule),
                Element::Rule(_) => return Err(de::Error::custom(EgressListError::TooMany)),
                Element::List(list) if lists.len() < Egress::MAX_LISTS => lists.push(Arc::new(list)),
                Element::List(_) => {
                    let max = Egress::MAX_LISTS;
                    return Err(de::Error::custom(format_args!("there are more than {max} lists of rules")));
                }
            }
        }
        let mut lists = lists.into_iter();
        let Some(outermost) = lists.next() else {
            return EgressList::new(rules).map(Egress::new).map_err(de::Error::custom);
        };
        if !rules.is_empty() {
            return Err(de::Error::custom(
                "a rule cannot stand beside lists of rules; put it into one of them",
            ));
        }
        Ok(Egress { outermost, further: lists.collect() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Egress, A::Error> {
        match map.next_key::<IgnoredAny>()? {
            None => Ok(Egress::none()),
            Some(_) => Err(de::Error::invalid_type(Unexpected::Map, &self)),
        }
    }
}

/// What a list consists of: rules, or lists of them.
enum Element {
    Rule(EgressRule),
    List(EgressList),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;

        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rule, such as \"example.com\", \"*.example.com:443\" or \"10.0.0.0/8\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Element, E> {
                text.parse().map(Element::Rule).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, rules: A) -> Result<Element, A::Error> {
                EgressList::deserialize(de::value::SeqAccessDeserializer::new(rules)).map(Element::List)
            }
        }

        deserializer.deserialize_any(ElementVisitor)
    }
}

/// Whether a destination may be reached, and what decides. `Display` shows it for logs: scripts must not see rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict<'a> {
    /// There is no list, so all destinations are allowed.
    Unrestricted,
    /// Every list has a rule that covers the destination. This one is of the innermost list.
    Allowed(&'a EgressRule),
    /// No rule of this list covers the destination. It is the outermost such list.
    Refused(&'a EgressList),
}

impl Verdict<'_> {
    /// Returns whether the destination may be reached.
    pub const fn is_allowed(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrestricted => f.write_str("allowed without a list"),
            Self::Allowed(rule) => write!(f, "allowed by `{rule}`"),
            Self::Refused(list) => write!(f, "refused by {list}"),
        }
    }
}
