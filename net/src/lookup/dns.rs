//! Questions to name servers over UDP, and over TCP where the answer is too long for that (RFC 1035).

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::files::Servers;

/// The longest answer over UDP that passes through the internet in one piece (DNS flag day 2020).
const LONGEST_DATAGRAM: u16 = 1232;

/// A question whose answer is not there by then is sent again, and after twice as long once more, and so on, until the
/// server's time has passed. Datagrams get lost, and that should cost less than the whole of that time.
const RESEND: Duration = Duration::from_millis(300);

/// A name may stand for another one. More often than this in a row it leads nowhere.
const MOST_ALIASES: usize = 16;

/// Asks for the addresses of `name` and returns at least one. It has one socket open at a time.
pub(super) async fn resolve(servers: &Servers, name: &str) -> io::Result<Vec<IpAddr>> {
    let mut refused = None;
    let candidates = candidates(servers, name);
    if candidates.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a label of the name is too long, or all of it",
        ));
    }
    for candidate in candidates {
        match ask_all(servers, &candidate).await {
            Ok(found) if found.is_empty() => {}
            Ok(found) => return Ok(found),
            // A server may refuse what is appended to the name, and know the name itself.
            Err(Failure::Refused(code)) => refused = Some(code),
            // One that does not answer will not for the next name.
            Err(Failure::Io(error)) => return Err(error),
        }
    }
    Err(match refused {
        None => io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        Some(code) => io::Error::other(format!("the name server refused to answer: {code}")),
    })
}

/// The names that `name` may stand for, in the order in which they are tried.
fn candidates(servers: &Servers, name: &str) -> Vec<Name> {
    let absolute = |name: &str| {
        let mut name = Name::from_ascii(name).ok()?;
        name.set_fqdn(true);
        Some(name)
    };
    let itself = absolute(name);
    if name.ends_with('.') {
        return itself.into_iter().collect();
    }
    let searched = servers.search.iter().filter_map(|domain| absolute(&format!("{name}.{domain}")));
    let is_first = name.matches('.').count() >= servers.ndots;
    if is_first { itself.into_iter().chain(searched).collect() } else { searched.chain(itself).collect() }
}

/// Why there is no answer.
enum Failure {
    /// The server answered with an error.
    Refused(ResponseCode),
    /// The server did not answer.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Asks one server after the other, until one answers. A name without addresses is an answer, too.
async fn ask_all(servers: &Servers, name: &Name) -> Result<Vec<IpAddr>, Failure> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let addresses = &servers.addresses;
    let first = if servers.rotate { TURN.fetch_add(1, Ordering::Relaxed) % addresses.len() } else { 0 };
    let mut failure = Failure::Io(io::Error::new(io::ErrorKind::TimedOut, "no name server answered"));
    for _ in 0..servers.attempts {
        for &server in addresses.iter().cycle().skip(first).take(addresses.len()) {
            match ask(servers, server, name).await {
                Ok(found) => return Ok(found),
                Err(error) => failure = error,
            }
        }
    }
    Err(failure)
}

/// Asks one server.
async fn ask(servers: &Servers, server: SocketAddr, name: &Name) -> Result<Vec<IpAddr>, Failure> {
    let kinds = [Some(RecordType::A), servers.asks_for_v6.then_some(RecordType::AAAA)];
    let mut asked: Vec<_> =
        kinds.into_iter().flatten().map(|kind| Asked::new(name, kind, servers.edns0)).collect();
    if !servers.use_tcp {
        patient(servers, over_udp(server, &mut asked)).await?;
    }
    let is_truncated = |asked: &Asked| matches!(asked.answer, Some(Answer::Truncated));
    if servers.use_tcp || asked.iter().any(is_truncated) {
        patient(servers, over_tcp(server, &mut asked)).await?;
    }
    let mut found = Vec::new();
    let (mut refused, mut is_missing) = (None, false);
    for asked in asked {
        match asked.answer {
            Some(Answer::Addresses(addresses)) => found.extend(addresses),
            Some(Answer::Refused(code)) => refused = Some(code),
            Some(Answer::Truncated) | None => is_missing = true,
        }
    }
    // Servers that know nothing of IPv6 may refuse one of the questions, or leave it open. They have answered the other.
    match refused {
        _ if !found.is_empty() => Ok(found),
        Some(code) => Err(Failure::Refused(code)),
        None if is_missing => Err(timed_out().into()),
        None => Ok(found),
    }
}

