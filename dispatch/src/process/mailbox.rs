//! The mailbox of a process.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::mem;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use tokio::task::coop::cooperative;

use super::batch;
use super::message::Message;
use super::sync::{Arc, AtomicU32, Mutex, MutexGuard, Ordering};

/// An empty queue with room for more than this gives it back.
pub(super) const ROOM_KEPT: usize = 64;

/// A receiver fetches all messages at once if there are so many. Fewer are received one by one.
const FETCHED_AT: usize = 4;

/// Senders that wait are owed room for no more messages than this from one poll of the receiver to the next. However large the
/// mailbox is, the receiver may take long for each message.
const MOST_OWED: u32 = 512;

/// A queue of messages that many send to and one receives from. It takes no memory before there is one.
pub(super) struct Mailbox {
    /// How many of those messages it holds that [take room](Message::takes_room).
    capacity: u32,
    /// How many [fetched](Fetched) messages are not received yet. Changed under the lock, or by the receiver within its
    /// [batch](batch::Batch) without it.
    fetched: AtomicU32,
    state: Mutex<State>,
}

/// The messages that the receiver has fetched from the queue and not received yet, oldest first. All of them take room.
///
/// Within its batch it receives them without the lock, for which it would contend with its senders. Outside of it they go back
/// first: the room that they leave would not be given to senders that wait.
#[derive(Debug, Default)]
pub(super) struct Fetched(
    // On the heap, because few processes have any, and the future of each has room for this.
    #[allow(clippy::box_collection)] Option<Box<VecDeque<Message>>>,
);

struct State {
    queue: VecDeque<Message>,
    /// How much room is taken: by those in the queue, by those that the receiver is looking through, and for senders that
    /// have waited and do not know it yet. Where senders wait there is no other. Messages that were fetched hold theirs until
    /// [`settle`](Mailbox::settle) sees that they were received.
    held: u32,
    /// How many fetched messages hold room.
    fetched: u32,
    /// How many the runtime itself said.
    told: u32,
    /// Mailboxes that were never full take no memory for it.
    line: Option<Box<Line>>,
    receiver: Option<Waker>,
    /// Whether the receiver waits for certain messages only. It has to be woken for those of senders that wait for room, too.
    is_selective: bool,
    /// Whether messages may be [fetched](Fetched). Other receivers do not see those.
    is_fetched: bool,
    is_closed: bool,
}

impl State {
    /// Whether senders are [owed](Line::owed) room.
    fn owes_room(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.owed > 0)
    }
}

/// Those that wait for room, first come first served.
#[derive(Default)]
struct Line {
    /// By their numbers, which ascend.
    senders: VecDeque<Sender>,
    /// The number of the last.
    last: u64,
    /// How much room that is held is free again, and is given to them when the receiver's [batch](batch::Batch) ends, or when the
    /// receiver finds no message.
    owed: u32,
}

/// A sender that waits for room.
struct Sender {
    number: u64,
    waker: Waker,
    message: Arc<Offer>,
}

/// The message of a sender that waits, for both the sender and a receiver that looks at it.
#[derive(Default)]
struct Offer(Mutex<Option<Message>>);

impl Offer {
    fn message(&self) -> MutexGuard<'_, Option<Message>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    /// An empty mailbox, with room for `capacity` messages and no more than 2³² − 1.
    pub(super) fn new(capacity: usize) -> Self {
        let state = State {
            queue: VecDeque::new(),
            held: 0,
            fetched: 0,
            told: 0,
            line: None,
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        let state = self.state();
        let fetched = self.fetched.load(Ordering::Acquire);
        state.queue.len().saturating_add(usize::try_from(fetched).unwrap_or(usize::MAX))
    }

    /// How many messages the queue has memory for.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.state().queue.capacity()
    }

    /// Whether the process waits for a message.
    pub(super) fn is_waited_at(&self) -> bool {
        self.state().receiver.is_some()
    }

