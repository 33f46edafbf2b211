//! A mailbox against a model made of lists, and single cases that a random test rarely meets.

use std::cell::RefCell;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::*;
use serde_json::json;

use super::batch::Batch;
use super::mailbox::{Fetched, Mailbox, ROOM_KEPT, Undelivered};
use super::message::Message;

/// A message of a sender, which takes room.
fn sent(number: u64) -> Message {
    Message::Sent { from: None, payload: json!(number).into(), reply: None }
}

/// A system message, which takes none.
fn system(number: u64) -> Message {
    Message::Cancelled { reason: number.to_string().into(), deadline: None }
}

fn number_of(message: &Message) -> u64 {
    match message {
        Message::Sent { payload, .. } => payload.as_json().unwrap().as_u64().unwrap(),
        Message::Cancelled { reason, .. } => reason.parse().unwrap(),
        other => unreachable!("{other:?}"),
    }
}

/// How many system messages are accepted.
const MOST_SYSTEM: usize = 3;

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future that is polled by hand, and whether it was woken since.
struct Polled<T> {
    future: Pin<Box<dyn Future<Output = T>>>,
    woken: Arc<Woken>,
}

impl<T> Polled<T> {
    fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self { future: Box::pin(future), woken: Arc::default() }
    }

    fn poll(&mut self) -> Poll<T> {
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Arc::clone(&self.woken).into();
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }
}

/// Gives the message back if it was not put into the mailbox.
type Sender = Polled<Option<Message>>;

fn send(mailbox: &Arc<Mailbox>, message: Message) -> Sender {
    let mailbox = Arc::clone(mailbox);
    Polled::new(async move {
        let mut message = Some(message);
        mailbox.send(&mut message).await;
        message
    })
}

/// A receiver of any message, or of those whose number `divisor` divides.
struct Receiver {
    divisor: Option<u64>,
    polled: Polled<Message>,
}

impl Receiver {
    fn new(mailbox: &Arc<Mailbox>, fetched: &Rc<RefCell<Fetched>>, divisor: Option<u64>) -> Self {
        let (mailbox, fetched) = (Arc::clone(mailbox), Rc::clone(fetched));
        #[expect(clippy::await_holding_refcell_ref, reason = "there is one receiver at a time")]
        let polled = Polled::new(async move {
            let fetched = &mut *fetched.borrow_mut();
            let is_wanted = |it: &Message, divisor| number_of(it).is_multiple_of(divisor);
            match divisor {
                None => mailbox.receive(fetched).await,
                Some(divisor) => mailbox.receive_where(fetched, |it| is_wanted(it, divisor)).await,
            }
        });
        Self { divisor, polled }
    }

    fn wants(&self, number: u64) -> bool {
        self.divisor.is_none_or(|divisor| number.is_multiple_of(divisor))
    }
}

#[derive(Debug, Clone)]
enum Step {
    TrySend,
    Tell,
    Send,
    /// A sender that waits, by its place.
    Poll(prop::sample::Index),
    Drop(prop::sample::Index),
    Receive,
    /// The oldest whose number this divides.
    ReceiveWhere(u64),
    /// Begins to wait, or goes on.
    Wait,
    /// The same for the oldest whose number this divides.
    WaitWhere(u64),
    WaitNoMore,
    /// What was told, of those whose number this divides.
    Discard(u64),
    /// A batch begins, unless there is one.
    Begin,
    /// The batch ends, or goes on in the next one if it owes little.
    GoOn,
    /// The batch ends.
    End,
    /// The receiver is where the batch is not open, as another task is.
    Move,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::TrySend),
        1 => Just(Step::Tell),
        4 => Just(Step::Send),
        3 => any::<prop::sample::Index>().prop_map(Step::Poll),
        2 => any::<prop::sample::Index>().prop_map(Step::Drop),
        3 => Just(Step::Receive),
        2 => (1..4_u64).prop_map(Step::ReceiveWhere),
        2 => Just(Step::Wait),
        3 => (1..4_u64).prop_map(Step::WaitWhere),
        1 => Just(Step::WaitNoMore),
        1 => (1..4_u64).prop_map(Step::Discard),
        2 => Just(Step::Begin),
        1 => Just(Step::GoOn),
        1 => Just(Step::End),
        1 => Just(Step::Move),
    ]
}

/// What a mailbox is meant to be: lists.
struct Model {
    capacity: usize,
    queue: Vec<Message>,
    /// Senders that wait, and then those for whom room is kept, by number.
    waiting: Vec<u64>,
    granted: Vec<u64>,
    /// Room that was made in the batch, if there is one, while senders waited.
    owed: usize,
    is_batch: bool,
    is_closed: bool,
}

