//! Decides who may be reached. There is no I/O here: names are looked up by a function that the caller passes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::config::{DirectConfig, DirectDefault};
use super::rule::{AddressRule, Block, NameRule, Pattern, Ports, Rule};
use super::special::{ForeignName, Form, SpecialRange, embedded, is_local, special};
use crate::endpoint::{Endpoint, Host, HostName, LocalEndpoint};
use crate::error::{Cause, DriverError, DriverStep};

/// The rules of a [`DirectConfig`], which says what they mean.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    default: DirectDefault,
    allow: Rules,
    deny: Rules,
    listen: Box<[AddressRule]>,
}

/// The rules of a network whose far end looks names up and dials, such as a proxy. Names are judged as they are given,
/// because their addresses are not known here.
#[derive(Debug)]
pub(crate) struct OverlayGuard(Guard);

impl OverlayGuard {
    pub(crate) fn new(allow: &[Rule], deny: &[Rule], default: DirectDefault) -> Self {
        Self(Guard {
            default,
            allow: allow.iter().cloned().collect(),
            deny: deny.iter().cloned().flat_map(with_mapped).collect(),
            listen: Box::default(),
        })
    }

    /// Returns an error if no unit may reach `to`.
    pub(crate) fn check(&self, to: &Endpoint) -> Result<(), Box<Denied>> {
        let port = Some(to.port());
        match to.host() {
            Host::Address(address) => self.0.literal(port).check(*address),
            Host::Name(name) => self.0.check_unresolved(name, port),
        }
    }
}

/// Rules, apart by what they are about.
#[derive(Debug, Clone, Default)]
struct Rules {
    addresses: Vec<AddressRule>,
    names: Vec<NameRule>,
}

impl FromIterator<Rule> for Rules {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        let mut apart = Self::default();
        for rule in rules {
            match rule {
                Rule::Address(rule) => apart.addresses.push(rule),
                Rule::Name(rule) => apart.names.push(rule),
            }
        }
        apart
    }
}

/// A rule of `deny`, and if it has IPv4 addresses in their IPv4-mapped form, then one with these as they are: they lead
/// to the same host.
fn with_mapped(rule: Rule) -> impl Iterator<Item = Rule> {
    let mapped = match &rule {
        Rule::Address(AddressRule { block, ports }) => {
            block.mapped().map(|block| Rule::Address(AddressRule { block, ports: *ports }))
        }
        Rule::Name(_) => None,
    };
    std::iter::once(rule).chain(mapped)
}

/// Something that is to be reached, whose name, if it has one, has passed. Without a port it is about all of them:
/// it is denied only if each port is, and allowed if one is.
#[derive(Debug, Clone, Copy)]
struct Target<'a> {
    guard: &'a Guard,
    name: Option<&'a HostName>,
    port: Option<u16>,
}

impl Guard {
    pub(super) fn new(config: DirectConfig) -> Self {
        Self {
            default: config.default,
            allow: config.allow.into_iter().collect(),
            deny: config.deny.into_iter().flat_map(with_mapped).collect(),
            listen: config.listen.into(),
        }
    }

