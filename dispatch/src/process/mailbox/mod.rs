//! The mailbox of a process: a bounded queue with one receiver.
//!
//! It knows nothing of processes, so that `tests/mailbox_loom.rs` compiles it with loom's primitives.

mod waiting;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::mem;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use tokio::task::coop::cooperative;

use super::batch;
use super::message::Message;
use super::sync::{Arc, AtomicU32, Mutex, MutexGuard, Ordering};

use self::waiting::{Sending, WaitingSenders};

/// An empty queue releases its memory if it has more than this.
pub(crate) const ROOM_KEPT: usize = 64;

/// A receiver fetches all messages at once if there are this many. Fewer are received one by one.
const FETCHED_AT: usize = 4;

/// The most messages that waiting senders are owed room for from one poll of the receiver to the next. The limit holds for large
/// mailboxes too, because the receiver may take long for each message.
const MOST_OWED: u32 = 512;

/// A queue of messages with many senders and one receiver. It allocates no memory before the first message.
pub(crate) struct Mailbox {
    /// How many messages that [take room](Message::takes_room) fit.
    capacity: u32,
    /// How many [fetched](Fetched) messages are not received yet. Changed under the lock, or by the receiver within its
    /// [batch](batch::Batch) without it.
    fetched: AtomicU32,
    state: Mutex<MailboxState>,
}

/// The messages that the receiver has fetched from the queue and not received yet, oldest first. All of them take room.
///
/// Within its batch the receiver takes them without the lock, for which it would contend with its senders. Outside of a batch they
/// are put back first: waiting senders would not receive the room that they leave.
#[derive(Debug, Default)]
pub(crate) struct Fetched(
    // On the heap, because few processes have any, and the future of every process contains this.
    #[allow(clippy::box_collection)] Option<Box<VecDeque<Message>>>,
);

struct MailboxState {
    queue: VecDeque<Message>,
    /// How much room is taken: by messages in the queue, by messages that the receiver is looking through, and for senders that
    /// have stopped waiting and have not been polled since. While senders wait, no other room is free. Fetched messages hold their
    /// room until [`settle`](Mailbox::settle) finds that they were received.
    held: u32,
    /// How many fetched messages hold room.
    fetched: u32,
    /// How many system messages there are: those of the runtime itself, which take no room.
    system: u32,
    /// On the heap, because most mailboxes are never full.
    waiting: Option<Box<WaitingSenders>>,
    receiver: Option<Waker>,
    /// Whether the receiver waits for certain messages only. Then it is also woken for the messages of waiting senders.
    is_selective: bool,
    /// Whether messages may be [fetched](Fetched). Other receivers do not see fetched messages.
    is_fetched: bool,
    is_closed: bool,
}

impl MailboxState {
    /// Returns whether senders are [owed](WaitingSenders::owed) room.
    fn owes_room(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.owed > 0)
    }
}

/// A message that was not put into a mailbox.
#[derive(Debug)]
pub(crate) enum Undelivered {
    /// The mailbox is full.
    Full(Message),
    /// The process has ended.
    Closed(Message),
}

