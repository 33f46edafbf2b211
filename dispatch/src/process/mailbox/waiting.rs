//! Senders that wait for room in a mailbox.

use std::collections::VecDeque;
use std::mem;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use super::{Arc, Mailbox, Message, Mutex, MutexGuard, release_memory};

/// The senders that wait for room, first come, first served.
#[derive(Default)]
pub(super) struct WaitingSenders {
    /// In ascending order of their numbers.
    pub(super) senders: VecDeque<Sender>,
    /// The number of the last sender that began to wait.
    last: u64,
    /// How much of the held room is free again. The senders receive it when the receiver's batch ends, or when the receiver finds
    /// no message.
    pub(super) owed: u32,
}

/// A sender that waits for room.
pub(super) struct Sender {
    pub(super) number: u64,
    pub(super) waker: Waker,
    pub(super) message: Arc<Offer>,
}

/// The message of a waiting sender, shared with a receiver that looks at it.
#[derive(Default)]
pub(super) struct Offer(Mutex<Option<Message>>);

impl Offer {
    pub(super) fn message(&self) -> MutexGuard<'_, Option<Message>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sender, which may wait. If it is dropped while it waits, the next sender receives the room that was kept for it.
pub(super) struct Sending<'a> {
    mailbox: &'a Mailbox,
    /// The message, unless the sender waits.
    message: &'a mut Option<Message>,
    /// The sender's number and its message while it waits.
    waiting: Option<(u64, Arc<Offer>)>,
}

impl<'a> Sending<'a> {
    pub(super) fn new(mailbox: &'a Mailbox, message: &'a mut Option<Message>) -> Self {
        Self { mailbox, message, waiting: None }
    }

    pub(super) fn poll(&mut self, waker: &Context<'_>) -> Poll<()> {
        let mut state = self.mailbox.state();
        if state.is_closed {
            return Poll::Ready(());
        }
        match &self.waiting {
            None if self.mailbox.has_room(&mut state) => state.held += 1,
            None => {
                let message = Arc::new(Offer(Mutex::new(self.message.take())));
                let number =
                    state.waiting.get_or_insert_default().push(waker.waker().clone(), Arc::clone(&message));
                self.waiting = Some((number, message));
                let receiver = if state.is_selective { state.receiver.take() } else { None };
                drop(state);
                if let Some(receiver) = receiver {
                    receiver.wake();
                }
                return Poll::Pending;
            }
            Some((number, offer)) => {
                if let Some(sender) = state.waiting.as_mut().and_then(|waiting| waiting.get_mut(*number)) {
                    let before = mem::replace(&mut sender.waker, waker.waker().clone());
                    drop(state);
                    // Outside of the lock, because a waker may be the last that keeps something.
                    drop(before);
                    return Poll::Pending;
                }
                // The receiver that made room for it removed it from the queue of senders. The receiver may still look at the
                // message, and lock the mailbox meanwhile.
                drop(state);
                *self.message = offer.message().take();
                self.waiting = None;
                state = self.mailbox.state();
                if state.is_closed {
                    return Poll::Ready(());
                }
            }
        }
        match self.message.take() {
            Some(message) => Mailbox::put(state, message),
            None => self.mailbox.free(state),
        }
        Poll::Ready(())
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let Some((number, offer)) = self.waiting.take() else { return };
        let mut state = self.mailbox.state();
        let mut receiver = None;
        // Before the sender is removed, because this room belongs to the senders that wait.
        self.mailbox.settle(&mut state);
        if let Some(sender) = state.waiting.as_mut().and_then(|waiting| waiting.remove(number)) {
            drop(state);
            drop(sender);
        } else if state.is_closed {
            drop(state);
        } else {
            // A selective receiver may have made room for it, and now has to look for another message.
            receiver = if state.is_selective { state.receiver.take() } else { None };
            self.mailbox.free(state);
        }
        *self.message = offer.message().take();
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

impl WaitingSenders {
    /// Adds a sender and returns its number.
    pub(super) fn push(&mut self, waker: Waker, message: Arc<Offer>) -> u64 {
        self.last += 1;
        self.senders.push_back(Sender { number: self.last, waker, message });
        self.last
    }

    /// Removes the sender that has waited longest.
    pub(super) fn pop(&mut self) -> Option<Sender> {
        let sender = self.senders.pop_front();
        release_memory(&mut self.senders);
        sender
    }

    /// Returns the first sender after the one with this number.
    pub(super) fn after(&self, number: u64) -> Option<&Sender> {
        self.senders.get(self.senders.partition_point(|sender| sender.number <= number))
    }

    /// Returns a sender, if it still waits.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Sender> {
        let position = self.position(number)?;
        self.senders.get_mut(position)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Sender> {
        let position = self.position(number)?;
        self.senders.remove(position)
    }

    fn position(&self, number: u64) -> Option<usize> {
        self.senders.binary_search_by_key(&number, |sender| sender.number).ok()
    }
}
