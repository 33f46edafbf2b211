//! The mailbox of a process.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::coop::cooperative;

use super::message::Message;

/// An empty queue with room for more than this gives it back.
const ROOM_KEPT: usize = 64;

/// A queue of messages that many send to and one receives from. It takes no memory before there is one.
pub(super) struct Mailbox {
    /// How many of those messages it holds that [take room](Message::takes_room).
    capacity: usize,
    state: Mutex<State>,
    /// Where senders wait for room, first come first served.
    room: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Message>,
    /// How many take room: those in the queue, and those that the receiver is looking through.
    held: usize,
    /// How many senders wait. Room that there is is theirs.
    waiting: usize,
    receiver: Option<Waker>,
    is_closed: bool,
}

/// A message was not put into a mailbox.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is no room.
    Full(Message),
    /// The process has ended.
    Closed(Message),
}

impl Mailbox {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), room: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.state().queue.len()
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the process waits for a message.
    pub(super) fn is_waited_at(&self) -> bool {
        self.state().receiver.is_some()
    }

    /// Puts a message into it, if there is room.
    pub(super) fn try_send(&self, message: Message) -> Result<(), Refused> {
        let state = self.state();
        if state.waiting > 0 && message.takes_room() && !state.is_closed {
            return Err(Refused::Full(message));
        }
        self.put(state, message)
    }

    fn put(&self, mut state: MutexGuard<'_, State>, message: Message) -> Result<(), Refused> {
        if state.is_closed {
            return Err(Refused::Closed(message));
        }
        if message.takes_room() {
            if state.held >= self.capacity {
                return Err(Refused::Full(message));
            }
            state.held += 1;
        }
        state.queue.push_back(message);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        Ok(())
    }

    /// Puts a message into it as soon as there is room. The message stays where it is if there never will be, because the
    /// mailbox is closed; or where this is dropped.
    pub(super) async fn send(&self, waiting: &mut Option<Message>) {
        self.state().waiting += 1;
        let _waiting = Waiting(self);
        while let Some(message) = waiting.take() {
            let mut room = pin!(self.room.notified());
            // In line before it is looked whether there is room, or room made in between would be nobody's.
            room.as_mut().enable();
            match self.put(self.state(), message) {
                Ok(()) => return,
                Err(Refused::Closed(message)) => {
                    *waiting = Some(message);
                    return;
                }
                Err(Refused::Full(message)) => *waiting = Some(message),
            }
            room.await;
        }
    }

    /// Takes the oldest message.
    pub(super) fn try_receive(&self) -> Option<Message> {
        self.take(self.state()).ok()
    }

    /// Waits for a message and takes it.
    pub(super) async fn receive(&self) -> Message {
        let mut receiving = Receiving { mailbox: self, is_waiting: false };
        let receive = poll_fn(|waker| match self.take(self.state()) {
            Ok(message) => receiving.done(message),
            Err(state) => receiving.wait(state, waker),
        });
        // A process that always finds a message lets others run, too.
        cooperative(receive).await
    }

    /// Takes the oldest message; gives the lock back if there is none.
    fn take<'a>(&self, mut state: MutexGuard<'a, State>) -> Result<Message, MutexGuard<'a, State>> {
        let Some(message) = state.queue.pop_front() else { return Err(state) };
        if state.queue.is_empty() && state.queue.capacity() > ROOM_KEPT {
            state.queue = VecDeque::new();
        }
        self.taken(state, &message);
        Ok(message)
    }

    /// A message is taken out.
    fn taken(&self, mut state: MutexGuard<'_, State>, message: &Message) {
        if message.takes_room() {
            state.held -= 1;
            let is_waited_for = state.waiting > 0;
            drop(state);
            if is_waited_for {
                self.room.notify_one();
            }
        }
    }

    /// Takes the oldest message that `is_wanted`, and leaves the others where they are.
    pub(super) fn try_receive_where(&self, mut is_wanted: impl FnMut(&Message) -> bool) -> Option<Message> {
        self.take_where(&mut 0, &mut is_wanted).ok()
    }

    /// Waits for a message that `is_wanted` and takes it, and leaves the others where they are.
    pub(super) async fn receive_where(&self, mut is_wanted: impl FnMut(&Message) -> bool) -> Message {
        let mut receiving = Receiving { mailbox: self, is_waiting: false };
        let mut seen = 0;
        let receive = poll_fn(|waker| match self.take_where(&mut seen, &mut is_wanted) {
            Ok(message) => receiving.done(message),
            Err(state) => receiving.wait(state, waker),
        });
        cooperative(receive).await
    }

    /// Takes the oldest message behind the first `seen` that is wanted. Those are not in the mailbox while they are looked
    /// at: what looks at them may send to it.
    fn take_where(
        &self,
        seen: &mut usize,
        is_wanted: &mut dyn FnMut(&Message) -> bool,
    ) -> Result<Message, MutexGuard<'_, State>> {
        loop {
            let mut state = self.state();
            if state.queue.len() <= *seen {
                return Err(state);
            }
            let mut looked = Looked { mailbox: self, messages: mem::take(&mut state.queue) };
            drop(state);
            while let Some(message) = looked.messages.get(*seen) {
                if is_wanted(message) {
                    let message = looked.messages.remove(*seen);
                    drop(looked);
                    let message = message.expect("it was there just now");
                    self.taken(self.state(), &message);
                    return Ok(message);
                }
                *seen += 1;
            }
        }
    }

    /// Refuses whatever comes from now on, and gives what there is.
    pub(super) fn close(&self) -> VecDeque<Message> {
        let mut state = self.state();
        state.is_closed = true;
        let receiver = state.receiver.take();
        let messages = mem::take(&mut state.queue);
        drop(state);
        drop(receiver);
        self.room.notify_waiters();
        messages
    }

    /// Takes out what the runtime itself said and is no longer wanted; says whether there was any.
    pub(super) fn discard(&self, is_unwanted: impl Fn(&Message) -> bool) -> bool {
        let mut state = self.state();
        let before = state.queue.len();
        state.queue.retain(|message| message.takes_room() || !is_unwanted(message));
        state.queue.len() < before
    }
}

