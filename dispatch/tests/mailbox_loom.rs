//! The mailbox under every interleaving: `src/process/mailbox.rs` itself, compiled with loom's primitives in place of the real
//! ones, with messages that are calls. And the same with callees that break the protocol, to show that the model finds it.

mod sync {
    pub(super) use loom::sync::{Arc, Mutex, MutexGuard};
}

/// The senders are woken at once.
mod batch {
    use super::mailbox::Mailbox;

    pub(super) const fn is_open(_: &Mailbox) -> bool {
        false
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

#[path = "../src/process/mailbox.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
mod mailbox;

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

use self::mailbox::{Mailbox, Refused};
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
            if let Some(Message { number, reply: Some(reply) }) = mailbox.try_receive() {
                reply.send(number + 1);
            }
            drop(mailbox.close());
        });
    });
}

#[test]
#[should_panic(expected = "the caller is told")]
fn the_model_finds_a_callee_that_ends_and_leaves_its_mailbox_open() {
    model(|| call_while_the_callee_ends(|mailbox| drop(mailbox.try_receive())));
}

#[test]
fn a_callee_that_waits_is_woken_for_a_call_and_the_caller_for_its_reply() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new(1));
        let callee = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || {
                let Message { number, reply } = block_on(mailbox.receive());
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
    assert_eq!(mailbox.try_receive().map(|message| message.number), Some(1));
}

fn is_even(message: &Message) -> bool {
    message.number.is_multiple_of(2)
}

#[test]
fn a_full_mailbox_does_not_keep_out_what_its_receiver_waits_for() {
    model(|| receive_past_a_full_mailbox(|mailbox| block_on(mailbox.receive_where(is_even))));
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
        let found = mailbox.try_receive_where(is_even);
        assert_eq!(found.map(|message| message.number), None, "it waited, or was not there");
        assert!(!sender.join().unwrap());
        assert_eq!(mailbox.try_receive().map(|message| message.number), Some(1));
        // There is room for one again.
        assert!(mailbox.try_send(sent(3)).is_ok());
        assert!(matches!(mailbox.try_send(sent(4)), Err(Refused::Full(_))));
    });
}
