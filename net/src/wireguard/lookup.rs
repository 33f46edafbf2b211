//! Looking names up inside the tunnel.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::address::LocalEndpoint;
use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, Step};
use crate::host::{Host, HostName};
use crate::wireguard::dns::{Answer, Query};
use crate::wireguard::inside::Inside;
use crate::wireguard::{KIND, Refusal};

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
    pub(super) fn first_reachable(&self, addresses: &[SocketAddr]) -> Result<SocketAddr, Cause> {
        Ok(self.reachable(addresses)?[0])
    }

    /// The addresses of `name`: those of IPv6 first, as hosts have it that have both.
    pub(super) async fn lookup(
        &self,
        name: &HostName,
        deadline: Deadline,
    ) -> Result<Vec<IpAddr>, DriverError> {
        let failed = |cause| DriverError::new(Step::Lookup, name, cause);
        if self.servers.is_empty() {
            let what = "looking names up without `dns` in its settings";
            return Err(failed(Cause::NotSupported { kind: KIND, what }));
        }
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
        let (v6, v4) = tokio::join!(self.ask_for(server, name, true), self.ask_for(server, name, false));
        match (v6, v4) {
            (Ok(mut v6), Ok(v4)) => {
                v6.extend(v4);
                Ok(v6)
            }
            (Ok(addresses), Err(_)) | (Err(_), Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            (Err(cause), _) | (_, Err(cause)) => Err(cause),
        }
    }

    async fn ask_for(&self, server: IpAddr, name: &HostName, is_v6: bool) -> Result<Vec<IpAddr>, Cause> {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(std::io::Error::from)?;
        // A name that cannot be asked for has no address.
        let query = Query::new(u16::from_le_bytes(id), name, is_v6).ok_or(Refusal::NoAddress)?;
        let server_address = SocketAddr::new(server, PORT);
        let mut answer = self.ask_by_datagram(&query, server_address).await?;
        if answer == Answer::Truncated {
            answer = self.ask_by_stream(&query, server_address).await?;
        }
        match answer {
            Answer::Addresses(addresses) => Ok(addresses),
            Answer::Failed(code) => Err(Refusal::NameServer { server, code }.into()),
            Answer::Truncated => Err(Cause::Closed),
        }
    }

    /// Asks until there is an answer, from a port that is not to be guessed.
    async fn ask_by_datagram(&self, query: &Query, server: SocketAddr) -> Result<Answer, Cause> {
        let port = self.inside.bind(&LocalEndpoint::default()).await?;
        let message = query.to_bytes();
        let mut buffer = vec![0; 4096];
        loop {
            port.send(&message, server).await?;
            let answered = async {
                loop {
                    let (len, from) = port.receive(&mut buffer).await?;
                    let answer = if from == server { query.answer(&buffer[..len]) } else { None };
                    if let Some(answer) = answer {
                        return Ok(answer);
                    }
                }
            };
            if let Ok(answered) = timeout(PATIENCE, answered).await {
                return answered;
            }
        }
    }

    async fn ask_by_stream(&self, query: &Query, server: SocketAddr) -> Result<Answer, Cause> {
        let mut stream = self.inside.connect(server).await?;
        let message = query.to_bytes();
        // No question is as long as an answer can be.
        let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
        stream.write_all(&[&len.to_be_bytes()[..], &message].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        query.answer(&answer).ok_or(Cause::Closed)
    }
}
