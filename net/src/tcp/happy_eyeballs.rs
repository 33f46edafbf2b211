//! Several addresses of one host, raced (RFC 8305).

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long an attempt is alone before the next one starts beside it: the value that RFC 8305, 8 recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What the first attempt to succeed opens; the others are dropped. If none does, the error of each address, in the
/// order in which they failed.
///
/// IPv6 and IPv4 take turns, IPv6 first, so that a family that is broken costs one delay. An attempt starts when the
/// one before it has failed, or has been going on for [`ATTEMPT_DELAY`]. `open` is told whether there are others beside it
/// and may refuse it then: it is tried again after the same time.
pub(super) async fn race<T, E, F>(
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
