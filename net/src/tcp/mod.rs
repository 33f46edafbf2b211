//! TCP connections that this host makes itself. Nothing is guarded here: what is dialled is of the configuration, or
//! has been checked.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use std::{fmt, io};

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::deadline::Deadline;
use crate::direct::Denied;
use crate::endpoint::{Endpoint, Host, HostName};
use crate::error::{Cause, DriverError, DriverStep};
use crate::{limits, lookup};

/// Connects to the first address of `to` that answers, as [`connect_to`]. A name that is not of the DNS is not looked
/// up: a proxy of that name is one that somebody forgot the `via` of.
pub(crate) async fn connect(to: &Endpoint, deadline: Deadline) -> Result<TcpStream, DriverError> {
    match to.host() {
        Host::Address(address) => {
            let address = SocketAddr::new(*address, to.port());
            deadline.bound(DriverStep::Connect, to, open(address)).await
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
    let denied = |denied| DriverError::new(DriverStep::Lookup, name, Cause::Denied(denied));
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
            Err(DriverError::new(DriverStep::Lookup, to, Cause::Io(error)))
        }
        &[address] => deadline.bound(DriverStep::Connect, to, open(address)).await,
        _ => {
            let race = async { race(addresses, attempt).await.map_err(all_failed) };
            deadline.bound(DriverStep::Connect, to, race).await
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
    let found = found.map_err(|cause| DriverError::new(DriverStep::Lookup, name, cause))?;
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

/// How long an attempt is alone before the next one starts beside it: the value that RFC 8305, 8 recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What the first attempt to succeed opens; the others are dropped. If none does, the error of each address, in the
/// order in which they failed.
///
/// IPv6 and IPv4 take turns, IPv6 first, so that a family that is broken costs one delay. An attempt starts when the
/// one before it has failed, or has been going on for [`ATTEMPT_DELAY`]. `open` is told whether there are others beside it
/// and may refuse it then: it is tried again after the same time.
async fn race<T, E, F>(
    addresses: &[SocketAddr],
    mut open: impl FnMut(SocketAddr, bool) -> Option<F>,
) -> Result<T, Vec<(SocketAddr, E)>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = interleave(addresses).peekable();
    let mut failed = Vec::new();
    // In the order in which they started.
    let mut running: Vec<(SocketAddr, Pin<Box<F>>)> = Vec::new();
    let mut delay = pin!(sleep(ATTEMPT_DELAY));
    poll_fn(|context| {
        loop {
            let mut may_start = running.is_empty();
            let mut index = 0;
            while let Some((address, attempt)) = running.get_mut(index) {
                match attempt.as_mut().poll(context) {
                    Poll::Ready(Ok(opened)) => return Poll::Ready(Ok(opened)),
                    Poll::Ready(Err(error)) => {
                        failed.push((*address, error));
                        running.remove(index);
                        may_start |= index == running.len();
                    }
                    Poll::Pending => index += 1,
                }
            }
            if !may_start && delay.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            match waiting.peek() {
                Some(&address) => {
                    if let Some(attempt) = open(address, !running.is_empty()) {
                        running.push((address, Box::pin(attempt)));
                        waiting.next();
                    }
                    delay.as_mut().reset(Instant::now() + ATTEMPT_DELAY);
                }
                None if running.is_empty() => return Poll::Ready(Err(std::mem::take(&mut failed))),
                None => return Poll::Pending,
            }
        }
    })
    .await
}

/// IPv6 and IPv4 in turns, as long as there are both, and the rest behind. Within a family the order stays: the
/// operating system has sorted them (RFC 6724).
fn interleave(addresses: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> + '_ {
    let mut v6 = addresses.iter().copied().filter(SocketAddr::is_ipv6);
    let mut v4 = addresses.iter().copied().filter(SocketAddr::is_ipv4);
    let mut is_v6_next = true;
    std::iter::from_fn(move || {
        let next = if is_v6_next { v6.next().or_else(|| v4.next()) } else { v4.next().or_else(|| v6.next()) };
        is_v6_next = !is_v6_next;
        next
    })
}

#[cfg(test)]
mod tests;
