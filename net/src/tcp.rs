//! TCP connections that this host makes itself. Nothing is guarded here: what is dialled is of the configuration, or
//! has been checked.

mod happy_eyeballs;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::deadline::Deadline;
use crate::direct::Denied;
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, Step};
use crate::host::{Host, HostName};
use crate::{limits, lookup};

/// Connects to the first address of `to` that answers, as [`connect_to`]. A name that is not of the DNS is not looked
/// up: a proxy of that name is one that somebody forgot the `via` of.
pub(crate) async fn connect(to: &Endpoint, deadline: Deadline) -> Result<TcpStream, DriverError> {
    match to.host() {
        Host::Address(address) => {
            let address = SocketAddr::new(*address, to.port());
            deadline.bound(Step::Connect, to, open(address)).await
        }
        // On the heap: a future that looks a name up and races its addresses is large, and is moved for every connection.
        Host::Name(name) => Box::pin(connect_by_name(to, name, deadline)).await,
    }
}

async fn connect_by_name(
    to: &Endpoint,
    name: &HostName,
    deadline: Deadline,
) -> Result<TcpStream, DriverError> {
    let denied = |denied| DriverError::new(Step::Lookup, name, Cause::Denied(denied));
    Denied::check_foreign(name).map_err(denied)?;
    connect_to(to, &addresses(name, to.port(), deadline).await?, deadline).await
}

/// Connects to the one of `addresses` that answers first, in a race as in RFC 8305. They are those of `to`.
pub(crate) async fn connect_to(
    to: &Endpoint,
    addresses: &[SocketAddr],
    deadline: Deadline,
) -> Result<TcpStream, DriverError> {
    match addresses {
        [] => {
            let error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            Err(DriverError::new(Step::Lookup, to, Cause::Io(error)))
        }
        &[address] => deadline.bound(Step::Connect, to, open(address)).await,
        _ => {
            let race = async { happy_eyeballs::race(addresses, attempt).await.map_err(all_failed) };
            deadline.bound(Step::Connect, to, race).await
        }
    }
}

/// Returns the addresses of `name`, with `port`, as this host sees them: see [`lookup`].
pub(crate) async fn addresses(
    name: &HostName,
    port: u16,
    deadline: Deadline,
) -> Result<Vec<SocketAddr>, DriverError> {
    let found = deadline.timeout(lookup::addresses(name)).await.and_then(|found| found);
    let found = found.map_err(|cause| DriverError::new(Step::Lookup, name, cause))?;
    Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// An attempt to connect to `address`, unless there is no room for one beside others.
fn attempt(address: SocketAddr, is_beside: bool) -> Option<impl Future<Output = io::Result<TcpStream>>> {
    let permit = if is_beside { limits::attempt_permit().ok()? } else { None };
    Some(async move {
        let opened = open(address).await;
        drop(permit);
        opened
    })
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Who writes a small piece wants it sent; who does not, buffers.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One error for all. Its kind is that of the first address that could be reached at all, if there is one.
fn all_failed(failed: Vec<(SocketAddr, io::Error)>) -> io::Error {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};

    let kinds = || failed.iter().map(|(_, error)| error.kind());
    let is_reached = |kind: &_| ![AddrNotAvailable, HostUnreachable, NetworkUnreachable].contains(kind);
    let kind = kinds().find(is_reached).or_else(|| kinds().next()).unwrap_or(io::ErrorKind::Other);
    io::Error::new(kind, AllFailed(failed))
}

/// The error of each address.
#[derive(Debug)]
struct AllFailed(Vec<(SocketAddr, io::Error)>);

impl fmt::Display for AllFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none of {} addresses could be connected to", self.0.len())?;
        for (index, (address, error)) in self.0.iter().enumerate() {
            write!(f, "{} {address}: {error}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl std::error::Error for AllFailed {}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kinds: &[(&str, io::ErrorKind)]) -> io::Error {
        all_failed(kinds.iter().map(|&(address, kind)| (address.parse().unwrap(), kind.into())).collect())
    }

    #[test]
    fn the_error_of_every_address_is_shown_and_the_most_telling_kind_is_taken() {
        use io::ErrorKind::{ConnectionRefused, NetworkUnreachable};

        let error =
            failed(&[("[2001:db8::1]:443", NetworkUnreachable), ("192.0.2.1:443", ConnectionRefused)]);
        assert_eq!(error.kind(), ConnectionRefused);
        assert_eq!(
            error.to_string(),
            "none of 2 addresses could be connected to: [2001:db8::1]:443: network unreachable; \
             192.0.2.1:443: connection refused"
        );
        assert_eq!(failed(&[("[2001:db8::1]:443", NetworkUnreachable)]).kind(), NetworkUnreachable);
    }
}
