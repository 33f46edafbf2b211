//! Questions to a name server and its answers, RFC 1035.

use std::net::IpAddr;

use smoltcp::wire::{
    DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData, DnsRepr,
};

use crate::endpoint::HostName;

/// The longest label of a name.
const LONGEST_LABEL: usize = 63;

/// The longest name in a message.
const LONGEST_NAME: usize = 255;

/// A name may stand for another one. More often than this in a row it leads nowhere.
const MOST_ALIASES: usize = 16;

/// A question for the addresses of a name.
#[derive(Debug)]
pub(super) struct Query {
    id: u16,
    kind: DnsQueryType,
    /// The labels, each behind its length, in lower case.
    name: Vec<u8>,
}

/// What a message says to a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The addresses of the name, perhaps none.
    Addresses(Vec<IpAddr>),
    /// There is more of the answer than fits into a datagram.
    Truncated,
    /// The server has no answer, with the code of RFC 1035.
    Failed(u8),
}

impl Query {
    /// A question for IPv4 addresses, or for IPv6 addresses. There is none for a name that has too long a label.
    pub(super) fn new(id: u16, name: &HostName, is_v6: bool) -> Option<Self> {
        let mut bytes = Vec::with_capacity(name.as_str().len() + 2);
        for label in name.as_str().trim_end_matches('.').split('.') {
            let len = u8::try_from(label.len()).ok().filter(|&len| usize::from(len) <= LONGEST_LABEL)?;
            bytes.push(len);
            bytes.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        bytes.push(0);
        let kind = if is_v6 { DnsQueryType::Aaaa } else { DnsQueryType::A };
        (bytes.len() <= LONGEST_NAME).then_some(Self { id, kind, name: bytes })
    }

    /// The message with the question.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let question = DnsQuestion { name: &self.name, type_: self.kind };
        let flags = DnsFlags::RECURSION_DESIRED;
        let repr = DnsRepr { transaction_id: self.id, opcode: DnsOpcode::Query, flags, question };
        let mut message = vec![0; repr.buffer_len()];
        repr.emit(&mut DnsPacket::new_unchecked(&mut message[..]));
        message
    }

    /// What the message answers; nothing if it is not the answer to this question.
    pub(super) fn answer(&self, message: &[u8]) -> Option<Answer> {
        let packet = DnsPacket::new_checked(message).ok()?;
        let is_answer = packet.transaction_id() == self.id
            && packet.flags().contains(DnsFlags::RESPONSE)
            && packet.opcode() == DnsOpcode::Query
            && packet.question_count() == 1;
        if !is_answer {
            return None;
        }
        let (mut rest, question) = DnsQuestion::parse(packet.payload()).ok()?;
        if question.type_ != self.kind || name(&packet, question.name)? != self.name {
            return None;
        }
        match packet.rcode() {
            // That there is no such name is an answer, too.
            DnsRcode::NoError | DnsRcode::NXDomain => {}
            code => return Some(Answer::Failed(code.into())),
        }
        if packet.flags().contains(DnsFlags::TRUNCATED) {
            return Some(Answer::Truncated);
        }
        let mut records = Vec::new();
        for _ in 0..packet.answer_record_count() {
            // A record of a class that nobody asked for ends the list, as one does that is broken.
            let Ok((behind, record)) = DnsRecord::parse(rest) else { break };
            rest = behind;
            records.push((name(&packet, record.name)?, record.data));
        }
        Some(Answer::Addresses(self.addresses(&packet, &records)))
    }

    /// The addresses of the name, or of the one that it stands for. Others in the answer were not asked for.
    fn addresses(&self, packet: &DnsPacket<&[u8]>, records: &[(Vec<u8>, DnsRecordData<'_>)]) -> Vec<IpAddr> {
        let mut owner = self.name.clone();
        for _ in 0..MOST_ALIASES {
            let alias = records.iter().find_map(|(name, data)| match data {
                DnsRecordData::Cname(target) if *name == owner => Some(target),
                _ => None,
            });
            let Some(target) = alias.and_then(|target| name(packet, target)) else { break };
            owner = target;
        }
        let of_owner = records.iter().filter(|(name, _)| *name == owner);
        let addresses = of_owner.filter_map(|(_, data)| match data {
            DnsRecordData::A(address) if self.kind == DnsQueryType::A => Some(IpAddr::from(*address)),
            DnsRecordData::Aaaa(address) if self.kind == DnsQueryType::Aaaa => Some(IpAddr::from(*address)),
            _ => None,
        });
        addresses.collect()
    }
}

/// A name of the message, uncompressed and in lower case.
fn name(packet: &DnsPacket<&[u8]>, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    for label in packet.parse_name(bytes) {
        let label = label.ok()?;
        name.push(u8::try_from(label.len()).ok()?);
        name.extend(label.iter().map(u8::to_ascii_lowercase));
        if name.len() >= LONGEST_NAME {
            return None;
        }
    }
    name.push(0);
    Some(name)
}

#[cfg(test)]
mod tests;
