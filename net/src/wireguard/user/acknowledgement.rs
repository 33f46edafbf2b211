//! Acknowledgements that the far end heeds.

use std::net::SocketAddr;

use smoltcp::iface::SocketHandle;

use super::Stack;
use crate::wireguard::packet::{FIN, RST, SYN, Segment};
use crate::wireguard::packets::Packets;

impl Stack {
    /// Gives segments that only acknowledge something the sequence number behind all that was sent.
    ///
    /// That is what RFC 9293 has there (`SND.NXT`). smoltcp has the number that it sends from next, and goes back with it
    /// to send something again. If that has arrived in the meantime, then the number is one of the past for the far end,
    /// which does not heed what such a segment acknowledges; and where the far end does the same, then both send again
    /// for ever, and neither hears that it need not.
    pub(super) fn number(&mut self, outbound: &mut Packets) {
        let mut last: Option<((SocketAddr, SocketAddr), SocketHandle)> = None;
        for packet in outbound.iter_mut() {
            let Some(segment) = Segment::of(packet) else { continue };
            let ends = (segment.from, segment.to);
            let handle = match last {
                // Segments of one connection come in a row.
                Some((of, handle)) if of == ends => handle,
                _ => match self.tuples.get(&ends) {
                    Some(&handle) => handle,
                    None => continue,
                },
            };
            last = Some((ends, handle));
            let Some(connection) = self.connections.get_mut(&handle) else { continue };
            let controls = segment.flags & (SYN | FIN);
            let end = segment.sequence.wrapping_add(segment.len).wrapping_add(controls.count_ones());
            // Sequence numbers go round: what is less than half of them ahead is later.
            let is_behind = |sent: &u32| sent.wrapping_sub(end).cast_signed() > 0;
            match connection.sent.filter(is_behind) {
                Some(sent) if segment.len == 0 && segment.flags & (SYN | FIN | RST) == 0 => {
                    segment.renumber(packet, sent);
                }
                Some(_) => {}
                None => connection.sent = Some(end),
            }
        }
    }
}