    /// A target that is given by its address.
    const fn literal(&self, port: Option<u16>) -> Target<'_> {
        Target { guard: self, name: None, port }
    }

    /// A target that is given by its name, unless it is plain without an answer that the name is denied.
    fn named<'a>(&'a self, name: &'a HostName, port: Option<u16>) -> Result<Target<'a>, Box<Denied>> {
        self.check_name(name, port, foreign)?;
        Ok(Target { guard: self, name: Some(name), port })
    }

    /// Judges a name that this host does not look up.
    fn check_unresolved(&self, name: &HostName, port: Option<u16>) -> Result<(), Box<Denied>> {
        self.check_name(name, port, |name| is_local(name).then_some(DeniedBy::LocalName))
    }

    /// Returns an error if a rule denies `name`, if it is `reserved` and no rule but `*` allows it, or if the default is
    /// to deny and no rule allows it. Rules for addresses say nothing of names: to find out whether they match, the name
    /// would have to be looked up, which would tell a name server about it.
    fn check_name(
        &self,
        name: &HostName,
        port: Option<u16>,
        reserved: impl FnOnce(&HostName) -> Option<DeniedBy>,
    ) -> Result<(), Box<Denied>> {
        let denied = |reason| {
            Box::new(Denied { name: Some(name.clone()), address: None, embedded: None, port, reason })
        };
        let mut denying = self.deny.names.iter();
        if let Some(rule) = denying.find(|rule| rule.ports.deny(port) && rule.covers(name)) {
            return Err(denied(DeniedBy::Rule(Rule::Name(rule.clone()))));
        }
        let mut allowing = self.allow.names.iter().filter(|rule| rule.ports.allow(port) && rule.covers(name));
        // `*` does not cover these names; a rule has to name them.
        if let Some(reason) = reserved(name).filter(|_| allowing.clone().all(NameRule::is_any)) {
            return Err(denied(reason));
        }
        if self.default == DirectDefault::Deny && allowing.next().is_none() {
            return Err(denied(DeniedBy::Default));
        }
        Ok(())
    }

    /// The address to take for `at`.
    pub(super) fn local(&self, at: &LocalEndpoint) -> Result<SocketAddr, Box<Denied>> {
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        // All addresses are those of IPv4 alone if no rule has those of IPv6.
        let address = at.address.unwrap_or(if self.may_listen(v6, at.port) { v6 } else { v4 });
        // A socket for IPv6 may get IPv4 as well.
        let held = match address {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(v4),
            IpAddr::V6(address) => address.to_ipv4_mapped().map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let mut taken = std::iter::once(address).chain(held);
        match taken.find(|&address| !self.may_listen(address, at.port)) {
            None => Ok(SocketAddr::new(address, at.port)),
            Some(denied) => Err(Box::new(Denied {
                name: None,
                address: Some(denied),
                embedded: None,
                port: Some(at.port).filter(|&port| port != 0),
                reason: DeniedBy::NotListening,
            })),
        }
    }

    fn may_listen(&self, address: IpAddr, port: u16) -> bool {
        self.listen.iter().any(|rule| rule.ports.listen(port) && rule.covers(address))
    }
}