/// A sender that waits.
struct Waiting<'a>(&'a Mailbox);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting -= 1;
        let is_for_others = state.waiting > 0 && state.held < self.0.capacity;
        drop(state);
        if is_for_others {
            self.0.room.notify_one();
        }
    }
}

/// A receiver, which may wait. Where it is dropped as it does, it does so no more.
struct Receiving<'a> {
    mailbox: &'a Mailbox,
    is_waiting: bool,
}

impl Receiving<'_> {
    fn wait(&mut self, mut state: MutexGuard<'_, State>, waker: &Context<'_>) -> Poll<Message> {
        let before = state.receiver.replace(waker.waker().clone());
        drop(state);
        // Outside of the lock, because a waker may be the last that keeps something.
        drop(before);
        self.is_waiting = true;
        Poll::Pending
    }

    /// Whoever put the message there took the waker.
    fn done(&mut self, message: Message) -> Poll<Message> {
        self.is_waiting = false;
        Poll::Ready(message)
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        if self.is_waiting {
            let receiver = self.mailbox.state().receiver.take();
            drop(receiver);
        }
    }
}

/// Messages that are being looked through. They go back to the front, also where what looks at them panics.
struct Looked<'a> {
    mailbox: &'a Mailbox,
    messages: VecDeque<Message>,
}

impl Drop for Looked<'_> {
    fn drop(&mut self) {
        let mut state = self.mailbox.state();
        if state.is_closed {
            return;
        }
        let come = mem::replace(&mut state.queue, mem::take(&mut self.messages));
        state.queue.extend(come);
    }
}
