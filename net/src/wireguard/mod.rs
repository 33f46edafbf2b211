//! WireGuard without privileges: the protocol by [boringtun](boringtun::noise), and TCP and UDP in the tunnel by one of
//! two [stacks](Stack).
//!
//! - **The kernel's**, on Linux: a network namespace of its own, which a helper process owns. See [`helper`] for what a
//!   program has to do for that.
//! - **In user space**, by [smoltcp], everywhere else. It is fast while nothing is lost or late, but its TCP recovers
//!   slowly: it does not read selective acknowledgements, and waits at least a second before it sends anything again. At
//!   5 % loss transfers may take minutes. It does not reassemble fragments and does not heed ICMP. Each packet is shown to every
//!   connection until one takes it, so some thousands of them at once are slow.
//!
//! `Tunnel` is the peers and who owns what, without any I/O: packets and datagrams in memory go in and come out. A task
//! goes round between the stack, the tunnel and the UDP socket.
//!
//! [`WireGuard`] is the network, [`WireGuardConfig`] its settings.

// The name of the protocol is a word of the text, too.
#![allow(clippy::doc_markdown)]

mod config;
pub mod helper;
mod inside;
#[cfg(target_os = "linux")]
mod kernel;
mod lookup;
mod packet;
mod refusal;
mod routes;
mod setup;
mod stack;
mod task;
#[cfg(test)]
mod tests;
mod tunnel;
mod user;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use frame_registry::BoxError;
use tokio::runtime::Handle;

use crate::deadline::Deadline;
use crate::driver::Driver;
use crate::endpoint::{Endpoint, HostName, LocalEndpoint};
use crate::error::{Cause, DriverError, DriverStep};
use crate::isolation::IsolationKey;
use crate::network::{BoxDatagrams, BoxFuture, BoxListener, BoxStream, Network};
use crate::reach;
use crate::registry::NetworkRegistry;
use crate::settings::SettingError;
use crate::wireguard::inside::{Backend, Inside};
use crate::wireguard::lookup::{Resolver, TunnelDatagrams};
use crate::wireguard::routes::{Addresses, Routes};
use crate::wireguard::setup::Setup;
use crate::wireguard::stack::Unusable;
use crate::wireguard::task::{Interface, Outer, Task};
use crate::wireguard::tunnel::Tunnel;
use crate::wireguard::user::{Shared, User, UserInterface};

pub use self::config::{KeyError, PeerConfig, PublicKey, WireGuardConfig};
pub use self::refusal::Refusal;
pub use self::setup::SetupError;
pub use self::stack::{Stack, StackChoice};

/// What the kind of network is called.
const KIND: &str = "wireguard";

/// A network of WireGuard peers that needs no privileges, and nothing of the host's routes and devices.
///
/// What goes to an address goes to the peer that owns it. An address that no peer owns is refused at once, as is a
/// name unless there is a name server in the tunnel: neither ever takes another way. What comes from a peer comes from
/// addresses that it owns, or is dropped.
///
/// One UDP port is one network's: to [replace](crate::NetworkRegistry::replace) a network by another one with the same
/// `listen_port`, unregister the first, and have its connections end.
///
/// A task carries the tunnel, in the tokio runtime that the network was made in. It ends, and the UDP socket is closed,
/// when the network is dropped and everything that it made, and what was written has arrived, or 30 seconds later.
///
/// ```
/// use frame_net::wireguard::{PeerConfig, PublicKey, WireGuard, WireGuardConfig};
/// use frame_net::{LocalEndpoint, Network, Secret};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (alice, bob) = ("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=", "XasIfmJKin5OCvmTzTVwbN3J4Nci5X5hLz8yaXnN5LM=");
/// let (alice, bob) = (Secret::new(alice), Secret::new(bob));
///
/// let config = WireGuardConfig::new(bob.clone(), vec!["10.8.0.2/24".parse()?]);
/// let bob_side = WireGuard::new(&config.with_peer(
///     PeerConfig::new(PublicKey::of(&alice)?, vec!["10.8.0.1/32".parse()?]),
/// ))?;
/// let at_bob = format!("127.0.0.1:{}", bob_side.local_address().port()).parse()?;
///
/// let config = WireGuardConfig::new(alice, vec!["10.8.0.1/24".parse()?]);
/// let alice_side = WireGuard::new(&config.with_peer(
///     PeerConfig::new(PublicKey::of(&bob)?, vec!["10.8.0.2/32".parse()?]).with_endpoint(at_bob),
/// ))?;
///
/// let mut listener = bob_side.listen(&LocalEndpoint::port(80)).await?;
/// let to = "10.8.0.2:80".parse()?;
/// let (connected, accepted) = tokio::join!(alice_side.connect(&to, None), listener.accept());
/// let (_, from) = accepted?;
/// assert_eq!(from.host, "10.8.0.1".parse()?);
/// # connected?;
///
/// let refused = alice_side.connect(&"192.0.2.1:80".parse()?, None).await.unwrap_err();
/// assert_eq!(refused.cause().to_string(), "no peer has 192.0.2.1 among its allowed IPs");
/// # Ok(())
/// # }
/// ```
pub struct WireGuard {
    inside: Arc<Inside>,
    resolver: Resolver,
    stack: Stack,
    public_key: PublicKey,
    local_address: SocketAddr,
    deadline: Duration,
}