    /// Puts a message into it, if there is room.
    pub(super) fn try_send(&self, message: Message) -> Result<(), Refused> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Refused::Closed(message));
        }
        if message.takes_room() {
            if !self.has_room(&mut state) {
                return Err(Refused::Full(message));
            }
            state.held += 1;
        }
        Self::put(state, message);
        Ok(())
    }

    /// Puts what the runtime itself says into it, unless it is closed, or there are `most` of those. Gives whom to wake, for
    /// whoever holds a lock.
    pub(super) fn tell(&self, message: Message, most: usize) -> Result<Option<Waker>, Message> {
        let mut state = self.state();
        if state.is_closed {
            return Ok(None);
        }
        if usize::try_from(state.told).is_ok_and(|told| told >= most) {
            return Err(message);
        }
        state.told += 1;
        state.queue.push_back(message);
        Ok(state.receiver.take())
    }

    /// How many messages there are that the runtime itself said.
    pub(super) fn told(&self) -> u32 {
        self.state().told
    }

    /// Whether the runtime itself said as much as there is room for messages.
    pub(super) fn is_crowded(&self) -> bool {
        let state = self.state();
        state.told >= self.capacity
    }

    /// Returns whether there is room for a message.
    fn has_room(&self, state: &mut State) -> bool {
        if state.held >= self.capacity {
            self.settle(state);
        }
        state.held < self.capacity
    }

    /// Frees the room of messages that were fetched and then received. If senders wait for it, they get it when the batch ends.
    fn settle(&self, state: &mut State) {
        let left = self.fetched.load(Ordering::Acquire);
        let received = mem::replace(&mut state.fetched, left) - left;
        let line = state.line.as_deref_mut().filter(|line| !line.senders.is_empty());
        let owed = match line {
            // More is held than there is room for if a sender was let in because its message was waited for.
            Some(line) => {
                let owed = received - received.min(state.held.saturating_sub(self.capacity));
                line.owed += owed;
                owed
            }
            None => 0,
        };
        state.held -= received - owed;
    }

    /// Puts a message where there is room for it.
    fn put(mut state: MutexGuard<'_, State>, message: Message) {
        state.queue.push_back(message);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// Puts a message into it as soon as there is room. The message stays where it is if there never will be, because the
    /// mailbox is closed; or where this is dropped.
    pub(super) async fn send(&self, message: &mut Option<Message>) {
        let mut sending = Sending { mailbox: self, message, waiting: None };
        poll_fn(|waker| sending.poll(waker)).await;
    }

    /// Takes the oldest message.
    pub(super) fn try_receive(&self, fetched: &mut Fetched) -> Option<Message> {
        match self.take(fetched) {
            Ok(message) => Some(message),
            Err(state) => {
                fetched.give_back();
                let owes_room = state.owes_room();
                drop(state);
                self.give_if(owes_room);
                None
            }
        }
    }

    /// Waits for a message and takes it.
    //
    // Not an `async fn`, whose future would have room for its arguments twice.
    pub(super) fn receive<'a>(&'a self, fetched: &'a mut Fetched) -> impl Future<Output = Message> + 'a {
        let mut receiving = Receiving { mailbox: self, is_waiting: false };
        let receive = poll_fn(move |waker| match receiving.mailbox.take(fetched) {
            Ok(message) => receiving.done(message),
            Err(state) => {
                fetched.give_back();
                let owes_room = state.owes_room();
                let pending = receiving.wait(state, waker, false);
                receiving.mailbox.give_if(owes_room);
                pending
            }
        });
        // A process that always finds a message lets others run, too.
        cooperative(receive)
    }

    /// Takes the oldest message; gives the lock back if there is none.
    fn take(&self, fetched: &mut Fetched) -> Result<Message, MutexGuard<'_, State>> {
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
        // What the runtime itself said may be discarded, so it stays.
        if state.queue.len() >= FETCHED_AT && state.told == 0 && state.is_fetched && batch::is_open(self) {
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
        self.taken(state, &message);
        Ok(message)
    }

    /// Notes that the receiver has received all that it fetched, and found nothing more that it wants.
    fn found_nothing(&self, state: &mut State) {
        // The queue may have the memory of what was fetched last.
        give_back(&mut state.queue);
        self.settle(state);
    }

    /// Turns fetching off: messages are received one by one from now on, also by several receivers in turn.
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(super) fn fetch_no_more(&self) {
        self.state().is_fetched = false;
    }

    fn note_fetched(&self, messages: &VecDeque<Message>) {
        self.fetched.store(Self::count(messages), Ordering::Release);
    }

    /// How many messages these are, each of which takes room.
    fn count(messages: &VecDeque<Message>) -> u32 {
        u32::try_from(messages.len()).unwrap_or(u32::MAX)
    }

    /// Puts the messages that were fetched and not received back to the front, if there are any. Where the mailbox is closed
    /// they are dropped.
    pub(super) fn put_back(&self, fetched: &mut Fetched) {
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

    /// A message is taken out.
    fn taken(&self, mut state: MutexGuard<'_, State>, message: &Message) {
        give_back(&mut state.queue);
        if message.takes_room() {
            self.free(state);
        } else {
            state.told -= 1;
        }
    }

    /// Room for a message is free: that of whoever waits longest, or else anybody's.
    fn free(&self, mut state: MutexGuard<'_, State>) {
        // More is held than there is room for if a sender was let in because its message was waited for.
        let line = if state.held > self.capacity { None } else { state.line.as_deref_mut() };
        let Some(line) = line.filter(|line| !line.senders.is_empty()) else {
            state.held -= 1;
            return;
        };
        if batch::is_open(self) {
            line.owed += 1;
            return;
        }
        let sender = line.pop();
        drop(state);
        if let Some(sender) = sender {
            sender.waker.wake();
        }
    }

    /// Gives the room that is owed, because the receiver found nothing. It may block its thread until more comes, and its batch
    /// would not end before that.
    fn give_if(&self, owes_room: bool) {
        if owes_room {
            self.end_batch();
        }
    }

    /// Returns whether it [owes](Line::owed) room to senders that wait, but less than half of all, and less than [`MOST_OWED`].
    pub(super) fn owes_little(&self) -> bool {
        let mut state = self.state();
        self.settle(&mut state);
        let owed = state.line.as_ref().map_or(0, |line| line.owed);
        owed > 0 && owed < MOST_OWED.min(self.capacity / 2)
    }

    /// Frees the room that the receiver made in its batch, and wakes senders for what is [owed](Line::owed) to them.
    pub(super) fn end_batch(&self) {
        let mut state = self.state();
        self.settle(&mut state);
        let Some(line) = state.line.as_deref_mut() else { return };
        let owed = mem::take(&mut line.owed);
        let senders: Vec<Sender> = (0..owed).map_while(|_| line.pop()).collect();
        // For each of them it is still held.
        state.held -= owed - u32::try_from(senders.len()).unwrap_or(owed);
        drop(state);
        for sender in senders {
            sender.waker.wake();
        }
    }

    /// Takes the oldest message that `is_wanted`, and leaves the others where they are.
    pub(super) fn try_receive_where(
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
                self.give_if(owes_room);
                None
            }
        }
    }

    /// Waits for a message that `is_wanted` and takes it, and leaves the others where they are.
    pub(super) async fn receive_where(
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
                // After that, so that it is woken for senders that it does not see here.
                self.let_in(&mut last_seen, &mut is_wanted);
                self.give_if(owes_room);
                pending
            }
        });
        cooperative(receive).await
    }

    /// Lets in the first sender after `last_seen` that waits for room with a message that is wanted. Otherwise a full mailbox
    /// would keep out what its receiver waits for.
    fn let_in(&self, last_seen: &mut u64, is_wanted: &mut dyn FnMut(&Message) -> bool) {
        loop {
            let state = self.state();
            // A receiver that gave up before what was let in arrived has left it in the mailbox.
            if state.held >= self.capacity.saturating_mul(2) {
                return;
            }
            let Some(sender) = state.line.as_ref().and_then(|line| line.after(*last_seen)) else { return };
            let (number, offer) = (sender.number, Arc::clone(&sender.message));
            drop(state);
            *last_seen = number;
            if !offer.message().as_ref().is_some_and(&mut *is_wanted) {
                continue;
            }
            let mut state = self.state();
            // It may have given up, or been let in.
            let Some(line) = &mut state.line else { continue };
            let Some(sender) = line.remove(number) else { continue };
            if line.owed > 0 {
                line.owed -= 1;
            } else {
                state.held += 1;
            }
            drop(state);
            sender.waker.wake();
            return;
        }
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
                self.found_nothing(&mut state);
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

    /// Refuses messages from now on, and returns those that wait and were not fetched. Must not be called within a batch.
    pub(super) fn close(&self) -> VecDeque<Message> {
        let mut state = self.state();
        state.is_closed = true;
        state.fetched = 0;
        self.fetched.store(0, Ordering::Release);
        let receiver = state.receiver.take();
        let messages = mem::take(&mut state.queue);
        let line = state.line.take();
        drop(state);
        drop(receiver);
        for sender in line.into_iter().flat_map(|line| line.senders) {
            sender.waker.wake();
        }
        messages
    }

    /// Takes out what the runtime itself said and is no longer wanted.
    pub(super) fn discard(&self, is_unwanted: impl Fn(&Message) -> bool) -> VecDeque<Message> {
        let is_wanted = |message: &Message| message.takes_room() || !is_unwanted(message);
        let mut state = self.state();
        let (wanted, unwanted): (VecDeque<_>, VecDeque<_>) =
            mem::take(&mut state.queue).into_iter().partition(is_wanted);
        state.queue = wanted;
        state.told -= u32::try_from(unwanted.len()).unwrap_or(u32::MAX);
        unwanted
    }
}

