//! The mailbox under every interleaving: `src/process/mailbox` itself, compiled with loom's primitives in place of the real
//! ones, with messages that are calls. And the same with callees that break the protocol, to show that the model finds it.

mod sync {
    pub(super) use loom::sync::atomic::AtomicU32;
    pub(super) use loom::sync::{Arc, Mutex, MutexGuard};
    pub(super) use std::sync::atomic::Ordering;
}

/// The same as `src/process/batch.rs`, without nesting. That has a constant for each thread, which loom has not.
mod batch {
    use std::cell::Cell;
    use std::ptr;

    use super::mailbox::Mailbox;

    loom::thread_local! {
        /// The mailbox whose batch is open, and whether it made room.
        static OPEN: Cell<(*const Mailbox, bool)> = Cell::new((ptr::null(), false));
    }

    pub(super) struct Batch<'a> {
        mailbox: &'a Mailbox,
        owes_room: bool,
    }

    impl<'a> Batch<'a> {
        pub(super) fn begin(mailbox: &'a Mailbox, owes_room: bool) -> Self {
            OPEN.with(|open| open.set((mailbox, false)));
            Self { mailbox, owes_room }
        }

        pub(super) fn go_on(mut self) -> bool {
            let goes_on = self.mailbox.owes_little();
            if goes_on {
                OPEN.with(|open| open.set((self.mailbox, false)));
                self.owes_room = false;
            }
            goes_on
        }
    }

    impl Drop for Batch<'_> {
        fn drop(&mut self) {
            let (_, owes_room) = OPEN.with(|open| open.replace((ptr::null(), false)));
            if self.owes_room || owes_room {
                self.mailbox.end_batch();
            }
        }
    }

    pub(super) fn is_open(mailbox: &Mailbox) -> bool {
        OPEN.with(|open| {
            let is_open = ptr::eq(open.get().0, mailbox);
            if is_open {
                open.set((mailbox, true));
            }
            is_open
        })
    }
}

/// Messages that are numbers, some of which are calls.
mod message {
    use loom::sync::{Arc, Mutex, Notify};

    #[derive(Debug)]
    pub(super) struct Message {
        pub(super) number: u32,
        pub(super) reply: Option<ReplyTo>,
    }

    impl Message {
        #[allow(clippy::unused_self, reason = "that of the real messages differs")]
        pub(super) const fn takes_room(&self) -> bool {
            true
        }
    }

    /// What became of a call.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Outcome {
        Replied(u32),
        Dropped,
    }

    /// Where a reply goes. As the sender of a oneshot channel, it tells the caller also where it is dropped.
    #[derive(Debug)]
    pub(super) struct ReplyTo(Arc<Slot>);

    pub(super) struct Reply(Arc<Slot>);

    #[derive(Debug)]
    struct Slot {
        outcome: Mutex<Option<Outcome>>,
        is_told: Notify,
    }

    pub(super) fn call(number: u32) -> (Message, Reply) {
        let slot = Arc::new(Slot { outcome: Mutex::new(None), is_told: Notify::new() });
        (Message { number, reply: Some(ReplyTo(Arc::clone(&slot))) }, Reply(slot))
    }

    impl ReplyTo {
        pub(super) fn send(self, number: u32) {
            self.tell(Outcome::Replied(number));
        }

        fn tell(&self, outcome: Outcome) {
            let mut told = self.0.outcome.lock().unwrap();
            if told.is_none() {
                *told = Some(outcome);
                self.0.is_told.notify();
            }
        }
    }

    impl Drop for ReplyTo {
        fn drop(&mut self) {
            self.tell(Outcome::Dropped);
        }
    }

    impl Reply {
        /// What became of the call so far.
        pub(super) fn outcome(&self) -> Option<Outcome> {
            *self.0.outcome.lock().unwrap()
        }

        pub(super) fn wait(self) -> Outcome {
            loop {
                if let Some(outcome) = self.outcome() {
                    return outcome;
                }
                self.0.is_told.wait();
            }
        }
    }
}

#[path = "../src/process/mailbox/mod.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
mod mailbox;

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