impl Mailbox {
    /// Creates an empty mailbox with room for `capacity` messages, and for at most 2³² − 1.
    pub(crate) fn new(capacity: usize) -> Self {
        let state = MailboxState {
            queue: VecDeque::new(),
            held: 0,
            fetched: 0,
            system: 0,
            waiting: None,
            receiver: None,
            is_selective: false,
            is_fetched: true,
            is_closed: false,
        };
        Self {
            capacity: u32::try_from(capacity).unwrap_or(u32::MAX),
            fetched: AtomicU32::new(0),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, MailboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of messages.
    pub(crate) fn len(&self) -> usize {
        let state = self.state();
        let fetched = self.fetched.load(Ordering::Acquire);
        state.queue.len().saturating_add(usize::try_from(fetched).unwrap_or(usize::MAX))
    }

    /// Returns how many messages the queue has memory for.
    #[cfg(test)]
    pub(crate) fn reserved(&self) -> usize {
        self.state().queue.capacity()
    }

    /// Returns whether the process waits for a message.
    pub(crate) fn is_waited_at(&self) -> bool {
        self.state().receiver.is_some()
    }

    /// Adds a message if there is room.
    pub(crate) fn try_send(&self, message: Message) -> Result<(), Undelivered> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Undelivered::Closed(message));
        }
        if message.takes_room() {
            if !self.has_room(&mut state) {
                return Err(Undelivered::Full(message));
            }
            state.held += 1;
        }
        Self::put(state, message);
        Ok(())
    }

    /// Adds a system message, unless the mailbox is closed or has `most` of them. Returns the waker of the receiver, which the
    /// caller wakes once it holds no lock.
    pub(crate) fn push_system(&self, message: Message, most: usize) -> Result<Option<Waker>, Message> {
        let mut state = self.state();
        if state.is_closed {
            return Ok(None);
        }
        if usize::try_from(state.system).is_ok_and(|system| system >= most) {
            return Err(message);
        }
        state.system += 1;
        state.queue.push_back(message);
        Ok(state.receiver.take())
    }

    /// Returns the number of system messages.
    pub(crate) fn system_len(&self) -> u32 {
        self.state().system
    }

    /// Returns whether there are as many system messages as there is room for other messages.
    pub(crate) fn is_crowded(&self) -> bool {
        let state = self.state();
        state.system >= self.capacity
    }

    /// Returns whether there is room for a message.
    fn has_room(&self, state: &mut MailboxState) -> bool {
        if state.held >= self.capacity {
            self.settle(state);
        }
        state.held < self.capacity
    }

    /// Frees the room of messages that were fetched and then received. If senders wait, they receive it when the batch ends.
    fn settle(&self, state: &mut MailboxState) {
        let left = self.fetched.load(Ordering::Acquire);
        let received = mem::replace(&mut state.fetched, left) - left;
        let waiting = state.waiting.as_deref_mut().filter(|waiting| !waiting.senders.is_empty());
        let owed = match waiting {
            // More room is held than there is if a sender was let in because the receiver waits for its message.
            Some(waiting) => {
                let owed = received - received.min(state.held.saturating_sub(self.capacity));
                waiting.owed += owed;
                owed
            }
            None => 0,
        };
        state.held -= received - owed;
    }

    /// Adds a message that has its room.
    fn put(mut state: MutexGuard<'_, MailboxState>, message: Message) {
        state.queue.push_back(message);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// Adds a message as soon as there is room. The message stays where it is if the mailbox is closed, or if the future is
    /// dropped.
    pub(crate) async fn send(&self, message: &mut Option<Message>) {
        let mut sending = Sending::new(self, message);
        poll_fn(|waker| sending.poll(waker)).await;
    }

    /// Takes the oldest message.
    pub(crate) fn try_receive(&self, fetched: &mut Fetched) -> Option<Message> {
        match self.take(fetched) {
            Ok(message) => Some(message),
            Err(state) => {
                fetched.release_memory();
                let owes_room = state.owes_room();
                drop(state);
                self.pay_owed(owes_room);
                None
            }
        }
    }

    /// Waits for a message and takes it.
    //
    // Not an `async fn`, whose future would have room for its arguments twice.
    pub(crate) fn receive<'a>(&'a self, fetched: &'a mut Fetched) -> impl Future<Output = Message> + 'a {
        let mut receiving = Receiving { mailbox: self, is_waiting: false };
        let receive = poll_fn(move |waker| match receiving.mailbox.take(fetched) {
            Ok(message) => receiving.done(message),
            Err(state) => {
                fetched.release_memory();
                let owes_room = state.owes_room();
                let pending = receiving.wait(state, waker, false);
                receiving.mailbox.pay_owed(owes_room);
                pending
            }
        });
        // A process that always finds a message yields to other tasks.
        cooperative(receive)
    }

    /// Takes the oldest message. Returns the locked state if there is none.
    fn take(&self, fetched: &mut Fetched) -> Result<Message, MutexGuard<'_, MailboxState>> {
        if let Some(messages) = fetched.0.as_deref_mut().filter(|messages| !messages.is_empty()) {
            if batch::is_open(self)
                && let Some(message) = messages.pop_front()
            {
                self.note_fetched(messages);
                return Ok(message);
            }
            self.put_back(fetched);
        }
        let mut state = self.state();
        // System messages may be discarded, so they stay in the queue.
        if state.queue.len() >= FETCHED_AT && state.system == 0 && state.is_fetched && batch::is_open(self) {
            let messages = fetched.0.get_or_insert_default();
            self.settle(&mut state);
            mem::swap(&mut state.queue, messages);
            state.fetched = Self::count(messages);
            if let Some(message) = messages.pop_front() {
                self.note_fetched(messages);
                return Ok(message);
            }
        }
        let Some(message) = state.queue.pop_front() else {
            self.found_nothing(&mut state);
            return Err(state);
        };
        self.note_taken(state, &message);
        Ok(message)
    }

    /// Notes that the receiver has received all fetched messages and finds no other that it wants.
    fn found_nothing(&self, state: &mut MailboxState) {
        // The queue may have the memory of the last fetched messages.
        release_memory(&mut state.queue);
        self.settle(state);
    }

    /// Stops fetching: from now on messages are received one by one, also by several receivers in turn.
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(crate) fn stop_fetching(&self) {
        self.state().is_fetched = false;
    }

    fn note_fetched(&self, messages: &VecDeque<Message>) {
        self.fetched.store(Self::count(messages), Ordering::Release);
    }

    /// Returns how many messages these are. Each of them takes room.
    fn count(messages: &VecDeque<Message>) -> u32 {
        u32::try_from(messages.len()).unwrap_or(u32::MAX)
    }

    /// Puts messages that were fetched and not received back to the front. Drops them if the mailbox is closed.
    pub(crate) fn put_back(&self, fetched: &mut Fetched) {
        let Some(mut messages) = fetched.0.take_if(|messages| !messages.is_empty()) else { return };
        let mut state = self.state();
        if state.is_closed {
            drop(state);
            return;
        }
        self.settle(&mut state);
        state.fetched = 0;
        self.fetched.store(0, Ordering::Release);
        messages.append(&mut state.queue);
        state.queue = *messages;
    }

    /// Notes that a message was taken out.
    fn note_taken(&self, mut state: MutexGuard<'_, MailboxState>, message: &Message) {
        release_memory(&mut state.queue);
        if message.takes_room() {
            self.free(state);
        } else {
            state.system -= 1;
        }
    }

    /// Frees the room of a message. The sender that has waited longest receives it, if there is one.
    fn free(&self, mut state: MutexGuard<'_, MailboxState>) {
        // More room is held than there is if a sender was let in because the receiver waits for its message.
        let waiting = if state.held > self.capacity { None } else { state.waiting.as_deref_mut() };
        let Some(waiting) = waiting.filter(|waiting| !waiting.senders.is_empty()) else {
            state.held -= 1;
            return;
        };
        if batch::is_open(self) {
            waiting.owed += 1;
            return;
        }
        let sender = waiting.pop();
        drop(state);
        if let Some(sender) = sender {
            sender.waker.wake();
        }
    }

    /// Gives senders the room that they are owed, because the receiver found no message. The receiver may block its thread until
    /// one comes, and its batch would not end before that.
    fn pay_owed(&self, owes_room: bool) {
        if owes_room {
            self.end_batch();
        }
    }

    /// Returns whether it [owes](WaitingSenders::owed) room to waiting senders, but less than half of all room and less than
    /// [`MOST_OWED`].
    pub(crate) fn owes_little(&self) -> bool {
        let mut state = self.state();
        self.settle(&mut state);
        let owed = state.waiting.as_ref().map_or(0, |waiting| waiting.owed);
        owed > 0 && owed < MOST_OWED.min(self.capacity / 2)
    }

    /// Frees the room that the receiver made in its batch, and wakes the senders that are [owed](WaitingSenders::owed) room.
    pub(crate) fn end_batch(&self) {
        let mut state = self.state();
        self.settle(&mut state);
        let Some(waiting) = state.waiting.as_deref_mut() else { return };
        let owed = mem::take(&mut waiting.owed);
        let senders: Vec<_> = (0..owed).map_while(|_| waiting.pop()).collect();
        // Their room is still held.
        state.held -= owed - u32::try_from(senders.len()).unwrap_or(owed);
        drop(state);
        for sender in senders {
            sender.waker.wake();
        }
    }

    /// Takes the oldest message that `is_wanted`, and leaves the others where they are.
    pub(crate) fn try_receive_where(
        &self,
        fetched: &mut Fetched,
        mut is_wanted: impl FnMut(&Message) -> bool,
    ) -> Option<Message> {
        self.put_back(fetched);
        match self.take_where(&mut 0, &mut is_wanted) {
            Ok(message) => Some(message),
            Err(state) => {
                let owes_room = state.owes_room();
                drop(state);
                self.let_in(&mut 0, &mut is_wanted);
                self.pay_owed(owes_room);
                None
            }
        }
    }

    /// Waits for a message that `is_wanted`, takes it, and leaves the others where they are.
    pub(crate) async fn receive_where(
        &self,
        fetched: &mut Fetched,
        mut is_wanted: impl FnMut(&Message) -> bool,
    ) -> Message {
        self.put_back(fetched);
        let mut receiving = Receiving { mailbox: self, is_waiting: false };
        let (mut seen, mut last_seen) = (0, 0);
        let receive = poll_fn(|waker| match self.take_where(&mut seen, &mut is_wanted) {
            Ok(message) => receiving.done(message),
            Err(state) => {
                let owes_room = state.owes_room();
                let pending = receiving.wait(state, waker, true);
                // After the receiver waits, so that it is woken for senders that this does not see.
                self.let_in(&mut last_seen, &mut is_wanted);
                self.pay_owed(owes_room);
                pending
            }
        });
        cooperative(receive).await
    }

    /// Lets in the first sender after `last_seen` that waits with a message that is wanted. Otherwise a full mailbox would keep
    /// out what its receiver waits for.
    fn let_in(&self, last_seen: &mut u64, is_wanted: &mut dyn FnMut(&Message) -> bool) {
        loop {
            let state = self.state();
            // A receiver that gave up before a message arrived that it had let in has left that in the mailbox.
            if state.held >= self.capacity.saturating_mul(2) {
                return;
            }
            let Some(sender) = state.waiting.as_ref().and_then(|waiting| waiting.after(*last_seen)) else {
                return;
            };
            let (number, offer) = (sender.number, Arc::clone(&sender.message));
            drop(state);
            *last_seen = number;
            if !offer.message().as_ref().is_some_and(&mut *is_wanted) {
                continue;
            }
            let mut state = self.state();
            // It may have given up, or been let in.
            let Some(waiting) = &mut state.waiting else { continue };
            let Some(sender) = waiting.remove(number) else { continue };
            if waiting.owed > 0 {
                waiting.owed -= 1;
            } else {
                state.held += 1;
            }
            drop(state);
            sender.waker.wake();
            return;
        }
    }

    /// Takes the oldest wanted message after the first `seen`. Messages are outside of the mailbox while `is_wanted` runs, because
    /// it may send to the mailbox.
    fn take_where(
        &self,
        seen: &mut usize,
        is_wanted: &mut dyn FnMut(&Message) -> bool,
    ) -> Result<Message, MutexGuard<'_, MailboxState>> {
        loop {
            let mut state = self.state();
            if state.queue.len() <= *seen {
                self.found_nothing(&mut state);
                return Err(state);
            }
            let mut looked = LookedThrough { mailbox: self, messages: mem::take(&mut state.queue) };
            drop(state);
            while let Some(message) = looked.messages.get(*seen) {
                if is_wanted(message) {
                    let message = looked.messages.remove(*seen);
                    drop(looked);
                    let message = message.expect("the index was checked");
                    self.note_taken(self.state(), &message);
                    return Ok(message);
                }
                *seen += 1;
            }
        }
    }

    /// Refuses messages from now on. Returns those that were not received and not fetched. Must not be called within a batch.
    pub(crate) fn close(&self) -> VecDeque<Message> {
        let mut state = self.state();
        state.is_closed = true;
        state.fetched = 0;
        self.fetched.store(0, Ordering::Release);
        let receiver = state.receiver.take();
        let messages = mem::take(&mut state.queue);
        let waiting = state.waiting.take();
        drop(state);
        drop(receiver);
        for sender in waiting.into_iter().flat_map(|waiting| waiting.senders) {
            sender.waker.wake();
        }
        messages
    }

    /// Removes system messages that are no longer wanted.
    pub(crate) fn discard(&self, is_unwanted: impl Fn(&Message) -> bool) -> VecDeque<Message> {
        let is_wanted = |message: &Message| message.takes_room() || !is_unwanted(message);
        let mut state = self.state();
        let (wanted, unwanted): (VecDeque<_>, VecDeque<_>) =
            mem::take(&mut state.queue).into_iter().partition(is_wanted);
        state.queue = wanted;
        state.system -= u32::try_from(unwanted.len()).unwrap_or(u32::MAX);
        unwanted
    }
}