impl Model {
    fn held(&self) -> usize {
        self.queue.iter().filter(|message| message.takes_room()).count() + self.granted.len() + self.owed
    }

    fn has_room(&self) -> bool {
        self.held() < self.capacity
    }

    fn grant(&mut self) {
        if self.is_batch && self.has_room() && !self.waiting.is_empty() {
            self.owed += 1;
        }
        while self.has_room() && !self.waiting.is_empty() {
            let first = self.waiting.remove(0);
            self.granted.push(first);
        }
    }

    /// A receiver found nothing in the queue that it wants.
    fn let_in(&mut self, wants: impl Fn(u64) -> bool) {
        if self.held() < 2 * self.capacity
            && let Some(place) = self.waiting.iter().position(|number| wants(*number))
        {
            self.owed = self.owed.saturating_sub(1);
            let number = self.waiting.remove(place);
            self.granted.push(number);
        }
    }

    /// A receiver that found nothing may block its thread, so the end of the batch is not waited for.
    fn give_owed(&mut self) {
        let owed = mem::take(&mut self.owed).min(self.waiting.len());
        self.granted.extend(self.waiting.drain(..owed));
    }

    fn take(&mut self, place: Option<usize>) -> Option<u64> {
        let message = self.queue.remove(place?);
        self.grant();
        Some(number_of(&message))
    }

    /// Looks whether the mailbox is so, and those are woken who are to be, and no others.
    fn compare(&self, mailbox: &Mailbox, senders: &[(u64, Sender)], receiver: Option<&Receiver>) {
        assert_eq!(mailbox.len(), self.queue.len());
        for (number, sender) in senders {
            let is_accepted = self.is_closed || self.granted.contains(number);
            assert_eq!(sender.is_woken(), is_accepted, "{number}");
        }
        let Some(receiver) = receiver else { return };
        if receiver.polled.is_woken() || self.is_closed {
            return;
        }
        assert!(mailbox.is_waited_at());
        let wants = |message| receiver.wants(number_of(message));
        assert!(!self.queue.iter().any(wants), "it is woken for a message");
        let mut waiting = self.waiting.iter().filter(|number| receiver.wants(**number));
        let is_let_in = self.granted.iter().any(|number| receiver.wants(*number));
        let is_crowded = receiver.divisor.is_none() || self.held() >= 2 * self.capacity;
        assert!(waiting.next().is_none() || is_let_in || is_crowded, "it is woken for a sender");
    }
}