use self::batch::Batch;
use self::mailbox::{Fetched, Mailbox, Undelivered};
use self::message::{Message, Outcome, call};

/// All orders of so many steps would take hours.
fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(check);
}

fn sent(number: u32) -> Message {
    Message { number, reply: None }
}

fn send(mailbox: &Mailbox, message: Message) -> Option<Message> {
    let mut message = Some(message);
    block_on(mailbox.send(&mut message));
    message
}

/// A call while the callee ends, in the way that `end` does. The caller is told what became of the call.
fn call_while_the_callee_ends(end: impl Fn(&Mailbox) + Copy + Send + 'static) {
    let mailbox = Arc::new(Mailbox::new(1));
    let callee = thread::spawn({
        let mailbox = Arc::clone(&mailbox);
        move || end(&mailbox)
    });
    let (request, reply) = call(1);
    // A refused request is dropped, which tells the caller.
    let is_sent = mailbox.try_send(request).is_ok();
    callee.join().unwrap();
    let outcome = reply.outcome().expect("the caller is told");
    assert!(outcome == Outcome::Dropped || is_sent && outcome == Outcome::Replied(2));
}

#[test]
fn a_call_is_replied_to_or_dropped_with_the_mailbox_and_never_lost() {
    model(|| {
        call_while_the_callee_ends(|mailbox| {
            if let Some(Message { number, reply: Some(reply) }) = mailbox.try_receive(&mut Fetched::default())
            {
                reply.send(number + 1);
            }
            drop(mailbox.close());
        });
    });
}

#[test]
#[should_panic(expected = "the caller is told")]
fn the_model_finds_a_callee_that_ends_and_leaves_its_mailbox_open() {
    model(|| call_while_the_callee_ends(|mailbox| drop(mailbox.try_receive(&mut Fetched::default()))));
}

#[test]
fn a_callee_that_waits_is_woken_for_a_call_and_the_caller_for_its_reply() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new(1));
        let callee = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || {
                let Message { number, reply } = block_on(mailbox.receive(&mut Fetched::default()));
                reply.expect("it is a call").send(number + 1);
            }
        });
        let (request, reply) = call(1);
        assert!(mailbox.try_send(request).is_ok());
        assert_eq!(reply.wait(), Outcome::Replied(2));
        callee.join().unwrap();
    });
}

/// A full mailbox, a receiver that waits for an even number, and a sender of one.
fn receive_past_a_full_mailbox(receive: impl Fn(&Mailbox) -> Message + Copy + Send + 'static) {
    let mailbox = Arc::new(Mailbox::new(1));
    assert!(mailbox.try_send(sent(1)).is_ok());
    let receiver = thread::spawn({
        let mailbox = Arc::clone(&mailbox);
        move || receive(&mailbox).number
    });
    assert!(send(&mailbox, sent(2)).is_none(), "it was sent");
    assert_eq!(receiver.join().unwrap(), 2);
    assert_eq!(mailbox.try_receive(&mut Fetched::default()).map(|message| message.number), Some(1));
}

fn is_even(message: &Message) -> bool {
    message.number.is_multiple_of(2)
}

#[test]
fn a_full_mailbox_does_not_keep_out_what_its_receiver_waits_for() {
    model(|| {
        receive_past_a_full_mailbox(|mailbox| {
            block_on(mailbox.receive_where(&mut Fetched::default(), is_even))
        });
    });
}

#[test]
fn a_sender_that_gives_up_as_it_is_let_in_takes_no_room_with_it() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new(1));
        assert!(mailbox.try_send(sent(1)).is_ok());
        let sender = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || {
                let mut message = Some(sent(2));
                let mut sending = Box::pin(mailbox.send(&mut message));
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                let is_sent = sending.as_mut().poll(&mut context).is_ready();
                drop(sending);
                assert_eq!(message.is_none(), is_sent, "what was not sent is given back");
                is_sent
            }
        });
        let found = mailbox.try_receive_where(&mut Fetched::default(), is_even);
        assert_eq!(found.map(|message| message.number), None, "it waited, or was not there");
        assert!(!sender.join().unwrap());
        assert_eq!(mailbox.try_receive(&mut Fetched::default()).map(|message| message.number), Some(1));
        // There is room for one again.
        assert!(mailbox.try_send(sent(3)).is_ok());
        assert!(matches!(mailbox.try_send(sent(4)), Err(Undelivered::Full(_))));
    });
}