impl Target<'_> {
    /// Whether `address` may be reached. Every address of a name is to be checked before one of them is dialled.
    fn check(&self, address: IpAddr) -> Result<(), Box<Denied>> {
        let denied = |embedded, reason| {
            let (name, address, port) = (self.name.cloned(), Some(address), self.port);
            Box::new(Denied { name, address, embedded, port, reason })
        };
        self.check_one(address).map_err(|reason| denied(None, reason))?;
        let IpAddr::V6(outer) = address else { return Ok(()) };
        for (form, held) in embedded(outer) {
            self.check_one(held.into()).map_err(|reason| denied(Some((form, held)), reason))?;
        }
        Ok(())
    }

    fn check_one(&self, address: IpAddr) -> Result<(), DeniedBy> {
        let Guard { allow, deny, default, .. } = self.guard;
        let mut denying = deny.addresses.iter();
        if let Some(rule) = denying.find(|rule| rule.ports.deny(self.port) && rule.covers(address)) {
            return Err(DeniedBy::Rule(Rule::Address(rule.clone())));
        }
        let address_allowed =
            || allow.addresses.iter().any(|rule| rule.ports.allow(self.port) && rule.covers(address));
        // What a name stands for is up to whoever has the name: a rule for it does not open a range that is special.
        match SpecialRange::of(address) {
            Some(range) if !address_allowed() => Err(DeniedBy::Special(range.to_string().into())),
            // A name got this far because a rule allows it, or the default does.
            None if *default == DirectDefault::Deny && self.name.is_none() && !address_allowed() => {
                Err(DeniedBy::Default)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The rules of a network do not let it do what was asked. It says which name, which address,
/// which rule or range, and what to configure where it is meant to be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    name: Option<HostName>,
    address: Option<IpAddr>,
    /// The address inside the address that the reason is about.
    embedded: Option<(Form, Ipv4Addr)>,
    port: Option<u16>,
    reason: DeniedBy,
}

/// What denies an address or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeniedBy {
    /// This rule of `deny`.
    Rule(Rule),
    /// The address is not of the public internet, and no address rule of `allow` has it. The text says what it is, such as
    /// `loopback (127.0.0.0/8)`.
    Special(Box<str>),
    /// The name is another network's, and no rule of `allow` has it, but for `*`. It was not looked up. The text says
    /// whose it is, such as `Tor's (.onion)`.
    ForeignName(Box<str>),
    /// The name is `localhost`, below it, or another one of the host at the far end of the network itself, such as
    /// `ip6-loopback`, or of the cloud around that, such as `metadata.google.internal`. No rule of `allow` has it, but for
    /// `*`.
    LocalName,
    /// A redirect leads from a public host to a name with this address, which is not of the public internet. No rule of
    /// `allow` lifts that.
    Redirected(Box<str>),
    /// The `default` is to deny, and no rule of `allow` matches. A name was not looked up.
    Default,
    /// No rule of `listen` has the address and port.
    NotListening,
}

/// Returns the reason to refuse a name that is another network's.
fn foreign(name: &HostName) -> Option<DeniedBy> {
    ForeignName::of(name).map(|foreign| DeniedBy::ForeignName(foreign.to_string().into()))
}

impl Denied {
    /// Refuses a name that is another network's.
    pub(crate) fn check_foreign(name: &HostName) -> Result<(), Box<Self>> {
        let Some(reason) = foreign(name) else { return Ok(()) };
        let name = Some(name.clone());
        Err(Box::new(Self { name, address: None, embedded: None, port: None, reason }))
    }

    /// Refuses an address of `host` that is special, where a redirect from a public host leads.
    pub(crate) fn check_redirected(host: &Host, address: IpAddr) -> Result<(), Box<Self>> {
        let Some((embedded, range)) = special(address) else { return Ok(()) };
        let name = match host {
            Host::Name(name) => Some(name.clone()),
            Host::Address(_) => None,
        };
        let reason = DeniedBy::Redirected(range.to_string().into());
        Err(Box::new(Self { name, address: Some(address), embedded, port: None, reason }))
    }

    /// The name that was to be reached, if it was a name.
    pub const fn name(&self) -> Option<&HostName> {
        self.name.as_ref()
    }

    /// The address that is denied. Without one it is the name that is, and it was not looked up.
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// What denies it.
    pub const fn by(&self) -> &DeniedBy {
        &self.reason
    }

    /// What denies it, in a few words.
    pub(crate) fn rule(&self) -> String {
        match &self.reason {
            DeniedBy::Rule(rule) => format!("deny: {rule}"),
            DeniedBy::Special(range) => format!("special address: {range}"),
            DeniedBy::Redirected(range) => format!("redirect to a special address: {range}"),
            DeniedBy::ForeignName(foreign) => format!("name of another network: {foreign}"),
            DeniedBy::LocalName => "name of the local host".to_owned(),
            DeniedBy::Default => "default: deny".to_owned(),
            DeniedBy::NotListening => "listen".to_owned(),
        }
    }

    /// The rule that would let the same pass.
    fn remedy(&self) -> Option<Rule> {
        let ports = self.port.map_or(Ports::ALL, Ports::one);
        let address = self.embedded.map(|(_, held)| held.into()).or(self.address);
        let by_address = |address| Rule::Address(AddressRule { block: Block::one(address), ports });
        let by_name = |name| Rule::Name(NameRule { pattern: Pattern::exactly(name), ports });
        match &self.reason {
            // There is a way to lift it, too: whoever wrote the rule knows it, and few want the other.
            DeniedBy::Rule(_) | DeniedBy::ForeignName(_) | DeniedBy::Redirected(_) => None,
            DeniedBy::Special(_) | DeniedBy::NotListening => address.map(by_address),
            DeniedBy::LocalName | DeniedBy::Default => {
                self.name.as_ref().map(by_name).or_else(|| address.map(by_address))
            }
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.address) {
            (Some(name), Some(address)) => write!(f, "`{name}` has the address {address}, which ")?,
            (Some(name), None) => write!(f, "`{name}` ")?,
            (None, Some(address)) => write!(f, "{address} ")?,
            (None, None) => f.write_str("it ")?,
        }
        if let Some((form, held)) = self.embedded {
            write!(f, "is the {form} form of {held}, which ")?;
        }
        match &self.reason {
            DeniedBy::Rule(rule) => write!(f, "is denied by the rule `{rule}`")?,
            DeniedBy::Special(range) => write!(f, "is {range}, and in no address rule of `allow`")?,
            DeniedBy::Redirected(range) => {
                write!(f, "is {range}, where no redirect from a public host may lead")?;
            }
            DeniedBy::ForeignName(foreign) => write!(
                f,
                "is a name that is {foreign}, and is not looked up over clearnet; choose a network that knows it: with \
                 the option `network`, or with `via` for a proxy"
            )?,
            DeniedBy::LocalName => f.write_str("would be the proxy's own host")?,
            DeniedBy::Default if self.name.is_some() => {
                f.write_str(
                    "matches no name rule of `allow`, and the default is to deny without looking it up",
                )?;
            }
            DeniedBy::Default => f.write_str("matches no rule of `allow`, and the default is to deny")?,
            DeniedBy::NotListening => f.write_str("is in no rule of `listen`")?,
        }
        let list = if self.reason == DeniedBy::NotListening { "listen" } else { "allow" };
        match self.remedy() {
            Some(rule) => write!(f, "; to allow it, add \"{rule}\" to `{list}`"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Denied {}

/// The addresses of a host: those that were checked, and that are to be used as they are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// It was given by this.
    Literal([SocketAddr; 1]),
    /// They are the answer to one lookup.
    Resolved(Vec<SocketAddr>),
}

impl Checked {
    pub(super) fn as_slice(&self) -> &[SocketAddr] {
        match self {
            Self::Literal(address) => address,
            Self::Resolved(addresses) => addresses,
        }
    }
}

/// The addresses of `to`, for `step`. A name is looked up with `lookup`, at most once, and only if it may be reached.
pub(super) async fn resolve_endpoint<'a, F>(
    guard: &'a Guard,
    step: DriverStep,
    to: &'a Endpoint,
    lookup: impl FnOnce(&'a HostName, u16) -> F,
) -> Result<Checked, DriverError>
where
    F: Future<Output = Result<Vec<SocketAddr>, DriverError>>,
{
    let denied = |denied| denied_at(step, to, denied);
    let port = to.port();
    match to.host() {
        Host::Address(address) => {
            guard.literal(Some(port)).check(*address).map_err(denied)?;
            Ok(Checked::Literal([SocketAddr::new(*address, port)]))
        }
        Host::Name(name) => {
            let target = guard.named(name, Some(port)).map_err(denied)?;
            let found = lookup(name, port).await?;
            found.iter().try_for_each(|found| target.check(found.ip())).map_err(denied)?;
            Ok(Checked::Resolved(found))
        }
    }
}

/// The addresses of `name`, for whoever asks for no port.
pub(super) async fn resolve_name<'a, F>(
    guard: &'a Guard,
    name: &'a HostName,
    lookup: impl FnOnce(&'a HostName, u16) -> F,
) -> Result<Vec<SocketAddr>, DriverError>
where
    F: Future<Output = Result<Vec<SocketAddr>, DriverError>>,
{
    let denied = |denied| denied_at(DriverStep::Lookup, name, denied);
    let target = guard.named(name, None).map_err(denied)?;
    let found = lookup(name, 0).await?;
    found.iter().try_for_each(|found| target.check(found.ip())).map_err(denied)?;
    Ok(found)
}

/// The error of what is denied.
pub(super) fn denied_at(step: DriverStep, peer: impl std::fmt::Display, denied: Box<Denied>) -> DriverError {
    DriverError::new(step, peer, Cause::Denied(denied))
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod resolve;
#[cfg(test)]
mod tests;
