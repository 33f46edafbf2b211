//! Who may be reached. There is no I/O here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::config::{DirectConfig, DirectDefault};
use super::denied::{Denied, DeniedBy};
use super::embedded::embedded;
use super::foreign::ForeignName;
use super::pattern::is_local;
use super::rule::{AddressRule, NameRule, Rule};
use super::special::SpecialRange;
use crate::address::LocalEndpoint;
use crate::endpoint::Endpoint;
use crate::host::{Host, HostName};

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
pub(super) struct Target<'a> {
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
    pub(super) const fn literal(&self, port: Option<u16>) -> Target<'_> {
        Target { guard: self, name: None, port }
    }

    /// A target that is given by its name, unless it is plain without an answer that the name is denied.
    pub(super) fn named<'a>(
        &'a self,
        name: &'a HostName,
        port: Option<u16>,
    ) -> Result<Target<'a>, Box<Denied>> {
        self.check_name(name, port, |name| ForeignName::of(name).map(DeniedBy::ForeignName))?;
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
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Box<Denied>> {
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
            Some(range) if !address_allowed() => Err(DeniedBy::Special(range)),
            // A name got this far because a rule allows it, or the default does.
            None if *default == DirectDefault::Deny && self.name.is_none() && !address_allowed() => {
                Err(DeniedBy::Default)
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
