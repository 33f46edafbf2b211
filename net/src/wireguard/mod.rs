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

mod addresses;
mod allowed_ips;
mod config;
mod datagrams;
mod dns;
pub mod helper;
mod inside;
#[cfg(target_os = "linux")]
mod kernel;
mod key;
mod lookup;
mod network;
mod outer;
mod packet;
mod packets;
mod peer;
mod refusal;
mod routes;
mod setup;
mod stack;
mod task;
#[cfg(test)]
mod tests;
mod tunnel;
mod user;

pub use self::config::{PeerConfig, WireGuardConfig};
pub use self::key::{KeyError, PublicKey};
pub use self::network::{WireGuard, WireGuardDriver};
pub use self::refusal::Refusal;
pub use self::setup::SetupError;
pub use self::stack::{Stack, StackChoice};

/// What the kind of network is called.
const KIND: &str = "wireguard";