impl Fetched {
    /// Returns how many messages it has memory for.
    #[cfg(test)]
    pub(crate) fn reserved(&self) -> usize {
        self.0.as_ref().map_or(0, |messages| messages.capacity())
    }

    /// Releases unused memory if it is much.
    fn release_memory(&mut self) {
        if let Some(messages) = &mut self.0 {
            release_memory(messages);
        }
    }
}

/// Releases the memory of an empty queue if it is much.
fn release_memory<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > ROOM_KEPT {
        *queue = VecDeque::new();
    }
}

/// A receiver, which may wait. Dropping it ends the wait.
struct Receiving<'a> {
    mailbox: &'a Mailbox,
    is_waiting: bool,
}

impl Receiving<'_> {
    fn wait(
        &mut self,
        mut state: MutexGuard<'_, MailboxState>,
        waker: &Context<'_>,
        is_selective: bool,
    ) -> Poll<Message> {
        state.is_selective = is_selective;
        let before = state.receiver.replace(waker.waker().clone());
        drop(state);
        // Outside of the lock, because a waker may be the last that keeps something.
        drop(before);
        self.is_waiting = true;
        Poll::Pending
    }

    /// Returns a message. Its sender took the waker, if there was one.
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

/// Messages that the receiver looks through. They go back to the front, also if that panics.
struct LookedThrough<'a> {
    mailbox: &'a Mailbox,
    messages: VecDeque<Message>,
}

impl Drop for LookedThrough<'_> {
    fn drop(&mut self) {
        let mut state = self.mailbox.state();
        if state.is_closed {
            return;
        }
        let new = mem::replace(&mut state.queue, mem::take(&mut self.messages));
        state.queue.extend(new);
    }
}
