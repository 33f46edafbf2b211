//! The kernel's TCP and UDP inside the tunnel, in a namespace of its own.
//!
//! A [helper process](helper) owns a user and a network namespace whose one device is a TUN device. The namespace has no
//! other way out, so a socket in it cannot leave but through the tunnel, whatever happens to this process, to the helper,
//! or to the routes of this host. The helper makes sockets there on request and passes them over a socket pair, with the
//! device before them. What is read from the device goes into the tunnel, and what comes out is written to it.
//!
//! If the helper ends, its namespace ends with all of its sockets. A new one is started when a socket is asked for. A helper
//! that does not answer is ended. The kernel ends it with this process, however that ends.

pub(super) mod helper;
mod namespace;
mod offload;
mod sockets;
mod sys;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};
use tokio::time::sleep;

use self::namespace::{Closing, Counted, Namespace, NewSocket, SocketReply, Started, ended};
use self::offload::{Joined, segment};
use crate::wireguard::packet::Packets;
use crate::wireguard::routes::Addresses;
use crate::wireguard::stack::Unusable;
use crate::wireguard::{Refusal, packet, task};

pub(super) use self::sockets::{Port, Stream, TunnelListener};

/// How many packets are read from the device before the tunnel has a turn.
const BURST: usize = 128;

/// How long what was written may take to be delivered once the tunnel has no users any more.
const LINGER: Duration = Duration::from_secs(30);

/// How often connections that are closing are looked at, and how often once the tunnel has no users any more.
const SWEEP: Duration = Duration::from_millis(500);
const LAST_SWEEP: Duration = Duration::from_millis(20);

/// How long after a helper ended early another is started: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A helper that ran for as long did not end early.
const HEALTHY: Duration = Duration::from_mins(1);

/// Why sockets were ended.
const HELPER_ENDED: &str = "the helper process that owned the tunnel's namespace has ended";
const HELPER_SILENT: &str =
    "the helper process that owned the tunnel's namespace did not answer, and was ended";
const TASK_ENDED: &str = "the task that carried the tunnel has ended";

/// The stack, as connections see it. The task ends after the last of them.
pub(super) struct Kernel {
    requests: mpsc::UnboundedSender<Wanted>,
    addresses: Arc<Addresses>,
    closing: Arc<Closing>,
    connections: Arc<Semaphore>,
    most_connections: usize,
}

/// A socket that is wanted.
struct Wanted {
    is_v6: bool,
    is_stream: bool,
    reply: SocketReply,
}

impl Kernel {
    /// Starts a helper, and waits for it.
    ///
    /// # Errors
    ///
    /// Why this stack cannot be used here.
    pub(super) fn start(
        addresses: &Arc<Addresses>,
        mtu: usize,
        most_connections: usize,
    ) -> Result<(Arc<Self>, Interface), Unusable> {
        let program = crate::wireguard::helper::program().ok_or_else(|| {
            let why = "this program does not call `frame_net::wireguard::helper::init` in its `main`";
            Unusable::Here(why.to_owned())
        })?;
        let namespace = Started::new(program, addresses, mtu)?.open()?;
        let (requests, wanted) = mpsc::unbounded_channel();
        let closing = Arc::<Closing>::default();
        let kernel = Self {
            requests,
            addresses: Arc::clone(addresses),
            closing: Arc::clone(&closing),
            connections: Arc::new(Semaphore::new(most_connections)),
            most_connections,
        };
        let interface = Interface {
            wanted,
            queue: VecDeque::new(),
            unused_since: None,
            state: HelperState::Up { namespace, since: Instant::now() },
            pause: FIRST_PAUSE,
            program,
            addresses: Arc::clone(addresses),
            mtu,
            closing,
            next_removal: Instant::now() + SWEEP,
            frame: vec![0; offload::HEADER + offload::LONGEST],
            joined: Joined::default(),
        };
        Ok((Arc::new(kernel), interface))
    }

    /// A socket that is not bound or connected yet.
    async fn socket(&self, is_v6: bool, is_stream: bool) -> io::Result<NewSocket> {
        let (reply, made) = oneshot::channel();
        let _ = self.requests.send(Wanted { is_v6, is_stream, reply });
        made.await.unwrap_or_else(|_| Err(ended(TASK_ENDED)))
    }