/// A full mailbox of four whose receiver fetches all, receives two of them in a batch and does `then`, while others send.
fn receive_in_a_batch(then: impl Fn(&Mailbox, &mut Fetched) + Copy + Send + 'static) {
    let mailbox = Arc::new(Mailbox::new(4));
    for number in 1..=4 {
        assert!(mailbox.try_send(sent(number)).is_ok());
    }
    let receiver = thread::spawn({
        let mailbox = Arc::clone(&mailbox);
        move || {
            let mut fetched = Fetched::default();
            let batch = Batch::begin(&mailbox, false);
            for number in 1..=2 {
                assert_eq!(mailbox.try_receive(&mut fetched).map(|it| it.number), Some(number));
            }
            drop(batch);
            then(&mailbox, &mut fetched);
            fetched
        }
    });
    assert!(send(&mailbox, sent(5)).is_none(), "it was sent");
    let is_sent = mailbox.try_send(sent(6)).is_ok();
    let mut fetched = receiver.join().unwrap();
    // That of two was free, unless it was tried before the second was received.
    assert_eq!(mailbox.len(), if is_sent { 4 } else { 3 });
    assert_eq!(mailbox.try_send(sent(7)).is_ok(), !is_sent);
    assert!(matches!(mailbox.try_send(sent(8)), Err(Undelivered::Full(_))));
    let left = std::iter::from_fn(|| mailbox.try_receive(&mut fetched)).map(|it| it.number);
    assert_eq!(left.collect::<Vec<_>>(), [3, 4, 5, if is_sent { 6 } else { 7 }]);
}

#[test]
fn room_of_what_is_received_in_a_batch_is_neither_lost_nor_given_twice() {
    model(|| receive_in_a_batch(|_, _| ()));
}

#[test]
fn what_was_fetched_goes_back_to_the_front_while_others_send() {
    model(|| receive_in_a_batch(Mailbox::put_back));
}

#[test]
fn room_of_a_batch_that_goes_on_is_free_when_that_ends() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new(4));
        for number in 1..=4 {
            assert!(mailbox.try_send(sent(number)).is_ok());
        }
        let receiver = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || {
                let mut fetched = Fetched::default();
                let batch = Batch::begin(&mailbox, false);
                assert_eq!(mailbox.try_receive(&mut fetched).map(|it| it.number), Some(1));
                let goes_on = batch.go_on();
                drop(Batch::begin(&mailbox, goes_on));
                fetched
            }
        });
        // It is woken if it waits.
        assert!(send(&mailbox, sent(5)).is_none(), "it was sent");
        let mut fetched = receiver.join().unwrap();
        assert_eq!(mailbox.len(), 4);
        assert!(matches!(mailbox.try_send(sent(6)), Err(Undelivered::Full(_))));
        let left = std::iter::from_fn(|| mailbox.try_receive(&mut fetched)).map(|it| it.number);
        assert_eq!(left.collect::<Vec<_>>(), [2, 3, 4, 5]);
    });
}

#[test]
fn a_sender_goes_on_when_the_receiver_has_received_what_it_fetched_and_finds_nothing() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new(4));
        for number in 1..=4 {
            assert!(mailbox.try_send(sent(number)).is_ok());
        }
        let receiver = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || {
                let mut fetched = Fetched::default();
                // It blocks its thread in the batch, which ends when it has received all.
                let _batch = Batch::begin(&mailbox, false);
                (0..5).map(|_| block_on(mailbox.receive(&mut fetched)).number).collect::<Vec<_>>()
            }
        });
        assert!(send(&mailbox, sent(5)).is_none(), "it was sent");
        assert_eq!(receiver.join().unwrap(), [1, 2, 3, 4, 5]);
    });
}
