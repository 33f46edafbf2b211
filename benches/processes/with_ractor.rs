//! The same with ractor, whose mailboxes are unbounded.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::Semaphore;

/// Ends as soon as it is started, which only a message can tell it.
struct Nothing;

impl Actor for Nothing {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        myself.stop(None);
        Ok(())
    }
}

/// Waits for messages.
struct Waiting;

impl Actor for Waiting {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

enum Ball {
    Partner(ActorRef<Ball>),
    Left(u64),
}

struct Player(Arc<Semaphore>);

impl Actor for Player {
    type Msg = Ball;
    type State = Option<ActorRef<Ball>>;
    type Arguments = Option<ActorRef<Ball>>;

    async fn pre_start(
        &self,
        _: ActorRef<Ball>,
        partner: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(partner)
    }

    async fn handle(
        &self,
        _: ActorRef<Ball>,
        ball: Ball,
        partner: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match (ball, partner) {
            (Ball::Partner(player), partner) => *partner = Some(player),
            (Ball::Left(left @ 1..), Some(partner)) => partner.send_message(Ball::Left(left - 1))?,
            _ => self.0.add_permits(1),
        }
        Ok(())
    }
}

/// Sends as many numbers as it is told, down to zero.
struct Sender(ActorRef<u64>);

impl Actor for Sender {
    type Msg = u64;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<u64>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<u64>, count: u64, (): &mut ()) -> Result<(), ActorProcessingErr> {
        for left in (0..count).rev() {
            self.0.send_message(left)?;
        }
        Ok(())
    }
}

struct Receiver(Arc<Semaphore>);

impl Actor for Receiver {
    type Msg = u64;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<u64>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<u64>, left: u64, (): &mut ()) -> Result<(), ActorProcessingErr> {
        if left == 0 {
            self.0.add_permits(1);
        }
        Ok(())
    }
}

pub(crate) async fn exec(count: u32) {
    for _ in 0..count {
        let (_, exit) = Actor::spawn(None, Nothing, ()).await.expect("it starts");
        exit.await.expect("it does nothing");
    }
}

pub(crate) async fn exec_all(count: u32) {
    let mut exits = Vec::new();
    for _ in 0..count {
        exits.push(Actor::spawn(None, Nothing, ()).await.expect("it starts").1);
    }
    for exit in exits {
        exit.await.expect("it does nothing");
    }
}

pub(crate) struct Players(ActorRef<Ball>, Arc<Semaphore>);

impl Players {
    pub(crate) async fn new() -> Self {
        let done = Arc::new(Semaphore::new(0));
        let first = Actor::spawn(None, Player(Arc::clone(&done)), None).await.expect("it starts").0;
        let partner = Some(first.clone());
        let second = Actor::spawn(None, Player(Arc::clone(&done)), partner).await.expect("it starts").0;
        first.send_message(Ball::Partner(second.clone())).expect("it lives");
        Self(second, done)
    }

    pub(crate) async fn play(&self, round_trips: u32) {
        self.0.send_message(Ball::Left(u64::from(round_trips) * 2)).expect("it lives");
        self.1.acquire().await.expect("it is open").forget();
    }
}

enum Ask {
    Times(u64),
    Number(u64, RpcReplyPort<u64>),
}

/// Calls the other as often as it is told, or is the other, which adds one.
struct Asks(Option<ActorRef<Ask>>, Arc<Semaphore>);

impl Actor for Asks {
    type Msg = Ask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Ask>, ask: Ask, (): &mut ()) -> Result<(), ActorProcessingErr> {
        match ask {
            Ask::Number(number, reply) => reply.send(number + 1)?,
            Ask::Times(count) => {
                let other = self.0.as_ref().expect("it has another to call");
                for left in (0..count).rev() {
                    let reply = other.call(|reply| Ask::Number(left, reply), None).await?;
                    assert_eq!(reply.expect("it replies"), left + 1);
                }
                self.1.add_permits(1);
            }
        }
        Ok(())
    }
}

pub(crate) struct Caller(ActorRef<Ask>, Arc<Semaphore>);

impl Caller {
    pub(crate) async fn new() -> Self {
        let done = Arc::new(Semaphore::new(0));
        let other = Actor::spawn(None, Asks(None, Arc::clone(&done)), ()).await.expect("it starts").0;
        let asks = Asks(Some(other), Arc::clone(&done));
        Self(Actor::spawn(None, asks, ()).await.expect("it starts").0, done)
    }

    pub(crate) async fn call(&self, count: u32) {
        self.0.send_message(Ask::Times(u64::from(count))).expect("it lives");
        self.1.acquire().await.expect("it is open").forget();
    }
}

pub(crate) struct Senders(Vec<ActorRef<u64>>, Arc<Semaphore>);

impl Senders {
    pub(crate) async fn new(count: u32) -> Self {
        let done = Arc::new(Semaphore::new(0));
        let receiver = Actor::spawn(None, Receiver(Arc::clone(&done)), ()).await.expect("it starts").0;
        let mut senders = Vec::new();
        for _ in 0..count {
            senders.push(Actor::spawn(None, Sender(receiver.clone()), ()).await.expect("it starts").0);
        }
        Self(senders, done)
    }

    pub(crate) async fn stream(&self, each: u32) {
        for sender in &self.0 {
            sender.send_message(u64::from(each)).expect("it lives");
        }
        for _ in &self.0 {
            self.1.acquire().await.expect("it is open").forget();
        }
    }
}

pub(crate) async fn idle(count: usize) -> Vec<ActorRef<()>> {
    let mut actors = Vec::with_capacity(count);
    for _ in 0..count {
        actors.push(Actor::spawn(None, Waiting, ()).await.expect("it starts").0);
    }
    tokio::task::yield_now().await;
    actors
}

pub(crate) async fn end(actors: Vec<ActorRef<()>>) {
    for actor in actors {
        actor.stop_and_wait(None, None).await.expect("it lives");
    }
}
