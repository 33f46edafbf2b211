//! The queues of packets, as smoltcp sees them.

use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::wireguard::packet;
use crate::wireguard::packets::Packets;

/// What came out of the tunnel, and what is to go into it.
pub(super) struct Queues<'a> {
    pub(super) inbound: &'a mut Packets,
    pub(super) outbound: &'a mut Packets,
    pub(super) mtu: usize,
    /// How many packets may go into the tunnel before the stack is asked to wait.
    pub(super) most: usize,
}

pub(super) struct Inbound<'a>(&'a [u8]);

pub(super) struct Outbound<'a> {
    packets: &'a mut Packets,
    mtu: usize,
}

impl Device for Queues<'_> {
    type RxToken<'b>
        = Inbound<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outbound<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Inbound<'_>, Outbound<'_>)> {
        let (packet, ()) = self.inbound.pop()?;
        // A packet is answered with one at most, and those that come in are not without end.
        Some((Inbound(packet), Outbound { packets: self.outbound, mtu: self.mtu }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outbound<'_>> {
        let has_room = self.outbound.len() < self.most;
        has_room.then_some(Outbound { packets: self.outbound, mtu: self.mtu })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // What comes out of the tunnel was authenticated, which says more than a checksum.
        let mut checksum = ChecksumCapabilities::default();
        checksum.ipv4 = Checksum::Tx;
        checksum.udp = Checksum::Tx;
        checksum.tcp = Checksum::Tx;
        checksum.icmpv4 = Checksum::Tx;
        checksum.icmpv6 = Checksum::Tx;
        capabilities.checksum = checksum;
        capabilities
    }
}

impl RxToken for Inbound<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Outbound<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let padded = packet::padded(len, self.mtu);
        let room = self.packets.room(padded);
        room[len..].fill(0);
        let written = f(&mut room[..len]);
        self.packets.commit(padded, ());
        written
    }
}
