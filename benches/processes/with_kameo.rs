//! The same with kameo, whose mailboxes have as much room as ours.

use std::sync::Arc;

use kameo::Actor;
use kameo::actor::{ActorRef, Spawn as _};
use kameo::error::Infallible;
use kameo::mailbox::bounded;
use kameo::message::{Context, Message};
use tokio::sync::Semaphore;

use crate::MAILBOX;

/// Ends as soon as it is started, because nobody refers to it.
struct Nothing;

/// Waits for messages.
pub(crate) struct Waiting;

struct Player {
    partner: Option<ActorRef<Player>>,
    done: Arc<Semaphore>,
}

struct Partner(ActorRef<Player>);

/// Sends as many numbers as it is told, down to zero.
struct Sender(ActorRef<Receiver>);

struct Receiver(Arc<Semaphore>);

/// Actors that are what they are started with.
macro_rules! actors {
    ($($actor:ident)*) => {$(
        impl Actor for $actor {
            type Args = Self;
            type Error = Infallible;

            async fn on_start(itself: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
                Ok(itself)
            }
        }
    )*};
}

/// Asks the other as often as it is told.
struct Asking(ActorRef<Adding>, Arc<Semaphore>);

/// Adds one.
struct Adding;

actors! { Nothing Waiting Player Sender Receiver Asking Adding }

impl Message<u64> for Adding {
    type Reply = u64;

    async fn handle(&mut self, number: u64, _: &mut Context<Self, u64>) -> u64 {
        number + 1
    }
}

impl Message<u64> for Asking {
    type Reply = ();

    async fn handle(&mut self, count: u64, _: &mut Context<Self, ()>) {
        for left in (0..count).rev() {
            assert_eq!(self.0.ask(left).await.expect("it lives"), left + 1);
        }
        self.1.add_permits(1);
    }
}

impl Message<Partner> for Player {
    type Reply = ();

    async fn handle(&mut self, partner: Partner, _: &mut Context<Self, ()>) {
        self.partner = Some(partner.0);
    }
}

impl Message<u64> for Player {
    type Reply = ();

    async fn handle(&mut self, left: u64, _: &mut Context<Self, ()>) {
        match &self.partner {
            Some(partner) if left > 0 => partner.tell(left - 1).await.expect("it lives"),
            _ => self.done.add_permits(1),
        }
    }
}

impl Message<u64> for Sender {
    type Reply = ();

    async fn handle(&mut self, count: u64, _: &mut Context<Self, ()>) {
        for left in (0..count).rev() {
            self.0.tell(left).await.expect("it lives");
        }
    }
}

impl Message<u64> for Receiver {
    type Reply = ();

    async fn handle(&mut self, left: u64, _: &mut Context<Self, ()>) {
        if left == 0 {
            self.0.add_permits(1);
        }
    }
}

pub(crate) async fn exec(count: u32) {
    for _ in 0..count {
        let exit = Nothing::prepare_with_mailbox(bounded(MAILBOX)).spawn(Nothing);
        assert!(exit.await.is_ok_and(|exit| exit.is_ok()));
    }
}

pub(crate) async fn exec_all(count: u32) {
    let exits: Vec<_> =
        (0..count).map(|_| Nothing::prepare_with_mailbox(bounded(MAILBOX)).spawn(Nothing)).collect();
    for exit in exits {
        assert!(exit.await.is_ok_and(|exit| exit.is_ok()));
    }
}

pub(crate) struct Players(ActorRef<Player>, Arc<Semaphore>);

impl Players {
    pub(crate) async fn new() -> Self {
        let done = Arc::new(Semaphore::new(0));
        let spawn = |partner| {
            Player::spawn_with_mailbox(Player { partner, done: Arc::clone(&done) }, bounded(MAILBOX))
        };
        let first = spawn(None);
        let second = spawn(Some(first.clone()));
        first.tell(Partner(second.clone())).await.expect("it lives");
        Self(second, done)
    }

    pub(crate) async fn play(&self, round_trips: u32) {
        self.0.tell(u64::from(round_trips) * 2).await.expect("it lives");
        self.1.acquire().await.expect("it is open").forget();
    }
}

pub(crate) struct Caller(ActorRef<Asking>, Arc<Semaphore>);

impl Caller {
    pub(crate) fn new() -> Self {
        let done = Arc::new(Semaphore::new(0));
        let adding = Adding::spawn_with_mailbox(Adding, bounded(MAILBOX));
        Self(Asking::spawn_with_mailbox(Asking(adding, Arc::clone(&done)), bounded(MAILBOX)), done)
    }

    pub(crate) async fn call(&self, count: u32) {
        self.0.tell(u64::from(count)).await.expect("it lives");
        self.1.acquire().await.expect("it is open").forget();
    }
}

pub(crate) struct Senders(Vec<ActorRef<Sender>>, Arc<Semaphore>);

impl Senders {
    pub(crate) fn new(count: u32) -> Self {
        let done = Arc::new(Semaphore::new(0));
        let receiver = Receiver::spawn_with_mailbox(Receiver(Arc::clone(&done)), bounded(MAILBOX));
        let spawn = |_| Sender::spawn_with_mailbox(Sender(receiver.clone()), bounded(MAILBOX));
        Self((0..count).map(spawn).collect(), done)
    }

    pub(crate) async fn stream(&self, each: u32) {
        for sender in &self.0 {
            sender.tell(u64::from(each)).await.expect("it lives");
        }
        for _ in &self.0 {
            self.1.acquire().await.expect("it is open").forget();
        }
    }
}

pub(crate) async fn idle(count: usize) -> Vec<ActorRef<Waiting>> {
    let actors: Vec<_> = (0..count).map(|_| Waiting::spawn_with_mailbox(Waiting, bounded(MAILBOX))).collect();
    for actor in &actors {
        actor.wait_for_startup().await;
    }
    tokio::task::yield_now().await;
    actors
}

pub(crate) async fn end(actors: Vec<ActorRef<Waiting>>) {
    for actor in actors {
        actor.kill();
        actor.wait_for_shutdown().await;
    }
}
