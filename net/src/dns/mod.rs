//! Questions to name servers and their answers (RFC 1035), without I/O.

use std::collections::HashSet;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// The longest answer over UDP that passes through the internet in one piece (DNS flag day 2020).
const LONGEST_DATAGRAM: u16 = 1232;

/// How many aliases in a row are followed.
const MOST_ALIASES: usize = 16;

/// Returns the name as one that is complete, unless it has too long a label or is too long.
pub(crate) fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// A question, and the answer once it is there.
pub(crate) struct Question {
    id: u16,
    query: Query,
    message: Vec<u8>,
    pub(crate) answer: Option<DnsAnswer>,
}

/// What a name server answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DnsAnswer {
    /// The addresses of the name, perhaps none.
    Addresses(Vec<IpAddr>),
    /// The answer is longer than fits into a datagram.
    Truncated,
    /// The server has no answer.
    Refused(ResponseCode),
}

impl Question {
    /// Asks for the addresses of `name` of one kind, with a random id. With `edns0` longer answers can be received.
    pub(crate) fn new(name: &Name, kind: RecordType, edns0: bool) -> Self {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        let query = Query::query(name.clone(), kind);
        message.add_query(query.clone());
        if edns0 {
            let mut edns = Edns::new();
            edns.set_max_payload(LONGEST_DATAGRAM);
            message.set_edns(edns);
        }
        let id = message.metadata.id;
        // A name that was read can be written. If not, nothing is sent, and nothing is answered.
        Self { id, query, message: message.to_vec().unwrap_or_default(), answer: None }
    }

    /// Returns the message to send.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    /// Returns whether the answer is there, and whole.
    pub(crate) const fn is_answered(&self) -> bool {
        matches!(self.answer, Some(DnsAnswer::Addresses(_) | DnsAnswer::Refused(_)))
    }

    /// Returns whether the message answers this question.
    fn is_of(&self, message: &Message) -> bool {
        let metadata = &message.metadata;
        metadata.id == self.id
            && metadata.message_type == MessageType::Response
            && metadata.op_code == OpCode::Query
            && message.queries == [self.query.clone()]
    }

    fn read(&self, message: &Message) -> DnsAnswer {
        match message.metadata.response_code {
            // That there is no such name is an answer, too.
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return DnsAnswer::Refused(code),
        }
        if message.metadata.truncation {
            return DnsAnswer::Truncated;
        }
        // Addresses of the name, or of the one that it stands for. Others in the answer were not asked for.
        let mut owner = self.query.name();
        for _ in 0..MOST_ALIASES {
            let alias = message.answers.iter().find_map(|record| match &record.data {
                RData::CNAME(target) if record.name == *owner => Some(&target.0),
                _ => None,
            });
            let Some(target) = alias else { break };
            owner = target;
        }
        let kind = self.query.query_type();
        let of_owner = message.answers.iter().filter(|record| record.name == *owner);
        let mut seen = HashSet::new();
        let addresses = of_owner.filter(|record| record.record_type() == kind);
        let addresses = addresses.filter_map(|record| record.data.ip_addr());
        DnsAnswer::Addresses(addresses.filter(|address| seen.insert(*address)).collect())
    }
}

/// Assigns a message to the question that it answers. A message that answers no question is dropped.
pub(crate) fn assign(questions: &mut [Question], message: &[u8]) {
    let Ok(message) = Message::from_vec(message) else { return };
    let mut open = questions.iter_mut().filter(|question| question.answer.is_none());
    if let Some(question) = open.find(|question| question.is_of(&message)) {
        question.answer = Some(question.read(&message));
    }
}

#[cfg(test)]
mod tests;