/// Makes [`WireGuard`] networks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WireGuardDriver;

impl Driver for WireGuardDriver {
    type Config = WireGuardConfig;
    const KIND: &'static str = KIND;
    const SYNONYMS: &'static [(&'static str, &'static str)] = &[
        ("ip", "addresses"),
        ("key", "private_key"),
        ("port", "listen_port"),
        ("server", "peers"),
        ("endpoint", "peers"),
        ("public_key", "peers"),
        ("allowed_ips", "peers"),
        ("preshared_key", "peers"),
        ("address", "endpoint"),
        ("host", "endpoint"),
        ("server", "endpoint"),
        ("key", "public_key"),
        ("psk", "preshared_key"),
        ("routes", "allowed_ips"),
        ("persistent_keepalive", "keepalive"),
        ("timeout", "deadline"),
    ];

    fn create(&self, config: WireGuardConfig, _: &NetworkRegistry) -> Result<Arc<dyn Network>, BoxError> {
        let network = WireGuard::new(&config).map_err(|error| -> BoxError {
            match error.setting(&config) {
                Some(path) => SettingError::new(path, error).into(),
                None => error.into(),
            }
        });
        Ok(Arc::new(network?))
    }
}

impl WireGuard {
    /// A network with these settings. Its UDP socket is bound, and its task runs, in the tokio runtime of this thread,
    /// which has I/O and time. Peers with a keepalive are sent a handshake, others nothing yet.
    ///
    /// # Errors
    ///
    /// [`SetupError`].
    pub fn new(config: &WireGuardConfig) -> Result<Self, SetupError> {
        let Setup { private_key, addresses, peers, routes } = Setup::new(config)?;
        let public_key = PublicKey::of(&config.private_key).map_err(SetupError::PrivateKey)?;
        let runtime = Handle::try_current().map_err(|_| SetupError::NoRuntime)?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(SetupError::Random)?;
        let addresses = Arc::new(Addresses::new(addresses));
        let port = config.listen_port;
        let in_socket = |source| SetupError::Socket { port, source };
        let socket = task::bind(config.bind, port).map_err(in_socket)?;
        let local_address = socket.local_addr().map_err(in_socket)?;
        let outer = Outer::new(socket).map_err(in_socket)?;

        let routes = Arc::new(Routes::new(routes, peers.iter().map(|peer| peer.endpoint.is_some())));
        let own = addresses.iter().map(|own| own.addr()).collect();
        let tunnel = Tunnel::new(private_key, own, peers, Arc::clone(&routes), config.mtu);
        let carrier = Carrier { tunnel, outer, runtime };
        let (backend, stack) = carrier.start(config, &addresses, u64::from_le_bytes(seed))?;

        let inside = Arc::new(Inside { addresses, routes, mtu: config.mtu, backend });
        let resolver = Resolver::new(Arc::clone(&inside), config.dns.clone().into());
        Ok(Self { inside, resolver, stack, public_key, local_address, deadline: config.deadline })
    }

    /// Whose TCP and UDP is used inside the tunnel.
    pub const fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The public key of this end.
    pub const fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// The address of the UDP socket.
    pub const fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    async fn dial(&self, to: &Endpoint) -> Result<BoxStream, DriverError> {
        let deadline = Deadline::after(self.deadline);
        let failed = |cause| DriverError::new(DriverStep::Connect, to, cause);
        let addresses = self.resolver.addresses(to, deadline).await?;
        reach::found(to, &addresses).map_err(|denied| failed(Cause::Denied(denied)))?;
        let addresses = self.resolver.reachable(&addresses).map_err(|refusal| failed(refusal.into()))?;
        let mut last = None;
        for (index, address) in addresses.iter().enumerate() {
            let share = deadline.share(addresses.len() - index);
            let connecting = self.inside.connect(*address);
            match share.timeout(connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(cause)) | Err(cause) => last = Some(failed(cause)),
            }
        }
        Err(last.unwrap_or_else(|| failed(Cause::Closed)))
    }
}