/// Gives the server its time. What it has not answered by then stays open.
async fn patient(servers: &Servers, exchange: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(servers.timeout, exchange).await.unwrap_or(Ok(()))
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the name server did not answer")
}

/// Asks over UDP, from a port that the system chooses anew for each try.
async fn over_udp(server: SocketAddr, asked: &mut [Asked]) -> io::Result<()> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From here on the kernel passes on what comes from that server only.
    socket.connect(server).await?;
    let mut patience = RESEND;
    loop {
        for asked in asked.iter().filter(|asked| asked.answer.is_none()) {
            socket.send(&asked.bytes).await?;
        }
        if let Ok(received) = timeout(patience, receive(&socket, asked)).await {
            return received;
        }
        patience *= 2;
    }
}

/// Receives until every question is answered.
async fn receive(socket: &UdpSocket, asked: &mut [Asked]) -> io::Result<()> {
    // Some servers send more than they were told can be received.
    let mut buffer = vec![0; 4096];
    while asked.iter().any(|asked| asked.answer.is_none()) {
        let received = socket.recv(&mut buffer).await?;
        take(asked, &buffer[..received]);
    }
    Ok(())
}

/// Asks over TCP for what was not answered over UDP.
async fn over_tcp(server: SocketAddr, asked: &mut [Asked]) -> io::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    for asked in asked.iter_mut().filter(|asked| !asked.is_answered()) {
        asked.answer = None;
        let len = u16::try_from(asked.bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&len.to_be_bytes(), &asked.bytes[..]].concat()).await?;
    }
    while asked.iter().any(|asked| asked.answer.is_none()) {
        let mut message = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut message).await?;
        take(asked, &message);
    }
    Ok(())
}

/// Assigns a message to the question that it answers. A message that answers no question is dropped.
fn take(asked: &mut [Asked], message: &[u8]) {
    let Ok(message) = Message::from_vec(message) else { return };
    if let Some(asked) = asked.iter_mut().find(|asked| asked.answer.is_none() && asked.is_of(&message)) {
        asked.answer = Some(asked.read(&message));
    }
}

/// A question, and the answer once it is there.
struct Asked {
    id: u16,
    query: Query,
    bytes: Vec<u8>,
    answer: Option<Answer>,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The addresses of the name, perhaps none.
    Addresses(Vec<IpAddr>),
    /// There is more of the answer than fits into a datagram.
    Truncated,
    /// The server has no answer.
    Refused(ResponseCode),
}

impl Asked {
    fn new(name: &Name, kind: RecordType, edns0: bool) -> Self {
        // With an unpredictable id.
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        let query = Query::query(name.clone(), kind);
        message.add_query(query.clone());
        if edns0 {
            let mut edns = Edns::new();
            edns.set_max_payload(LONGEST_DATAGRAM);
            message.set_edns(edns);
        }
        // A name that was read can be written. If not, nothing is sent, and nothing is answered.
        let bytes = message.to_vec().unwrap_or_default();
        Self { id: message.metadata.id, query, bytes, answer: None }
    }

    const fn is_answered(&self) -> bool {
        matches!(self.answer, Some(Answer::Addresses(_) | Answer::Refused(_)))
    }

    /// Returns whether the message is the answer to this question.
    fn is_of(&self, message: &Message) -> bool {
        let metadata = &message.metadata;
        metadata.id == self.id
            && metadata.message_type == MessageType::Response
            && metadata.op_code == OpCode::Query
            && message.queries == [self.query.clone()]
    }

    fn read(&self, message: &Message) -> Answer {
        match message.metadata.response_code {
            // That there is no such name is an answer, too.
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Answer::Refused(code),
        }
        if message.metadata.truncation {
            return Answer::Truncated;
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
        Answer::Addresses(addresses.filter(|address| seen.insert(*address)).collect())
    }
}

#[cfg(test)]
mod tests;
