//! Names looked up inside the tunnel, and datagrams to them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::deadline::Deadline;
use crate::dns::{self, DnsAnswer, Question};
use crate::endpoint::{Endpoint, Host, HostName, LocalEndpoint, NetworkAddr};
use crate::error::{Cause, DriverError, DriverStep};
use crate::limits;
use crate::network::{BoxFuture, Datagrams};
use crate::wireguard::Refusal;
use crate::wireguard::inside::{Inside, Port};

/// Where name servers listen.
const PORT: u16 = 53;

/// How long a datagram may take to be answered before it is sent again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the name servers in the tunnel, and nobody else.
#[derive(Clone)]
pub(super) struct Resolver {
    inside: Arc<Inside>,
    servers: Arc<[IpAddr]>,
}

impl Resolver {
    /// One that asks these servers, each that follows if those before it have no answer.
    pub(super) const fn new(inside: Arc<Inside>, servers: Arc<[IpAddr]>) -> Self {
        Self { inside, servers }
    }

    /// The addresses of what is to be connected to.
    pub(super) async fn addresses(
        &self,
        to: &Endpoint,
        deadline: Deadline,
    ) -> Result<Vec<SocketAddr>, DriverError> {
        let addresses = match to.host() {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.lookup(name, deadline).await?,
        };
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, to.port())).collect())
    }

    /// The addresses that can be reached.
    ///
    /// # Errors
    ///
    /// Why the first of them cannot be, if none can.
    pub(super) fn reachable(&self, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, Refusal> {
        let mut refused = Refusal::NoAddress;
        let mut reachable = Vec::with_capacity(addresses.len());
        for address in addresses.iter().rev() {
            match self.inside.check(address.ip()) {
                Ok(()) => reachable.push(*address),
                Err(refusal) => refused = refusal,
            }
        }
        reachable.reverse();
        if reachable.is_empty() { Err(refused) } else { Ok(reachable) }
    }

    /// The first address that can be reached.
    fn first_reachable(&self, addresses: &[SocketAddr]) -> Result<SocketAddr, Cause> {
        Ok(self.reachable(addresses)?[0])
    }

    /// The addresses of `name`: those of IPv6 first, as hosts have it that have both.
    ///
    /// It counts towards the lookups of the unit that is [accounted for](limits::account), and has one socket at a time.
    pub(super) async fn lookup(
        &self,
        name: &HostName,
        deadline: Deadline,
    ) -> Result<Vec<IpAddr>, DriverError> {
        let failed = |cause| DriverError::new(DriverStep::Lookup, name, cause);
        if self.servers.is_empty() {
            return Err(failed(Refusal::NoNameServer.into()));
        }
        let _permit = limits::lookup_permit().map_err(|error| failed(error.into()))?;
        let mut last = failed(Refusal::NoAddress.into());
        for (index, server) in self.servers.iter().enumerate() {
            let share = deadline.share(self.servers.len() - index);
            match share.timeout(self.ask(*server, name)).await {
                Ok(Ok(addresses)) if addresses.is_empty() => {
                    return Err(failed(Refusal::NoAddress.into()));
                }
                Ok(Ok(addresses)) => return Ok(addresses),
                Ok(Err(cause)) | Err(cause) => last = failed(cause),
            }
        }
        Err(last)
    }

    /// Asks one server for addresses of both kinds. It is enough if it has an answer for one.
    async fn ask(&self, server: IpAddr, name: &HostName) -> Result<Vec<IpAddr>, Cause> {
        let address = SocketAddr::new(server, PORT);
        // A name that cannot be asked for has no address.
        let name = dns::absolute(&name.as_str().to_ascii_lowercase()).ok_or(Refusal::NoAddress)?;
        let mut asked = [RecordType::AAAA, RecordType::A].map(|kind| Question::new(&name, kind, false));
        self.ask_by_datagram(&mut asked, address).await?;
        let (mut found, mut failed) = (Vec::new(), None);
        for asked in asked.iter_mut().filter(|asked| asked.answer == Some(DnsAnswer::Truncated)) {
            asked.answer = None;
            if let Err(cause) = self.ask_by_stream(asked, address).await {
                failed = Some(cause);
            }
        }
        for asked in asked {
            match asked.answer {
                Some(DnsAnswer::Addresses(addresses)) => found.extend(addresses),
                Some(DnsAnswer::Refused(code)) => {
                    failed = Some(Refusal::NameServer { server, code: code.low() }.into());
                }
                Some(DnsAnswer::Truncated) | None => failed = failed.or(Some(Cause::Closed)),
            }
        }
        match failed {
            Some(cause) if found.is_empty() => Err(cause),
            _ => Ok(found),
        }
    }

    /// Asks until everything is answered, from one port that is not to be guessed.
    async fn ask_by_datagram(&self, asked: &mut [Question], server: SocketAddr) -> Result<(), Cause> {
        let port = self.inside.bind(&LocalEndpoint::default()).await?;
        let mut buffer = vec![0; 4096];
        loop {
            for asked in asked.iter().filter(|asked| asked.answer.is_none()) {
                port.send(asked.message(), server).await?;
            }
            let answered = async {
                while asked.iter().any(|asked| asked.answer.is_none()) {
                    let (len, from) = port.receive(&mut buffer).await?;
                    if from == server {
                        dns::assign(asked, &buffer[..len]);
                    }
                }
                Ok(())
            };
            if let Ok(answered) = timeout(PATIENCE, answered).await {
                return answered;
            }
        }
    }

    async fn ask_by_stream(&self, asked: &mut Question, server: SocketAddr) -> Result<(), Cause> {
        let mut stream = self.inside.connect(server).await?;
        let message = asked.message();
        // No question is as long as an answer can be.
        let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
        stream.write_all(&[&len.to_be_bytes()[..], message].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        dns::assign(std::slice::from_mut(asked), &answer);
        if asked.answer.is_none() { Err(Cause::Closed) } else { Ok(()) }
    }
}

/// A [`Port`] that looks names up inside the tunnel.
pub(super) struct TunnelDatagrams {
    pub(super) port: Port,
    pub(super) resolver: Resolver,
    pub(super) deadline: Duration,
}

impl Datagrams for TunnelDatagrams {
    fn local(&self) -> NetworkAddr {
        self.port.local().into()
    }

    fn send_to<'a>(&'a self, payload: &'a [u8], to: &'a Endpoint) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async move {
            let deadline = Deadline::after(self.deadline);
            let addresses = self.resolver.addresses(to, deadline).await?;
            let failed = |cause| DriverError::new(DriverStep::Send, to, cause);
            let address = self.resolver.first_reachable(&addresses).map_err(failed)?;
            self.port.send(payload, address).await.map_err(failed)
        })
    }

    fn receive_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, Result<(usize, NetworkAddr), DriverError>> {
        Box::pin(async move {
            let received = self.port.receive(buffer).await;
            let failed = |error| DriverError::new(DriverStep::Receive, self.port.local(), Cause::Io(error));
            received.map(|(len, from)| (len, from.into())).map_err(failed)
        })
    }
}
