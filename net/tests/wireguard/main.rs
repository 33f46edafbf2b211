//! WireGuard networks against each other, against a peer that is played by hand, and against wireguard-go, all over UDP
//! on loopback.

#![allow(unreachable_pub)]

#[path = "../servers/mod.rs"]
mod servers;
#[path = "../support/mod.rs"]
mod support;

mod budgets;
mod config;
mod datagrams;
mod fallback;
mod lifetime;
mod lossy;
mod names;
mod pair;
mod peers;
mod raw;
mod relay;
mod streams;
mod wireguard_go;
