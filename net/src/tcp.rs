//! TCP connections that this host makes itself.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};

use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, Step};
use crate::host::{Host, HostName};

/// Connects to the first address of `to` that answers: one after the other, not in a race as in RFC 8305. An
/// address that is silent leaves those after it their share of the time.
pub(crate) async fn connect(to: &Endpoint, deadline: Deadline) -> Result<TcpStream, DriverError> {
    let addresses = match to.host() {
        Host::Address(address) => vec![SocketAddr::new(*address, to.port())],
        Host::Name(name) => addresses(name, to.port(), deadline).await?,
    };
    let mut failed = None;
    for (index, address) in addresses.iter().enumerate() {
        let share = deadline.share(addresses.len() - index);
        match share.bound(Step::Connect, to, open(*address)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| {
        let error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        DriverError::new(Step::Lookup, to, Cause::Io(error))
    }))
}

/// The addresses of `name`, with `port`, as this host sees them.
pub(crate) async fn addresses(
    name: &HostName,
    port: u16,
    deadline: Deadline,
) -> Result<Vec<SocketAddr>, DriverError> {
    let found = deadline.bound(Step::Lookup, name, lookup_host((name.as_str(), port))).await?;
    Ok(found.collect())
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Who writes a small piece wants it sent; who does not, buffers.
    stream.set_nodelay(true)?;
    Ok(stream)
}
