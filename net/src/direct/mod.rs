//! Clearnet: connections made by this host to those it may reach, names looked up by it.

mod block;
mod config;
mod denied;
mod embedded;
mod foreign;
mod guard;
mod pattern;
mod ports;
mod resolve;
mod rule;
mod rule_error;
mod sockets;
mod special;
mod text;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use frame_registry::BoxError;

use self::guard::Guard;
use self::resolve::denied_at;
use self::sockets::{Tcp, Udp};
use crate::address::LocalEndpoint;
use crate::deadline::Deadline;
use crate::driver::Driver;
use crate::endpoint::Endpoint;
use crate::error::{DriverError, Step};
use crate::host::HostName;
use crate::isolation::IsolationKey;
use crate::network::{BoxDatagrams, BoxFuture, BoxListener, BoxStream, Network};
use crate::reach;
use crate::registry::NetworkRegistry;
use crate::{limits, tcp};

// What rules are made of, for those of `egress`.
pub(crate) use self::pattern::{Pattern, bare};
pub(crate) use self::ports::Ports;
pub(crate) use self::rule::parse as parse_rule;
pub(crate) use self::rule_error::Problem;
pub(crate) use self::text::parsed as parsed_text;

pub use self::config::{DirectConfig, DirectDefault};
pub use self::denied::{Denied, DeniedBy};
pub use self::foreign::ForeignName;
pub(crate) use self::guard::OverlayGuard;
pub use self::rule::{AddressRule, NameRule, Rule};
pub use self::rule_error::RuleError;
pub use self::special::SpecialRange;
#[cfg(feature = "http")]
pub(crate) use self::special::is_special;
pub(crate) use self::special::is_special_address;
pub(crate) use self::text::list as rule_list;

/// A network that is none: it dials from this host. Whom it may reach, [`DirectConfig`] says; unless that is given it
/// is the public internet, and not this host or what is near it.
///
/// Of a name with several addresses the one is taken that answers first, in a race as in RFC 8305.
#[derive(Debug, Clone)]
pub struct Direct {
    guard: Arc<Guard>,
    deadline: Duration,
}

impl Direct {
    /// A network with these settings.
    #[must_use]
    pub fn new(config: DirectConfig) -> Self {
        Self { deadline: config.deadline, guard: Arc::new(Guard::new(config)) }
    }
}

impl Default for Direct {
    fn default() -> Self {
        Self::new(DirectConfig::default())
    }
}

/// Makes [`Direct`] networks.
#[derive(Debug, Clone, Copy)]
pub struct DirectDriver;

impl Driver for DirectDriver {
    type Config = DirectConfig;
    const KIND: &'static str = "direct";

    const SYNONYMS: &'static [(&'static str, &'static str)] = &[
        ("allowed", "allow"),
        ("allowlist", "allow"),
        ("permit", "allow"),
        ("whitelist", "allow"),
        ("block", "deny"),
        ("blacklist", "deny"),
        ("denylist", "deny"),
        ("forbid", "deny"),
        ("policy", "default"),
        ("bind", "listen"),
        ("timeout", "deadline"),
    ];

    fn create(&self, config: DirectConfig, _: &NetworkRegistry) -> Result<Arc<dyn Network>, BoxError> {
        Ok(Arc::new(Direct::new(config)))
    }
}

impl Network for Direct {
    fn kind(&self) -> &'static str {
        DirectDriver::KIND
    }

    fn connect<'a>(
        &'a self,
        to: &'a Endpoint,
        _: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        Box::pin(async move {
            let deadline = Deadline::after(self.deadline);
            let lookup = |name, port| tcp::addresses(name, port, deadline);
            let checked = resolve::endpoint(&self.guard, Step::Connect, to, lookup).await?;
            reach::found(to, checked.as_slice()).map_err(|denied| denied_at(Step::Connect, to, denied))?;
            let stream = tcp::connect_to(to, checked.as_slice(), deadline).await?;
            limits::connected(to, &stream);
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, at: &'a LocalEndpoint) -> BoxFuture<'a, Result<BoxListener, DriverError>> {
        Box::pin(async move { Ok(Box::new(Tcp::listen(&self.guard, at).await?) as BoxListener) })
    }

    fn bind_datagram<'a>(
        &'a self,
        at: &'a LocalEndpoint,
    ) -> BoxFuture<'a, Result<BoxDatagrams, DriverError>> {
        Box::pin(async move {
            let bound = Udp::bind(Arc::clone(&self.guard), at, self.deadline).await?;
            Ok(Box::new(bound) as BoxDatagrams)
        })
    }

    fn lookup<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DriverError>> {
        Box::pin(async move {
            let deadline = Deadline::after(self.deadline);
            let lookup = |name, port| tcp::addresses(name, port, deadline);
            let found = resolve::name(&self.guard, name, lookup).await?;
            Ok(found.iter().map(SocketAddr::ip).collect())
        })
    }
}
