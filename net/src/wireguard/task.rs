//! The task that carries the packets.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::direct::Denied;
use crate::endpoint::{Endpoint, Host};
use crate::lookup;
use crate::wireguard::outer::Outer;
use crate::wireguard::packets::Packets;
use crate::wireguard::tunnel::{Datagrams, Tunnel};

/// How often the tunnel is told the time.
const TICK: Duration = Duration::from_millis(250);

/// The stack behind a tunnel, as the task that carries its packets sees it. Dropping it ends its connections.
pub(super) trait Interface: Send + 'static {
    /// Takes the packets that came out of the tunnel, and adds those that are to go into it. Returns after how long
    /// there is more to do if nothing happens before.
    fn exchange(&mut self, inbound: &mut Packets, outbound: &mut Packets) -> Option<Duration>;

    /// Waits until there may be something to exchange, or nothing more to do.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    fn ready(&mut self) -> impl Future<Output = ()> + Send;

    /// Returns whether the tunnel has no users any more, and what they wrote has been delivered.
    fn is_done(&mut self) -> bool;
}

/// Carries packets between the stack and the tunnel, and the tunnel's datagrams to and from its peers, until the
/// stack has no users any more.
pub(super) struct Task<I> {
    interface: I,
    tunnel: Tunnel,
    outer: Outer,
    lookups: JoinSet<(usize, io::Result<Vec<SocketAddr>>)>,
    inbound: Packets,
    outbound: Packets,
    datagrams: Datagrams,
    next_tick: Instant,
}

impl<I: Interface> Task<I> {
    pub(super) fn new(interface: I, tunnel: Tunnel, outer: Outer) -> Self {
        Self {
            interface,
            tunnel,
            outer,
            lookups: JoinSet::new(),
            inbound: Packets::default(),
            outbound: Packets::default(),
            datagrams: Datagrams::default(),
            next_tick: Instant::now() + TICK,
        }
    }

    /// Does all that, and closes the socket.
    pub(super) async fn run(mut self) {
        let mut timer = pin!(sleep_until(self.next_tick));
        self.tunnel.start(&mut self.datagrams);
        loop {
            let (receives, tunnel) = (&mut self.outer, &mut self.tunnel);
            let (inbound, datagrams) = (&mut self.inbound, &mut self.datagrams);
            let has_more =
                receives.receive(|datagram, from| tunnel.receive(datagram, from, inbound, datagrams));
            let due = self.exchange();
            self.tick();
            self.look_up();
            poll_fn(|cx| self.outer.poll_send(cx, &mut self.datagrams)).await;
            if self.interface.is_done() {
                return;
            }
            if has_more || due == Some(Duration::ZERO) {
                tokio::task::yield_now().await;
            } else {
                self.wait(timer.as_mut(), due).await;
            }
        }
    }

    /// Gives the stack what came for it, sends what it has, and says when it has more.
    fn exchange(&mut self) -> Option<Duration> {
        let due = self.interface.exchange(&mut self.inbound, &mut self.outbound);
        self.inbound.clear();
        while let Some((packet, ())) = self.outbound.pop() {
            self.tunnel.send(packet, &mut self.datagrams);
        }
        self.outbound.clear();
        due
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.tunnel.tick(&mut self.datagrams);
        }
    }

    /// Has the system look up where peers are. Nothing but their endpoints is ever asked for there.
    fn look_up(&mut self) {
        for (index, endpoint) in self.tunnel.unresolved() {
            self.lookups.spawn(async move { (index, addresses(&endpoint).await) });
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, mut timer: Pin<&mut Sleep>, due: Option<Duration>) {
        let due = due.map_or(self.next_tick, |due| self.next_tick.min(Instant::now() + due));
        // Setting a timer costs system calls. One that fires too early costs them less often than this comes by.
        if due < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(due);
        }
        let mut ready = pin!(self.interface.ready());
        let (lookups, tunnel) = (&mut self.lookups, &mut self.tunnel);
        let (outer, datagrams) = (&self.outer, &mut self.datagrams);
        poll_fn(|cx: &mut Context<'_>| {
            if let Poll::Ready(Some(Ok((index, found)))) = lookups.poll_join_next(cx) {
                tunnel.resolved(index, &found.unwrap_or_default(), datagrams);
                return Poll::Ready(());
            }
            let is_awake = ready.as_mut().poll(cx).is_ready()
                || outer.poll_receive_ready(cx).is_ready()
                || timer.as_mut().poll(cx).is_ready();
            if is_awake { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

async fn addresses(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let found = match endpoint.host() {
        Host::Address(address) => vec![*address],
        Host::Name(name) => {
            Denied::check_foreign(name).map_err(io::Error::other)?;
            lookup::addresses(name).await.map_err(io::Error::other)?
        }
    };
    Ok(found.into_iter().map(|address| SocketAddr::new(address, endpoint.port())).collect())
}
