//! The settings of clearnet.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rule::{self, AddressRule, Rule};
use crate::deadline;

/// The settings of a [`Direct`](crate::Direct) network: whom it may reach. In text: `allow`, `deny`, `default`,
/// `listen`, `deadline`.
///
/// ```
/// use frame_net::DirectConfig;
/// use serde_json::json;
///
/// let config: DirectConfig = serde_json::from_value(json!({
///     "allow": ["10.0.8.0/24:5432", "[fd00:8::/64]:5432", "64:ff9b::/96"],
///     "deny": ["*.ads.example", "198.41.0.4", "*:25"],
///     "listen": ["127.0.0.1:8000-8999"],
///     "deadline": "500ms",
/// }))?;
/// assert_eq!((config.allow.len(), config.deadline.as_millis()), (3, 500));
///
/// let misspelt = serde_json::from_value::<DirectConfig>(json!({ "allow": ["10.0.8.1/24"] })).unwrap_err();
/// assert!(misspelt.to_string().contains("write `10.0.8.0/24` for the whole range"));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # What is decided
///
/// For an address and a port, in this order:
///
/// 1. A rule of [`deny`](Self::deny) has them: denied.
/// 2. The address is *special*, which is to say not of the public internet: it is allowed if an **address** rule of
///    [`allow`](Self::allow) has it, else denied. A rule for a name does not open these ranges, `*` neither, because
///    whoever has a name can point it anywhere. An address rule opens all that is in it: `0.0.0.0/0` is loopback and
///    the cloud's metadata, too.
/// 3. The [`default`](Self::default) is to allow, or a rule of `allow` has the address or the name: allowed.
/// 4. Else denied.
///
/// Where the default is to deny, a name needs a **name** rule: `10.0.0.0/8` allows `10.1.2.3`, and no name that has such
/// an address. Otherwise every name would have to be looked up, and whoever chooses names could tell their name server
/// anything.
///
/// Special is what is in the registries of IANA for special-purpose addresses, whether or not it is globally reachable
/// there: private, loopback, link-local, shared (CGNAT), unspecified, documentation, benchmarking, protocol
/// assignments, and reserved addresses, IPv6 unique local and site-local ones, Teredo, 6to4, NAT64, and whatever else
/// is not in `2000::/3`; multicast, broadcast, and the address `168.63.129.16` of Azure's platform. Public addresses
/// that this host itself has are not special: where something listens there that is not for everybody, deny them.
///
/// An **IPv6 address that holds an IPv4 one** (IPv4-mapped, IPv4-compatible, IPv4-translated, NAT64, 6to4, Teredo,
/// ISATAP) is allowed only if both are. In a network with DNS64, where names that have only IPv4 get such addresses,
/// allow `64:ff9b::/96`: that opens what is public behind it, and not `64:ff9b::127.0.0.1`. A NAT64 prefix of your
/// own is not known here, and it is for rules of `deny` to close what is behind it.
///
/// A **name** that a rule of `deny` has is refused before it is looked up, and so is one that no name rule allows where
/// the default is to deny. All others are looked up once; if *one* of the addresses is denied then nothing is dialled, else these and no others
/// are. A name is compared as it is given: aliases, and what the host appends to short names, are not.
///
/// A name below `.onion`, `.i2p` or `.alt` is not of the DNS (RFC 7686, RFC 9476), and to ask a name server for it would
/// tell where somebody wanted to go: it is refused unless a rule of `allow` other than `*` has it.
///
/// To look a name up there is no port. A rule of `deny` counts then if it has no ports, one of `allow` in any case.
///
/// ```
/// use frame_net::{Cause, Direct, DirectConfig, Network};
/// use serde_json::json;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: DirectConfig = serde_json::from_value(json!({ "allow": ["localhost"], "deny": ["*.ads.example"] }))?;
/// let network = Direct::new(config);
///
/// let refused = async |to: &str| {
///     let error = network.connect(&to.parse().unwrap(), None).await.unwrap_err();
///     assert!(matches!(error.cause(), Cause::Denied(_)) && !error.is_retryable());
///     error.cause().to_string()
/// };
/// // No packet was sent, not even to a name server:
/// assert_eq!(refused("a.ads.example:443").await, "`a.ads.example` is denied by the rule `*.ads.example`");
/// // The rule for the name is none for the address:
/// assert!(refused("localhost:80").await.starts_with("`localhost` has the address "));
/// assert_eq!(
///     refused("[::ffff:169.254.169.254]:80").await,
///     "::ffff:169.254.169.254 is an IPv4-mapped address (::ffff:0.0.0.0/96), and in no address rule of `allow`; \
///      to allow it, add \"[::ffff:169.254.169.254]:80\" to `allow`",
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct DirectConfig {
    /// Who may be reached, beside what the default allows. Nobody unless given.
    #[serde(deserialize_with = "rule::list")]
    pub allow: Vec<Rule>,
    /// Who may not be reached, even if `allow` has it. Nobody unless given.
    #[serde(deserialize_with = "rule::list")]
    pub deny: Vec<Rule>,
    /// What is decided for names and public addresses that no rule has: to allow them unless given.
    pub default: DirectDefault,
    /// Where connections may be accepted, and datagrams sent from and received. Nowhere unless given.
    ///
    /// To take all addresses of the host a rule has to have `0.0.0.0`, and for IPv6 also `::`; a port that the system
    /// chooses needs a rule without ports. Whoever connects, or sends a datagram, is let in; whom datagrams go to is
    /// decided as for connections.
    #[serde(deserialize_with = "rule::list")]
    pub listen: Vec<AddressRule>,
    /// How long a connection may take, looking the name up included: 30 seconds unless given.
    #[serde(deserialize_with = "deadline::from_text", serialize_with = "deadline::to_text")]
    pub deadline: Duration,
}

/// What a network decides for names and public addresses that no rule has. In text: `allow` or `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectDefault {
    /// They may be reached.
    #[default]
    Allow,
    /// They may not.
    Deny,
}

impl fmt::Display for DirectDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

impl Default for DirectConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            default: DirectDefault::Allow,
            listen: Vec::new(),
            deadline: deadline::DEFAULT,
        }
    }
}

impl DirectConfig {
    /// What other programs call the settings, for [`read_settings`](crate::read_settings).
    pub const SYNONYMS: &'static [(&'static str, &'static str)] = &[
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

    /// With these rules to allow, instead of those it has.
    #[must_use]
    pub fn with_allow(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { allow: rules.into_iter().collect(), ..self }
    }

    /// With these rules to deny, instead of those it has.
    #[must_use]
    pub fn with_deny(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { deny: rules.into_iter().collect(), ..self }
    }

    /// With another default.
    #[must_use]
    pub fn with_default(self, default: DirectDefault) -> Self {
        Self { default, ..self }
    }

    /// With these places to listen at, instead of those it has.
    #[must_use]
    pub fn with_listen(self, rules: impl IntoIterator<Item = AddressRule>) -> Self {
        Self { listen: rules.into_iter().collect(), ..self }
    }

    /// With another deadline.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }
}
