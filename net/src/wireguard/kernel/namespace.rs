//! The namespace as this process sees it: its helper, its device, and the sockets that were made in it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, connect_unspec, shutdown, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::sleep_until;

use super::helper::{Channel, HelperReply, Process, Request, Settings};
use super::sys;
use crate::wireguard::routes::Addresses;
use crate::wireguard::stack::Unusable;

/// How long the helper may take to start.
const START: Duration = Duration::from_secs(10);

/// How long the helper may take to answer a request. It takes microseconds, unless it was stopped or is stuck.
const ANSWER: Duration = Duration::from_secs(5);

/// How many requests the helper may have at once: no more than surely fit into the channel.
const MOST_REQUESTS: usize = 64;

/// Where a socket that was asked for goes.
pub(super) type SocketReply = oneshot::Sender<io::Result<NewSocket>>;

/// A socket of the namespace that is not bound or connected yet.
pub(super) struct NewSocket {
    pub(super) socket: OwnedFd,
    pub(super) life: Arc<Life>,
}

/// A namespace whose helper has started, not in a runtime yet.
pub(super) struct Started {
    channel: Channel,
    process: Process,
    device: OwnedFd,
}

impl Started {
    /// Starts a helper, and waits until it has made the namespace.
    ///
    /// # Errors
    ///
    /// What the helper could not do, or that it took too long.
    pub(super) fn new(program: &Path, addresses: &Addresses, mtu: usize) -> Result<Self, Unusable> {
        let failed = |error: io::Error| Unusable::from_io("cannot wait for the helper", &error);
        let addresses = addresses.iter().map(|own| own.to_string()).collect();
        let mtu = u32::try_from(mtu).map_err(|error| Unusable::Here(error.to_string()))?;
        let (channel, process) = Channel::open(program, &Settings { addresses, mtu })?;
        let until = Instant::now() + START;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|error| failed(io::Error::other(error)))?;
            let mut polled = [PollFd::new(&channel, PollFlags::IN)];
            match poll(&mut polled, Some(&left)) {
                Ok(0) => {
                    let seconds = START.as_secs();
                    return Err(Unusable::Now(format!("the helper did not start within {seconds} seconds")));
                }
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(failed(error.into())),
            }
            match channel.answer() {
                Ok(Some(HelperReply::Descriptor(device))) => return Ok(Self { channel, process, device }),
                Ok(Some(HelperReply::Unusable(why))) => return Err(why),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(Some(HelperReply::Failed(error))) | Err(error) => return Err(failed(error)),
                Ok(Some(HelperReply::Count(_))) => return Err(failed(io::ErrorKind::InvalidData.into())),
                Ok(None) => return Err(process.ended_early(program)),
            }
        }
    }

    /// The namespace, in the runtime of this thread.
    pub(super) fn open(self) -> Result<Namespace, Unusable> {
        let Self { channel, process, device } = self;
        let failed = |error| Unusable::Now(format!("cannot wait for events of the helper: {error}"));
        Ok(Namespace {
            device: sys::register(device).map_err(failed)?,
            channel: sys::register(channel).map_err(failed)?,
            _process: process,
            waiting: VecDeque::new(),
            connections: Counted::Unknown,
            life: Arc::default(),
        })
    }
}

/// What waits for an answer of the helper.
enum Waiting {
    Socket(SocketReply),
    Count,
}

/// The number of TCP sockets in the namespace, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Unknown,
    Asked,
    Known(u32),
}

/// A namespace with its helper. Dropping it ends both, and every socket in it.
pub(super) struct Namespace {
    device: AsyncFd<OwnedFd>,
    channel: AsyncFd<Channel>,
    _process: Process,
    /// What was asked for and when, in order.
    waiting: VecDeque<(Waiting, Instant)>,
    connections: Counted,
    life: Arc<Life>,
}

impl Namespace {
    pub(super) const fn device(&self) -> &AsyncFd<OwnedFd> {
        &self.device
    }

