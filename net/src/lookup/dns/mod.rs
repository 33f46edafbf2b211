//! Asks name servers over UDP, and over TCP if the answer is too long for a datagram (RFC 1035).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::files::Servers;
use crate::dns::{DnsAnswer, Question, absolute, assign};

/// A question whose answer is not there by then is sent again, and after twice as long once more, and so on, until the
/// server's time has passed. Datagrams get lost, and that should cost less than the whole of that time.
const RESEND: Duration = Duration::from_millis(300);

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
            Err(AskError::Refused(code)) => refused = Some(code),
            // One that does not answer will not for the next name.
            Err(AskError::Io(error)) => return Err(error),
        }
    }
    Err(match refused {
        None => io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        Some(code) => io::Error::other(format!("the name server refused to answer: {code}")),
    })
}

/// The names that `name` may stand for, in the order in which they are tried.
fn candidates(servers: &Servers, name: &str) -> Vec<Name> {
    let itself = absolute(name);
    if name.ends_with('.') {
        return itself.into_iter().collect();
    }
    let searched = servers.search.iter().filter_map(|domain| absolute(&format!("{name}.{domain}")));
    let is_first = name.matches('.').count() >= servers.ndots;
    if is_first { itself.into_iter().chain(searched).collect() } else { searched.chain(itself).collect() }
}

/// Why a name server did not answer.
enum AskError {
    /// The server answered with an error.
    Refused(ResponseCode),
    /// The server did not answer.
    Io(io::Error),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Asks one server after the other, until one answers. A name without addresses is an answer, too.
async fn ask_all(servers: &Servers, name: &Name) -> Result<Vec<IpAddr>, AskError> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let addresses = &servers.addresses;
    let first = if servers.rotate { TURN.fetch_add(1, Ordering::Relaxed) % addresses.len() } else { 0 };
    let mut failure = AskError::Io(io::Error::new(io::ErrorKind::TimedOut, "no name server answered"));
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
async fn ask(servers: &Servers, server: SocketAddr, name: &Name) -> Result<Vec<IpAddr>, AskError> {
    let kinds = [Some(RecordType::A), servers.asks_for_v6.then_some(RecordType::AAAA)];
    let mut asked: Vec<_> =
        kinds.into_iter().flatten().map(|kind| Question::new(name, kind, servers.edns0)).collect();
    if !servers.use_tcp {
        patient(servers, over_udp(server, &mut asked)).await?;
    }
    let is_truncated = |asked: &Question| matches!(asked.answer, Some(DnsAnswer::Truncated));
    if servers.use_tcp || asked.iter().any(is_truncated) {
        patient(servers, over_tcp(server, &mut asked)).await?;
    }
    let mut found = Vec::new();
    let (mut refused, mut is_missing) = (None, false);
    for asked in asked {
        match asked.answer {
            Some(DnsAnswer::Addresses(addresses)) => found.extend(addresses),
            Some(DnsAnswer::Refused(code)) => refused = Some(code),
            Some(DnsAnswer::Truncated) | None => is_missing = true,
        }
    }
    // Servers that know nothing of IPv6 may refuse one of the questions, or leave it open. They have answered the other.
    match refused {
        _ if !found.is_empty() => Ok(found),
        Some(code) => Err(AskError::Refused(code)),
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
async fn over_udp(server: SocketAddr, asked: &mut [Question]) -> io::Result<()> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From here on the kernel passes on what comes from that server only.
    socket.connect(server).await?;
    let mut patience = RESEND;
    loop {
        for asked in asked.iter().filter(|asked| asked.answer.is_none()) {
            socket.send(asked.message()).await?;
        }
        if let Ok(received) = timeout(patience, receive(&socket, asked)).await {
            return received;
        }
        patience *= 2;
    }
}

/// Receives until every question is answered.
async fn receive(socket: &UdpSocket, asked: &mut [Question]) -> io::Result<()> {
    // Some servers send more than they were told can be received.
    let mut buffer = vec![0; 4096];
    while asked.iter().any(|asked| asked.answer.is_none()) {
        let received = socket.recv(&mut buffer).await?;
        assign(asked, &buffer[..received]);
    }
    Ok(())
}

/// Asks over TCP for what was not answered over UDP.
async fn over_tcp(server: SocketAddr, asked: &mut [Question]) -> io::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    for asked in asked.iter_mut().filter(|asked| !asked.is_answered()) {
        asked.answer = None;
        let len = u16::try_from(asked.message().len()).map_err(io::Error::other)?;
        stream.write_all(&[&len.to_be_bytes(), asked.message()].concat()).await?;
    }
    while asked.iter().any(|asked| asked.answer.is_none()) {
        let mut message = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut message).await?;
        assign(asked, &message);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