impl Fetched {
    /// How many messages it has memory for.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.0.as_ref().map_or(0, |messages| messages.capacity())
    }

    /// Frees unused memory, if it is much.
    fn give_back(&mut self) {
        if let Some(messages) = &mut self.0 {
            give_back(messages);
        }
    }
}

/// Gives back the memory of an empty queue, if it is much.
fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > ROOM_KEPT {
        *queue = VecDeque::new();
    }
}

/// A sender, which may wait. Where it is dropped as it does, the room that is kept for it is that of the next.
struct Sending<'a> {
    mailbox: &'a Mailbox,
    /// What it sends, unless it waits.
    message: &'a mut Option<Message>,
    /// The number by which it waits, and what it sends.
    waiting: Option<(u64, Arc<Offer>)>,
}

impl Sending<'_> {
    fn poll(&mut self, waker: &Context<'_>) -> Poll<()> {
        let mut state = self.mailbox.state();
        if state.is_closed {
            return Poll::Ready(());
        }
        match &self.waiting {
            None if self.mailbox.has_room(&mut state) => state.held += 1,
            None => {
                let message = Arc::new(Offer(Mutex::new(self.message.take())));
                let number =
                    state.line.get_or_insert_default().push(waker.waker().clone(), Arc::clone(&message));
                self.waiting = Some((number, message));
                let receiver = if state.is_selective { state.receiver.take() } else { None };
                drop(state);
                if let Some(receiver) = receiver {
                    receiver.wake();
                }
                return Poll::Pending;
            }
            Some((number, offer)) => {
                if let Some(sender) = state.line.as_mut().and_then(|line| line.get_mut(*number)) {
                    let before = mem::replace(&mut sender.waker, waker.waker().clone());
                    drop(state);
                    // Outside of the lock, because a waker may be the last that keeps something.
                    drop(before);
                    return Poll::Pending;
                }
                // What made room for it took it from the line. A receiver may still look at the message, and take the lock of the
                // mailbox meanwhile.
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
        // That is still of those that wait.
        self.mailbox.settle(&mut state);
        if let Some(sender) = state.line.as_mut().and_then(|line| line.remove(number)) {
            drop(state);
            drop(sender);
        } else if state.is_closed {
            drop(state);
        } else {
            // The receiver may have let it in, and looks for another then.
            receiver = if state.is_selective { state.receiver.take() } else { None };
            self.mailbox.free(state);
        }
        *self.message = offer.message().take();
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

impl Line {
    /// Adds a sender and returns its number.
    fn push(&mut self, waker: Waker, message: Arc<Offer>) -> u64 {
        self.last += 1;
        self.senders.push_back(Sender { number: self.last, waker, message });
        self.last
    }

    /// Removes the sender that waits longest.
    fn pop(&mut self) -> Option<Sender> {
        let sender = self.senders.pop_front();
        give_back(&mut self.senders);
        sender
    }

    /// The first sender after the one of this number.
    fn after(&self, number: u64) -> Option<&Sender> {
        self.senders.get(self.senders.partition_point(|sender| sender.number <= number))
    }

    /// A sender, if it still waits.
    fn get_mut(&mut self, number: u64) -> Option<&mut Sender> {
        let place = self.place(number)?;
        self.senders.get_mut(place)
    }

    fn remove(&mut self, number: u64) -> Option<Sender> {
        let place = self.place(number)?;
        self.senders.remove(place)
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.senders.binary_search_by_key(&number, |sender| sender.number).ok()
    }
}

/// A receiver, which may wait. Where it is dropped as it does, it does so no more.
struct Receiving<'a> {
    mailbox: &'a Mailbox,
    is_waiting: bool,
}

impl Receiving<'_> {
    fn wait(
        &mut self,
        mut state: MutexGuard<'_, State>,
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
