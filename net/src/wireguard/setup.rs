//! What has to be right about the settings before there is a tunnel.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use boringtun::x25519::{self, StaticSecret};
use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::endpoint::Endpoint;
use crate::settings::SettingPath;
use crate::wireguard::config::{self, KeyError};
use crate::wireguard::routes::AllowedIps;
use crate::wireguard::{PeerConfig, PublicKey, WireGuardConfig, packet};

/// How many addresses the stack in the tunnel can have.
const MOST_ADDRESSES: usize = 8;

/// The shortest packets that every IPv4 host takes whole, and that IPv6 demands.
const SHORTEST_MTU: usize = 576;
const SHORTEST_MTU_V6: usize = 1280;

/// What WireGuard, UDP and IPv6 put around a packet has to fit in the 65535 bytes of one.
const LONGEST_MTU: usize = 65_535 - 32 - 8 - 40;

/// There is no tunnel with these settings, or none on this host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The private key is none.
    #[error("`private_key` is no key")]
    PrivateKey(#[source] KeyError),
    /// The preshared key of a peer is none.
    #[error("`preshared_key` of the peer {peer} is no key")]
    PresharedKey {
        /// The peer.
        peer: PublicKey,
        /// Why.
        source: KeyError,
    },
    /// This end has no address, or more than there is room for.
    #[error("`addresses` has to have 1 to {MOST_ADDRESSES} addresses, and has {count}")]
    Addresses {
        /// How many it has.
        count: usize,
    },
    /// This end has an address twice.
    #[error("`addresses` has {address} more than once")]
    DuplicateAddress {
        /// The address.
        address: IpAddr,
    },
    /// An address is not one that a host can have.
    #[error("{address} in `addresses` is not an address of one host")]
    NotUnicast {
        /// The address.
        address: IpAddr,
    },
    /// The MTU is out of range.
    #[error("the `mtu` is {mtu}, and has to be at least {least} and at most {LONGEST_MTU}")]
    Mtu {
        /// The MTU.
        mtu: usize,
        /// The least that it can be for these addresses.
        least: usize,
    },
    /// There is no peer.
    #[error("`peers` is empty, so the tunnel leads nowhere")]
    NoPeers,
    /// A peer is given twice.
    #[error("the peer {peer} is in `peers` more than once")]
    DuplicatePeer {
        /// The peer.
        peer: PublicKey,
    },
    /// A peer has the key of this end.
    #[error("the peer {peer} has the public key of this end's `private_key`")]
    OwnKey {
        /// The peer.
        peer: PublicKey,
    },
    /// Two peers own the same addresses.
    #[error("{prefix} is in `allowed_ips` more than once; one peer can own it")]
    DuplicateAllowedIps {
        /// The addresses.
        prefix: IpNet,
    },
    /// A peer owns no address.
    #[error("the `allowed_ips` of the peer {peer} are empty, so nothing can be sent to it")]
    NoAllowedIps {
        /// The peer.
        peer: PublicKey,
    },
    /// The time between packets to a peer is not one that the protocol's timer has.
    #[error("the `keepalive` of the peer {peer} has to be whole seconds, at most {}", u16::MAX)]
    Keepalive {
        /// The peer.
        peer: PublicKey,
    },
    /// A name server is where no peer is.
    #[error("the name server {server} in `dns` is in no peer's `allowed_ips`")]
    NameServer {
        /// The server.
        server: IpAddr,
    },
    /// There is no tokio runtime to carry the tunnel.
    #[error("a WireGuard network is carried by a task, and this thread is in no tokio runtime")]
    NoRuntime,
    /// The UDP socket is not to be had.
    #[error("the tunnel's UDP socket cannot be bound to port {port}")]
    Socket {
        /// The port; 0 is any.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The kernel's stack was chosen and cannot be used.
    #[error("the kernel's stack cannot be used here, and `stack = \"kernel\"` allows no other")]
    Kernel(#[source] io::Error),
    /// The kernel's stack can be used here, but its helper process could not be started. That may pass.
    #[error(
        "the helper process of the kernel's stack could not be started; try again, or set `stack = \"user\"`"
    )]
    Helper(#[source] io::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

impl SetupError {
    /// The setting of `config` that this is about.
    pub(super) fn setting(&self, config: &WireGuardConfig) -> Option<SettingPath> {
        let peer = |peer: &PublicKey| {
            let place = config.peers.iter().rposition(|config| config.public_key == *peer);
            SettingPath::from("peers").index(place.unwrap_or_default())
        };
        let own = |address: &IpAddr| {
            let place = config.addresses.iter().rposition(|own| own.addr() == *address);
            SettingPath::from("addresses").index(place.unwrap_or_default())
        };
        Some(match self {
            Self::PrivateKey(_) => "private_key".into(),
            Self::PresharedKey { peer: key, .. } => peer(key).key("preshared_key"),
            Self::Addresses { .. } => "addresses".into(),
            Self::DuplicateAddress { address } | Self::NotUnicast { address } => own(address),
            Self::Mtu { .. } => "mtu".into(),
            Self::Kernel(_) => "stack".into(),
            Self::NoPeers => "peers".into(),
            Self::DuplicatePeer { peer: key } | Self::OwnKey { peer: key } => peer(key).key("public_key"),
            Self::DuplicateAllowedIps { prefix } => {
                let of_peer =
                    |config: &PeerConfig| config.allowed_ips.iter().rposition(|ip| ip.trunc() == *prefix);
                let owner = config.peers.iter().rposition(|peer| of_peer(peer).is_some())?;
                let place = of_peer(&config.peers[owner])?;
                SettingPath::from("peers").index(owner).key("allowed_ips").index(place)
            }
            Self::NoAllowedIps { peer: key } => peer(key).key("allowed_ips"),
            Self::Keepalive { peer: key } => peer(key).key("keepalive"),
            Self::NameServer { server } => {
                SettingPath::from("dns").index(config.dns.iter().position(|dns| dns == server)?)
            }
            Self::Socket { .. } if config.listen_port > 0 => "listen_port".into(),
            Self::Socket { .. } if config.bind.is_some() => "bind".into(),
            Self::Socket { .. } | Self::NoRuntime | Self::Helper(_) | Self::Random(_) => return None,
        })
    }
}

/// Settings that make sense.
pub(super) struct Setup {
    pub(super) private_key: StaticSecret,
    pub(super) addresses: Vec<IpNet>,
    pub(super) peers: Vec<PeerSetup>,
    /// The index of the peer that owns an address.
    pub(super) routes: AllowedIps<usize>,
}

pub(super) struct PeerSetup {
    pub(super) public_key: PublicKey,
    pub(super) preshared_key: Option<Zeroizing<[u8; 32]>>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) keepalive: Option<u16>,
}

impl Setup {
    /// Checks everything that can be checked without doing anything.
    pub(super) fn new(config: &WireGuardConfig) -> Result<Self, SetupError> {
        let private_key = config::private(&config.private_key).map_err(SetupError::PrivateKey)?;
        check_addresses(&config.addresses)?;
        check_mtu(config)?;
        let own = x25519::PublicKey::from(&private_key);
        let peers = peers(&config.peers, own)?;
        let prefixes = config.peers.iter().enumerate();
        let prefixes = prefixes.flat_map(|(index, peer)| peer.allowed_ips.iter().map(move |&ip| (ip, index)));
        let routes = AllowedIps::new(prefixes);
        let routes = routes.map_err(|prefix| SetupError::DuplicateAllowedIps { prefix })?;
        if let Some(&server) = config.dns.iter().find(|&&server| routes.owner(server).is_none()) {
            return Err(SetupError::NameServer { server });
        }
        Ok(Self { private_key, addresses: config.addresses.clone(), peers, routes })
    }
}

fn check_addresses(addresses: &[IpNet]) -> Result<(), SetupError> {
    if !(1..=MOST_ADDRESSES).contains(&addresses.len()) {
        return Err(SetupError::Addresses { count: addresses.len() });
    }
    let mut seen = BTreeSet::new();
    for address in addresses.iter().map(IpNet::addr) {
        if !packet::is_source(address) {
            return Err(SetupError::NotUnicast { address });
        }
        if !seen.insert(address) {
            return Err(SetupError::DuplicateAddress { address });
        }
    }
    Ok(())
}

fn check_mtu(config: &WireGuardConfig) -> Result<(), SetupError> {
    let has_v6 = config.addresses.iter().any(|address| address.addr().is_ipv6());
    let least = if has_v6 { SHORTEST_MTU_V6 } else { SHORTEST_MTU };
    if (least..=LONGEST_MTU).contains(&config.mtu) {
        Ok(())
    } else {
        Err(SetupError::Mtu { mtu: config.mtu, least })
    }
}

fn peers(peers: &[PeerConfig], own: x25519::PublicKey) -> Result<Vec<PeerSetup>, SetupError> {
    if peers.is_empty() {
        return Err(SetupError::NoPeers);
    }
    let mut seen = BTreeSet::new();
    let checked = peers.iter().map(|config| {
        let peer = config.public_key;
        if peer.as_bytes() == own.as_bytes() {
            return Err(SetupError::OwnKey { peer });
        }
        if !seen.insert(*peer.as_bytes()) {
            return Err(SetupError::DuplicatePeer { peer });
        }
        if config.allowed_ips.is_empty() {
            return Err(SetupError::NoAllowedIps { peer });
        }
        let preshared_key = config.preshared_key.as_ref().map(|key| config::key_bytes(key.expose()));
        Ok(PeerSetup {
            public_key: peer,
            preshared_key: preshared_key
                .transpose()
                .map_err(|source| SetupError::PresharedKey { peer, source })?,
            endpoint: config.endpoint.clone(),
            keepalive: keepalive(config)?,
        })
    });
    checked.collect()
}

/// Whole seconds; zero is as good as none.
fn keepalive(config: &PeerConfig) -> Result<Option<u16>, SetupError> {
    let Some(time) = config.keepalive.filter(|time| !time.is_zero()) else { return Ok(None) };
    let seconds = u16::try_from(time.as_secs()).ok().filter(|_| time.subsec_nanos() == 0);
    seconds.map(Some).ok_or(SetupError::Keepalive { peer: config.public_key })
}
