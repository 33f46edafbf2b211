//! What everybody who sends something knows of the peers.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::wireguard::Refusal;
use crate::wireguard::allowed_ips::AllowedIps;

/// Who owns what, and who is known to be somewhere.
pub(super) struct Routes {
    owners: AllowedIps<usize>,
    /// By the index of the peer.
    reachable: Vec<AtomicBool>,
}

impl Routes {
    pub(super) fn new(owners: AllowedIps<usize>, reachable: impl Iterator<Item = bool>) -> Self {
        Self { owners, reachable: reachable.map(AtomicBool::new).collect() }
    }

    /// The index of the peer that owns `address`.
    pub(super) fn owner(&self, address: IpAddr) -> Option<usize> {
        self.owners.owner(address)
    }

    /// The peer was heard from.
    pub(super) fn set_reachable(&self, peer: usize) {
        // Written once, as a rule, and read by every packet.
        if !self.reachable[peer].load(Ordering::Relaxed) {
            self.reachable[peer].store(true, Ordering::Relaxed);
        }
    }

    /// Refuses an address that no peer owns, or one that is nobody knows where.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        let owner = self.owner(address).ok_or(Refusal::NoPeer { address })?;
        if self.reachable[owner].load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(Refusal::NoEndpoint { address })
        }
    }
}