#[expect(clippy::too_many_lines, reason = "it is one list of what can be done")]
fn check(capacity: usize, steps: Vec<Step>) {
    let mailbox = Arc::new(Mailbox::new(capacity));
    let mut model = Model {
        capacity,
        queue: vec![],
        waiting: vec![],
        granted: vec![],
        owed: 0,
        is_batch: false,
        is_closed: false,
    };
    let mut batch: Option<Batch<'_>> = None;
    let mut owes_room = false;
    let mut senders: Vec<(u64, Sender)> = vec![];
    let mut receiver: Option<Receiver> = None;
    let fetched = Rc::new(RefCell::new(Fetched::default()));
    for (number, step) in (1..).zip(steps) {
        match step {
            Step::TrySend => match mailbox.try_send(sent(number)) {
                Ok(()) => {
                    assert!(!model.is_closed && model.has_room());
                    model.queue.push(sent(number));
                }
                Err(Undelivered::Full(it)) => {
                    assert!(!model.is_closed && !model.has_room());
                    assert_eq!(number_of(&it), number);
                }
                Err(Undelivered::Closed(_)) => assert!(model.is_closed),
            },
            Step::Tell => {
                let unread = model.queue.iter().filter(|message| !message.takes_room()).count();
                let is_accepted =
                    mailbox.push_system(system(number), MOST_SYSTEM).map(|it| it.map(Waker::wake)).is_ok();
                assert_eq!(is_accepted, model.is_closed || unread < MOST_SYSTEM);
                if is_accepted && !model.is_closed {
                    model.queue.push(system(number));
                }
            }
            Step::Send => {
                let mut sender = send(&mailbox, sent(number));
                match sender.poll() {
                    Poll::Ready(None) => {
                        assert!(!model.is_closed && model.has_room());
                        model.queue.push(sent(number));
                    }
                    Poll::Ready(Some(_)) => assert!(model.is_closed),
                    Poll::Pending => {
                        assert!(!model.is_closed && !model.has_room());
                        model.waiting.push(number);
                        senders.push((number, sender));
                    }
                }
            }
            Step::Poll(index) if !senders.is_empty() => {
                let index = index.index(senders.len());
                let (number, sender) = &mut senders[index];
                let number = *number;
                match sender.poll() {
                    Poll::Ready(None) => {
                        assert!(!model.is_closed && model.granted.contains(&number));
                        model.granted.retain(|other| *other != number);
                        model.queue.push(sent(number));
                        drop(senders.remove(index));
                    }
                    Poll::Ready(Some(it)) => {
                        assert!(model.is_closed);
                        assert_eq!(number_of(&it), number);
                        drop(senders.remove(index));
                    }
                    Poll::Pending => assert!(!model.is_closed && model.waiting.contains(&number)),
                }
            }
            Step::Drop(index) if !senders.is_empty() => {
                let (number, sender) = senders.remove(index.index(senders.len()));
                drop(sender);
                model.waiting.retain(|other| *other != number);
                model.granted.retain(|other| *other != number);
                model.grant();
            }
            Step::Receive if receiver.is_none() => {
                let place = (!model.queue.is_empty()).then_some(0);
                assert_eq!(
                    mailbox.try_receive(&mut fetched.borrow_mut()).as_ref().map(number_of),
                    model.take(place)
                );
                if place.is_none() {
                    model.give_owed();
                }
            }
            Step::ReceiveWhere(divisor) if receiver.is_none() => {
                let is_wanted = |it: &Message| number_of(it).is_multiple_of(divisor);
                let place = model.queue.iter().position(is_wanted);
                let message = mailbox.try_receive_where(&mut fetched.borrow_mut(), is_wanted);
                assert_eq!(message.as_ref().map(number_of), model.take(place));
                if message.is_none() {
                    model.let_in(|number| number.is_multiple_of(divisor));
                    model.give_owed();
                }
            }
            Step::Wait | Step::WaitWhere(_) => {
                let divisor = if let Step::WaitWhere(divisor) = step { Some(divisor) } else { None };
                let waits = receiver.get_or_insert_with(|| Receiver::new(&mailbox, &fetched, divisor));
                let place = model.queue.iter().position(|message| waits.wants(number_of(message)));
                match waits.polled.poll() {
                    Poll::Ready(message) => {
                        assert!(place.is_some());
                        assert_eq!(Some(number_of(&message)), model.take(place));
                        receiver = None;
                    }
                    Poll::Pending => {
                        assert_eq!(place, None);
                        if waits.divisor.is_some() && !model.is_closed {
                            model.let_in(|number| waits.wants(number));
                        }
                        model.give_owed();
                    }
                }
            }
            Step::WaitNoMore => receiver = None,
            // A process that waits for certain messages does nothing else meanwhile.
            Step::Discard(divisor) if receiver.as_ref().is_none_or(|it| it.divisor.is_none()) => {
                let is_unwanted = |it: &Message| number_of(it).is_multiple_of(divisor);
                let before = model.queue.len();
                model.queue.retain(|it| it.takes_room() || !is_unwanted(it));
                assert_eq!(mailbox.discard(is_unwanted).len(), before - model.queue.len());
            }
            Step::Close => {
                // A process ends after its last poll.
                batch = None;
                (model.is_batch, model.owed) = (false, 0);
                model.grant();
                let left: Vec<_> = mailbox.close().iter().map(number_of).collect();
                let queue: Vec<_> = model.queue.drain(..).map(|it| number_of(&it)).collect();
                assert!(queue.ends_with(&left), "it gives what was not fetched");
                model.is_closed = true;
            }
            Step::Move if receiver.is_none() => {
                let elsewhere = Mailbox::new(1);
                let _other = Batch::begin(&elsewhere, false);
                let is_batch = mem::take(&mut model.is_batch);
                let place = (!model.queue.is_empty()).then_some(0);
                let message = mailbox.try_receive(&mut fetched.borrow_mut());
                assert_eq!(message.as_ref().map(number_of), model.take(place));
                if place.is_none() {
                    model.give_owed();
                }
                model.is_batch = is_batch;
            }
            // What has ended is polled no more.
            Step::Begin if model.is_closed => (),
            Step::Begin => {
                batch.get_or_insert_with(|| Batch::begin(&mailbox, owes_room));
                model.is_batch = true;
            }
            Step::GoOn if batch.is_some() => {
                owes_room = batch.take().is_some_and(Batch::go_on);
                assert_eq!(owes_room, model.owed > 0 && model.owed < capacity / 2);
                model.is_batch = false;
                if !owes_room {
                    model.owed = 0;
                    model.grant();
                }
            }
            // A process whose batch goes on is polled again.
            Step::End => {
                batch = batch.or_else(|| owes_room.then(|| Batch::begin(&mailbox, true)));
                drop(batch.take());
                owes_room = false;
                (model.is_batch, model.owed) = (false, 0);
                model.grant();
            }
            _ => (),
        }
        model.compare(&mailbox, &senders, receiver.as_ref());
    }
}