    /// Room for another connection.
    fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.connections).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits | TryAcquireError::Closed => {
                Refusal::TooManyConnections { most: self.most_connections }
            }
        })
    }

    /// Room for another connection, as soon as there is.
    async fn permit_later(&self) -> io::Result<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).acquire_owned().await.map_err(io::Error::other)
    }
}

/// The stack, as the task sees it.
pub(super) struct Interface {
    wanted: mpsc::UnboundedReceiver<Wanted>,
    /// What the helper has not been asked for yet.
    queue: VecDeque<Wanted>,
    /// When the last user was dropped.
    unused_since: Option<Instant>,
    state: HelperState,
    /// How long to wait before the next helper is started if this one ends early.
    pause: Duration,
    program: &'static Path,
    addresses: Arc<Addresses>,
    mtu: usize,
    closing: Arc<Closing>,
    next_removal: Instant,
    frame: Vec<u8>,
    joined: Joined,
}

enum HelperState {
    Up {
        namespace: Namespace,
        since: Instant,
    },
    /// A helper is being started.
    Starting(oneshot::Receiver<Result<Started, Unusable>>),
    /// No helper is started before that time.
    Down {
        until: Instant,
        why: String,
    },
}

/// What the task is to do next.
enum Event {
    Exchange,
    Wanted(Option<Wanted>),
    Answer,
    /// The helper does not answer.
    Overdue,
    Started(Result<Started, Unusable>),
    RemoveDelivered,
}

impl Interface {
    /// Waits for the next event.
    async fn next(&mut self) -> Event {
        let is_used = self.unused_since.is_none();
        match &mut self.state {
            HelperState::Up { namespace, .. } => tokio::select! {
                biased;
                wanted = self.wanted.recv(), if is_used => Event::Wanted(wanted),
                () = namespace.helper_ready() => Event::Answer,
                () = namespace.helper_overdue() => Event::Overdue,
                _ = namespace.device().readable() => Event::Exchange,
                () = sleep(LAST_SWEEP), if !is_used => Event::RemoveDelivered,
            },
            HelperState::Starting(starting) => tokio::select! {
                biased;
                wanted = self.wanted.recv(), if is_used => Event::Wanted(wanted),
                started = starting => Event::Started(started.unwrap_or_else(|_| Err(Unusable::Now(HELPER_ENDED.to_owned())))),
            },
            HelperState::Down { .. } => Event::Wanted(self.wanted.recv().await),
        }
    }

    /// Asks the helper for what waits in the queue, or starts one.
    fn pump(&mut self) {
        if let HelperState::Down { until, why } = &self.state {
            if Instant::now() < *until {
                for Wanted { reply, .. } in self.queue.drain(..) {
                    let _ = reply.send(Err(io::Error::new(io::ErrorKind::NotConnected, why.clone())));
                }
                return;
            }
            if !self.queue.is_empty() {
                self.state = self.start();
            }
        }
        let HelperState::Up { namespace, .. } = &mut self.state else { return };
        while namespace.has_room() {
            let Some(Wanted { is_v6, is_stream, reply }) = self.queue.pop_front() else { break };
            // A caller that has given up needs none.
            if !reply.is_closed() {
                namespace.ask_for_socket(is_v6, is_stream, reply);
            }
        }
    }

    /// Starts a helper on a thread of its own, because that waits.
    fn start(&self) -> HelperState {
        let (started, starting) = oneshot::channel();
        let (program, addresses, mtu) = (self.program, Arc::clone(&self.addresses), self.mtu);
        let thread = std::thread::Builder::new().name("wireguard-helper".to_owned());
        let spawned = thread.spawn(move || {
            // If the network has ended meanwhile, this ends the helper.
            let _ = started.send(Started::new(program, &addresses, mtu));
        });
        match spawned {
            Ok(_) => HelperState::Starting(starting),
            Err(error) => HelperState::Down { until: Instant::now() + self.pause, why: error.to_string() },
        }
    }

    fn started(&mut self, started: Result<Started, Unusable>) {
        match started.and_then(Started::open) {
            Ok(namespace) => self.state = HelperState::Up { namespace, since: Instant::now() },
            Err(error) => {
                self.go_down(Duration::ZERO, format!("{HELPER_ENDED}, and cannot be started again: {error}"));
            }
        }
    }

