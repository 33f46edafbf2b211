//! WireGuard, in user space: the protocol by [boringtun](boringtun::noise), TCP and UDP in the tunnel by
//! [smoltcp].
//!
//! `Tunnel` is the peers and who owns what, and `Stack` is the connections, both without any I/O: packets and datagrams
//! in memory go in and come out. A task goes round between them and the UDP socket.
//!
//! Not there: packets in fragments, inside the tunnel or outside of it, and what a host in between says with ICMP about a
//! connection. Each packet is shown to every connection until one takes it, so some thousands of them at once are slow.
//!
//! [`WireGuard`] is the network, [`WireGuardConfig`] its settings.

// The name of the protocol is a word of the text, too.
#![allow(clippy::doc_markdown)]

mod allowed_ips;
mod config;
mod datagrams;
mod dns;
mod key;
mod listener;
mod lookup;
mod network;
mod outer;
mod packet;
mod packets;
mod peer;
mod refusal;
mod routes;
mod setup;
mod shared;
mod stack;
mod stream;
mod task;
#[cfg(test)]
mod tests;
mod tunnel;

pub use self::config::{PeerConfig, WireGuardConfig};
pub use self::key::{KeyError, PublicKey};
pub use self::network::{WireGuard, WireGuardDriver};
pub use self::refusal::Refusal;
pub use self::setup::SetupError;

/// What the kind of network is called.
const KIND: &str = "wireguard";