proptest! {
    #[test]
    fn it_does_what_lists_would(
        capacity in 1..9_usize,
        mut steps in prop::collection::vec(step(), 1..200),
        behind in prop::option::of(prop::collection::vec(step(), 0..20)),
    ) {
        if let Some(behind) = behind {
            steps.push(Step::Close);
            steps.extend(behind);
        }
        check(capacity, steps);
    }
}

#[test]
fn who_comes_later_does_not_take_the_room_of_who_waits() {
    let mailbox = Arc::new(Mailbox::new(1));
    mailbox.try_send(sent(0)).unwrap();
    let (mut first, mut second) = (send(&mailbox, sent(1)), send(&mailbox, sent(2)));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    assert_eq!(mailbox.try_receive(&mut Fetched::default()).as_ref().map(number_of), Some(0));
    assert!(first.is_woken() && !second.is_woken());
    let mut later = send(&mailbox, sent(3));
    assert!(later.poll().is_pending() && matches!(mailbox.try_send(sent(4)), Err(Undelivered::Full(_))));
    drop(first);
    assert!(second.is_woken(), "what was kept for the first is that of the second");
    assert!(matches!(second.poll(), Poll::Ready(None)));
    assert_eq!(mailbox.try_receive(&mut Fetched::default()).as_ref().map(number_of), Some(2));
    assert!(matches!(later.poll(), Poll::Ready(None)));
}

#[test]
fn a_receiver_finds_what_it_wants_although_others_have_filled_the_mailbox() {
    let mailbox = Arc::new(Mailbox::new(1));
    mailbox.try_send(sent(1)).unwrap();
    let mut receiver = Receiver::new(&mailbox, &Rc::default(), Some(2));
    assert!(receiver.polled.poll().is_pending());
    let (mut other, mut wanted) = (send(&mailbox, sent(3)), send(&mailbox, sent(4)));
    assert!(other.poll().is_pending() && wanted.poll().is_pending());
    assert!(receiver.polled.is_woken() && receiver.polled.poll().is_pending());
    assert!(wanted.is_woken() && !other.is_woken());

    // One that gives up after it was let in makes place for the next.
    drop(wanted);
    let mut wanted = send(&mailbox, sent(6));
    assert!(wanted.poll().is_pending());
    assert!(receiver.polled.is_woken() && receiver.polled.poll().is_pending());
    assert!(matches!(wanted.poll(), Poll::Ready(None)));
    assert!(matches!(receiver.polled.poll(), Poll::Ready(it) if number_of(&it) == 6));
    assert!(other.poll().is_pending(), "there is no room for more than before");
    assert_eq!(mailbox.try_receive(&mut Fetched::default()).as_ref().map(number_of), Some(1));
    assert!(matches!(other.poll(), Poll::Ready(None)));
}

#[test]
fn what_panics_or_closes_it_in_the_middle_of_a_look_leaves_it_whole() {
    let mailbox = Mailbox::new(3);
    for number in 0..3 {
        mailbox.try_send(sent(number)).unwrap();
    }
    let panics = |message: &Message| {
        mailbox.push_system(system(7), MOST_SYSTEM).unwrap();
        assert!(number_of(message) < 1);
        false
    };
    catch_unwind(AssertUnwindSafe(|| mailbox.try_receive_where(&mut Fetched::default(), panics)))
        .unwrap_err();
    let numbers: Vec<_> = std::iter::from_fn(|| mailbox.try_receive(&mut Fetched::default()))
        .map(|it| number_of(&it))
        .collect();
    assert_eq!(numbers, [0, 1, 2, 7, 7], "what came meanwhile is behind");

    mailbox.try_send(sent(0)).unwrap();
    let taken = mailbox.try_receive_where(&mut Fetched::default(), |_| {
        assert!(mailbox.close().is_empty());
        false
    });
    assert!(taken.is_none());
    assert_eq!(mailbox.len(), 0);
    assert!(matches!(mailbox.try_send(sent(1)), Err(Undelivered::Closed(_))));
}