    /// Returns whether another request may be made now.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MOST_REQUESTS
    }

    pub(super) const fn connections(&self) -> Counted {
        self.connections
    }

    /// Asks for a socket. If that fails the helper has ended, and its channel is closed.
    pub(super) fn ask_for_socket(&mut self, is_v6: bool, is_stream: bool, reply: SocketReply) {
        match self.channel.get_ref().ask(Request::Socket { is_v6, is_stream }) {
            Ok(()) => self.waiting.push_back((Waiting::Socket(reply), Instant::now())),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Asks for the number of TCP sockets.
    pub(super) fn ask_for_count(&mut self) {
        if self.connections != Counted::Asked && self.channel.get_ref().ask(Request::Count).is_ok() {
            self.connections = Counted::Asked;
            self.waiting.push_back((Waiting::Count, Instant::now()));
        }
    }

    /// Waits until the helper may have answered.
    pub(super) async fn helper_ready(&self) {
        let _ = self.channel.readable().await;
    }

    /// Waits until the helper has left a request without an answer for too long.
    pub(super) async fn helper_overdue(&self) {
        match self.waiting.front() {
            Some((_, asked)) => sleep_until((*asked + ANSWER).into()).await,
            None => std::future::pending().await,
        }
    }

    /// Passes on what the helper has answered.
    ///
    /// # Errors
    ///
    /// The helper has ended, or its answer is not valid.
    pub(super) fn take_answers(&mut self) -> io::Result<()> {
        loop {
            let answer = match self.channel.try_io(Interest::READABLE, Channel::answer) {
                Ok(answer) => answer.ok_or(io::ErrorKind::UnexpectedEof)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match (self.waiting.pop_front().map(|(waiting, _)| waiting), answer) {
                (Some(Waiting::Socket(reply)), HelperReply::Descriptor(socket)) => {
                    let life = Arc::clone(&self.life);
                    // If the caller has given up, the socket is closed.
                    drop(reply.send(Ok(NewSocket { socket, life })));
                }
                (Some(Waiting::Socket(reply)), HelperReply::Failed(error)) => drop(reply.send(Err(error))),
                (Some(Waiting::Count), HelperReply::Count(count)) => self.connections = Counted::Known(count),
                (Some(Waiting::Count), HelperReply::Failed(_)) => self.connections = Counted::Unknown,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Ends the namespace and all of its sockets, which fail with `why` from now on.
    pub(super) fn end(self, why: &'static str) {
        self.life.end(why);
        for (waiting, _) in self.waiting {
            if let Waiting::Socket(reply) = waiting {
                drop(reply.send(Err(ended(why))));
            }
        }
    }
}

/// The sockets of a namespace, to be ended with it.
#[derive(Default)]
pub(super) struct Life(Mutex<Sockets>);

#[derive(Default)]
struct Sockets {
    open: HashMap<u64, Weak<dyn AsFd + Send + Sync>>,
    next: u64,
    ended: Option<&'static str>,
}

impl Life {
    /// Adds a socket.
    ///
    /// # Errors
    ///
    /// The namespace has ended.
    pub(super) fn join<S: AsFd + Send + Sync + 'static>(
        self: &Arc<Self>,
        socket: S,
    ) -> io::Result<Member<S>> {
        let socket = Arc::new(socket);
        let mut sockets = self.sockets();
        if let Some(why) = sockets.ended {
            return Err(ended(why));
        }
        let id = sockets.next;
        sockets.next += 1;
        let weak = Arc::downgrade(&socket);
        sockets.open.insert(id, weak);
        Ok(Member { socket, id, life: Arc::clone(self) })
    }

    /// Ends all sockets, and says why to those who use them.
    fn end(&self, why: &'static str) {
        let open = {
            let mut sockets = self.sockets();
            sockets.ended = Some(why);
            std::mem::take(&mut sockets.open)
        };
        for socket in open.into_values().filter_map(|socket| socket.upgrade()) {
            // A connection is reset and a listener closed by the first. A port for datagrams is woken by the second.
            let _ = connect_unspec(&*socket);
            let _ = shutdown(&*socket, Shutdown::Both);
        }
    }

    /// Why the sockets were ended, if they were.
    pub(super) fn ended(&self) -> Option<io::Error> {
        self.sockets().ended.map(ended)
    }

    /// The error of an operation on a socket: that of the namespace if it has ended.
    pub(super) fn explain(&self, error: io::Error) -> io::Error {
        self.ended().unwrap_or(error)
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, Sockets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that is ended with its namespace.
pub(super) struct Member<S> {
    socket: Arc<S>,
    id: u64,
    life: Arc<Life>,
}

impl<S> Member<S> {
    pub(super) const fn life(&self) -> &Arc<Life> {
        &self.life
    }
}

impl<S> std::ops::Deref for Member<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.socket
    }
}

impl<S> Drop for Member<S> {
    fn drop(&mut self) {
        self.life.sockets().open.remove(&self.id);
    }
}

pub(super) fn ended(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, why)
}

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
    pub(super) fn remove_delivered(&self) {
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