/// What a task carries packets with.
struct Carrier {
    tunnel: Tunnel,
    outer: Outer,
    runtime: Handle,
}

impl Carrier {
    /// Starts the stack that was chosen, and the task that carries its packets.
    fn start(
        self,
        config: &WireGuardConfig,
        addresses: &Arc<Addresses>,
        seed: u64,
    ) -> Result<(Backend, Stack), SetupError> {
        let why = if config.stack == StackChoice::User {
            None
        } else {
            match kernel(config, addresses) {
                #[cfg(target_os = "linux")]
                Ok((kernel, interface)) => {
                    self.carry(interface);
                    return Ok((Backend::Kernel(kernel), Stack::Kernel));
                }
                #[cfg(not(target_os = "linux"))]
                Ok(never) => match never {},
                // Another stack would stay after the reason has passed.
                Err(Unusable::Now(why)) => return Err(SetupError::Helper(io::Error::other(why))),
                Err(Unusable::Here(why)) if config.stack == StackChoice::Kernel => {
                    return Err(SetupError::Kernel(io::Error::other(why)));
                }
                Err(Unusable::Here(why)) => Some(why),
            }
        };
        let most = usize::from(config.max_connections.get());
        let stack = |now| user::Stack::new(Addresses::clone(addresses), config.mtu, most, seed, now);
        let shared = Shared::new(stack);
        self.carry(UserInterface(Arc::clone(&shared)));
        Ok((Backend::User(Arc::new(User(shared))), Stack::User { why }))
    }

    fn carry(self, interface: impl Interface) {
        self.runtime.spawn(Task::new(interface, self.tunnel, self.outer).run());
    }
}

#[cfg(target_os = "linux")]
fn kernel(
    config: &WireGuardConfig,
    addresses: &Arc<Addresses>,
) -> Result<(Arc<kernel::Kernel>, kernel::Interface), Unusable> {
    kernel::Kernel::start(addresses, config.mtu, usize::from(config.max_connections.get()))
}

#[cfg(not(target_os = "linux"))]
fn kernel(_: &WireGuardConfig, _: &Arc<Addresses>) -> Result<std::convert::Infallible, Unusable> {
    Err(Unusable::Here("this system is not Linux".to_owned()))
}

impl Network for WireGuard {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn remark(&self) -> Option<String> {
        Some(self.stack.to_string())
    }

    fn is_degraded(&self) -> bool {
        let is_fallback = matches!(self.stack, Stack::User { why: Some(_) });
        is_fallback && cfg!(target_os = "linux") && helper::program().is_some()
    }

    fn connect<'a>(
        &'a self,
        to: &'a Endpoint,
        _: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        Box::pin(self.dial(to))
    }

    fn listen<'a>(&'a self, at: &'a LocalEndpoint) -> BoxFuture<'a, Result<BoxListener, DriverError>> {
        Box::pin(async move {
            let listener = self.inside.listen(at).await;
            listener.map_err(|cause| DriverError::new(DriverStep::Listen, at, cause))
        })
    }

    fn bind_datagram<'a>(
        &'a self,
        at: &'a LocalEndpoint,
    ) -> BoxFuture<'a, Result<BoxDatagrams, DriverError>> {
        Box::pin(async move {
            let port = self.inside.bind(at).await;
            let port = port.map_err(|cause| DriverError::new(DriverStep::Bind, at, cause))?;
            let (resolver, deadline) = (self.resolver.clone(), self.deadline);
            Ok(Box::new(TunnelDatagrams { port, resolver, deadline }) as BoxDatagrams)
        })
    }

    fn lookup<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DriverError>> {
        Box::pin(self.resolver.lookup(name, Deadline::after(self.deadline)))
    }
}

impl fmt::Debug for WireGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut network = f.debug_struct("WireGuard");
        network.field("public_key", &self.public_key).field("local_address", &self.local_address);
        network.finish_non_exhaustive()
    }
}
