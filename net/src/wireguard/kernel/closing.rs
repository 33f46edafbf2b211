//! Connections that have no user any more, and that deliver what was written.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown, sockopt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::namespace::Member;
use super::sys;

/// How long a connection without a user may take to deliver what was written.
const LINGER: Duration = Duration::from_secs(30);

/// How many such connections a network keeps, and how many bytes that were not delivered. Beyond that the oldest is reset.
const MOST: usize = 256;
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The connections of a network that have no user any more and hold what the far end has not acknowledged. The kernel
/// would keep each of them for minutes, with the memory of its host.
#[derive(Default)]
pub(super) struct Closing(Mutex<VecDeque<Closed>>);

struct Closed {
    socket: Member<TcpStream>,
    unacknowledged: usize,
    since: Instant,
}

impl Closing {
    /// Closes a connection once what was written has been delivered.
    pub(super) fn close(&self, socket: Member<TcpStream>, permit: OwnedSemaphorePermit) {
        drop(permit);
        let unacknowledged = sys::unacknowledged(&*socket).unwrap_or(0);
        if unacknowledged == 0 || socket.life().ended().is_some() {
            return;
        }
        // An end that is told already is not told again.
        let _ = shutdown(&*socket, Shutdown::Write);
        let mut closing = self.lock();
        closing.push_back(Closed { socket, unacknowledged, since: Instant::now() });
        let mut bytes: usize = closing.iter().map(|closed| closed.unacknowledged).sum();
        while closing.len() > MOST || bytes > MOST_BYTES {
            let Some(oldest) = closing.pop_front() else { break };
            bytes -= oldest.unacknowledged;
            reset(&oldest);
        }
    }

    /// Lets go of those that have delivered all, and resets those that have had enough time.
    pub(super) fn sweep(&self) {
        self.lock().retain_mut(|closed| {
            closed.unacknowledged = sys::unacknowledged(&*closed.socket).unwrap_or(0);
            if closed.unacknowledged > 0 && closed.since.elapsed() >= LINGER {
                reset(closed);
                closed.unacknowledged = 0;
            }
            closed.unacknowledged > 0
        });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Closed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the kernel reset the connection when it is closed, which is next.
fn reset(closed: &Closed) {
    let _ = sockopt::set_socket_linger(&*closed.socket, Some(Duration::ZERO));
}
