//! Why an address or a name is not for this network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::block::Block;
use super::embedded::Form;
use super::foreign::ForeignName;
use super::pattern::Pattern;
use super::ports::Ports;
use super::rule::{AddressRule, NameRule, Rule};
use super::special::{SpecialRange, special};
use crate::host::{Host, HostName};

/// The rules of a network do not let it do what was asked. It says which name, which address,
/// which rule or range, and what to configure where it is meant to be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    pub(super) name: Option<HostName>,
    pub(super) address: Option<IpAddr>,
    /// The address inside the address that the reason is about.
    pub(super) embedded: Option<(Form, Ipv4Addr)>,
    pub(super) port: Option<u16>,
    pub(super) reason: DeniedBy,
}

/// What denies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeniedBy {
    /// This rule of `deny`.
    Rule(Rule),
    /// The address is not of the public internet, and no address rule of `allow` has it.
    Special(SpecialRange),
    /// The name is another network's, and no rule of `allow` has it, but for `*`. It was not looked up.
    ForeignName(ForeignName),
    /// The name is `localhost`, below it, or another one of the host at the far end of the network itself, such as
    /// `ip6-loopback`, or of the cloud around that, such as `metadata.google.internal`. No rule of `allow` has it, but for
    /// `*`.
    LocalName,
    /// A redirect leads from a public host to a name with this address, which is not of the public internet. No rule of
    /// `allow` lifts that.
    Redirected(SpecialRange),
    /// The `default` is to deny, and no rule of `allow` matches. A name was not looked up.
    Default,
    /// No rule of `listen` has the address and port.
    NotListening,
}

impl Denied {
    /// Refuses a name that is another network's.
    pub(crate) fn check_foreign(name: &HostName) -> Result<(), Box<Self>> {
        let Some(foreign) = ForeignName::of(name) else { return Ok(()) };
        let (name, reason) = (Some(name.clone()), DeniedBy::ForeignName(foreign));
        Err(Box::new(Self { name, address: None, embedded: None, port: None, reason }))
    }

    /// Refuses an address of `host` that is special, where a redirect from a public host leads.
    pub(crate) fn check_redirected(host: &Host, address: IpAddr) -> Result<(), Box<Self>> {
        let Some((embedded, range)) = special(address) else { return Ok(()) };
        let name = match host {
            Host::Name(name) => Some(name.clone()),
            Host::Address(_) => None,
        };
        let reason = DeniedBy::Redirected(range);
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