#[test]
fn it_keeps_no_room_for_a_rush_that_is_over() {
    let mailbox = Mailbox::new(10_000);
    assert_eq!(mailbox.reserved(), 0);
    for number in 0..10_000 {
        mailbox.try_send(sent(number)).unwrap();
    }
    let mut fetched = Fetched::default();
    let mut receive_all = |polls| {
        for _ in 0..polls {
            let _batch = Batch::begin(&mailbox, false);
            let mut receiving = Box::pin(mailbox.receive(&mut fetched));
            let mut context = Context::from_waker(Waker::noop());
            while receiving.as_mut().poll(&mut context).is_ready() {
                drop(receiving);
                receiving = Box::pin(mailbox.receive(&mut fetched));
            }
        }
    };
    receive_all(1);
    assert_eq!(mailbox.len(), 0);
    assert!(mailbox.reserved() <= ROOM_KEPT && fetched.reserved() <= ROOM_KEPT);
}

#[test]
fn it_keeps_no_room_for_a_rush_that_came_while_another_was_received() {
    let mailbox = Mailbox::new(10_000);
    let mut fetched = Fetched::default();
    let _batch = Batch::begin(&mailbox, false);
    let rush = || (0..5_000).for_each(|number| mailbox.try_send(sent(number)).unwrap());
    rush();
    assert!(mailbox.try_receive(&mut fetched).is_some());
    rush();
    let received = std::iter::from_fn(|| mailbox.try_receive(&mut fetched)).count();
    assert_eq!(received, 2 * 5_000 - 1);
    assert!(mailbox.reserved() <= ROOM_KEPT && fetched.reserved() <= ROOM_KEPT);
}

#[test]
fn room_of_what_was_received_in_a_batch_is_free_at_once_unless_others_wait() {
    let mailbox = Arc::new(Mailbox::new(6));
    let mut fetched = Fetched::default();
    for number in 0..6 {
        mailbox.try_send(sent(number)).unwrap();
    }
    let batch = Batch::begin(&mailbox, false);
    assert_eq!(mailbox.try_receive(&mut fetched).as_ref().map(number_of), Some(0));
    assert_eq!(mailbox.reserved(), 0, "it was fetched");
    assert_eq!(mailbox.len(), 5);
    assert_eq!(mailbox.try_receive(&mut fetched).as_ref().map(number_of), Some(1));
    assert_eq!(mailbox.len(), 4);
    mailbox.try_send(sent(6)).unwrap();
    mailbox.try_send(sent(7)).unwrap();
    assert!(matches!(mailbox.try_send(sent(8)), Err(Undelivered::Full(_))));

    let mut sender = send(&mailbox, sent(8));
    assert!(sender.poll().is_pending());
    assert_eq!(mailbox.try_receive(&mut fetched).as_ref().map(number_of), Some(2));
    assert!(matches!(mailbox.try_send(sent(9)), Err(Undelivered::Full(_))), "it is that of the sender");
    assert!(!sender.is_woken());
    drop(batch);
    assert!(sender.is_woken());
    assert!(matches!(sender.poll(), Poll::Ready(None)));
    assert_eq!(mailbox.len(), 6);
    let numbers: Vec<_> =
        std::iter::from_fn(|| mailbox.try_receive(&mut fetched)).map(|it| number_of(&it)).collect();
    assert_eq!(numbers, [3, 4, 5, 6, 7, 8]);
}

#[test]
fn what_was_fetched_goes_back_to_the_front_of_what_came_later() {
    let mailbox = Mailbox::new(9);
    let mut fetched = Fetched::default();
    for number in 0..5 {
        mailbox.try_send(sent(number)).unwrap();
    }
    let batch = Batch::begin(&mailbox, false);
    assert_eq!(mailbox.try_receive(&mut fetched).as_ref().map(number_of), Some(0));
    mailbox.push_system(system(5), MOST_SYSTEM).unwrap();
    mailbox.try_send(sent(6)).unwrap();
    let even = mailbox.try_receive_where(&mut fetched, |it| number_of(it).is_multiple_of(2));
    assert_eq!(even.as_ref().map(number_of), Some(2));
    assert_eq!(mailbox.discard(|it| number_of(it) == 5).len(), 1);
    drop(batch);
    mailbox.put_back(&mut fetched);
    let numbers: Vec<_> = mailbox.close().iter().map(number_of).collect();
    assert_eq!(numbers, [1, 3, 4, 6]);
}