    /// The namespace ends with its sockets.
    fn end(&mut self, why: &'static str) {
        let down = HelperState::Down { until: Instant::now(), why: String::new() };
        if let HelperState::Up { namespace, since } = std::mem::replace(&mut self.state, down) {
            namespace.end(why);
            self.go_down(since.elapsed(), why.to_owned());
        }
    }

    fn go_down(&mut self, ran: Duration, why: String) {
        if ran >= HEALTHY {
            self.pause = FIRST_PAUSE;
        }
        for Wanted { reply, .. } in self.queue.drain(..) {
            let _ = reply.send(Err(io::Error::new(io::ErrorKind::NotConnected, why.clone())));
        }
        self.state = HelperState::Down { until: Instant::now() + self.pause, why };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Writes the packets to the device, as few as they can be put together to.
    fn deliver(&mut self, inbound: &mut Packets) {
        let HelperState::Up { namespace, .. } = &self.state else { return };
        loop {
            self.joined.join(inbound);
            if self.joined.count == 0 {
                return;
            }
            // What the device does not take is lost, as it might be on its way.
            let _ = self.joined.write(inbound, namespace.device().get_ref());
            inbound.skip(self.joined.count);
        }
    }

    /// Reads packets from the device. Returns whether there may be more.
    fn collect(&mut self, outbound: &mut Packets) -> io::Result<bool> {
        let HelperState::Up { namespace, .. } = &self.state else { return Ok(false) };
        while outbound.len() < BURST {
            let frame = &mut self.frame;
            let read = namespace
                .device()
                .try_io(Interest::READABLE, |device| Ok(rustix::io::read(device, &mut *frame)?));
            match read {
                Ok(len) => {
                    let is_ours = |packet: &[u8]| is_ours(packet, &self.addresses);
                    segment(&mut self.frame[..len], self.mtu, is_ours, outbound);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Returns whether a packet is one of a connection. The kernel also says things of its own, to whom it may concern.
fn is_ours(packet: &[u8], addresses: &Addresses) -> bool {
    packet::addresses(packet).is_some_and(|(from, to)| addresses.contains(from) && packet::is_source(to))
}

impl task::Interface for Interface {
    fn exchange(&mut self, inbound: &mut Packets, outbound: &mut Packets) -> Option<Duration> {
        self.deliver(inbound);
        if Instant::now() >= self.next_removal {
            self.next_removal = Instant::now() + SWEEP;
            self.closing.remove_delivered();
        }
        let Ok(has_more) = self.collect(outbound) else {
            self.end(HELPER_ENDED);
            return None;
        };
        has_more.then_some(Duration::ZERO)
    }

    async fn ready(&mut self) {
        loop {
            self.pump();
            match self.next().await {
                Event::Exchange => return,
                Event::Wanted(Some(wanted)) => self.queue.push_back(wanted),
                Event::Wanted(None) => {
                    self.unused_since = Some(Instant::now());
                    self.count();
                    return;
                }
                Event::Answer => {
                    let HelperState::Up { namespace, .. } = &mut self.state else { continue };
                    if namespace.take_answers().is_err() {
                        self.end(HELPER_ENDED);
                    }
                    if self.unused_since.is_some() {
                        return;
                    }
                }
                Event::Overdue => {
                    self.end(HELPER_SILENT);
                    if self.unused_since.is_some() {
                        return;
                    }
                }
                Event::Started(started) => self.started(started),
                Event::RemoveDelivered => {
                    self.closing.remove_delivered();
                    self.count();
                    return;
                }
            }
        }
    }

    fn is_done(&mut self) -> bool {
        let is_delivered = match &self.state {
            HelperState::Up { namespace, .. } => namespace.connections() == Counted::Known(0),
            HelperState::Starting(_) | HelperState::Down { .. } => true,
        };
        self.unused_since.is_some_and(|since| is_delivered || since.elapsed() >= LINGER)
    }
}

impl Interface {
    fn count(&mut self) {
        if let HelperState::Up { namespace, .. } = &mut self.state {
            namespace.ask_for_count();
        }
    }
}

impl Drop for Interface {
    /// Also where the runtime ends before the tunnel's users.
    fn drop(&mut self) {
        let down = HelperState::Down { until: Instant::now(), why: String::new() };
        if let HelperState::Up { namespace, .. } = std::mem::replace(&mut self.state, down) {
            namespace.end(TASK_ENDED);
        }
    }
}
