//! The mailbox of a process.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::task::coop::cooperative;

use super::message::Message;

/// An empty queue with room for more than this gives it back.
const ROOM_KEPT: usize = 64;

/// A queue of messages that many send to and one receives from. It takes no memory before there is one.
pub(super) struct Mailbox {
    /// How many of those messages it holds that [take room](Message::takes_room).
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Message>,
    /// How much room is taken: by those in the queue, by those that the receiver is looking through, and for senders that
    /// have waited and do not know it yet. Where senders wait there is no other.
    held: usize,
    /// How many the runtime itself said.
    told: usize,
    /// Those that wait for room, first come first served, by numbers that ascend.
    senders: VecDeque<Sender>,
    /// The number of the last.
    last_sender: u64,
    receiver: Option<Waker>,
    /// Whether the receiver waits for certain messages only. It has to be woken for those of senders that wait for room, too.
    is_selective: bool,
    is_closed: bool,
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
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default() }
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
        let mut state = self.state();
        if state.is_closed {
            return Err(Refused::Closed(message));
        }
        if message.takes_room() {
            if state.held >= self.capacity {
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
        if state.told >= most {
            return Err(message);
        }
        state.told += 1;
        state.queue.push_back(message);
        Ok(state.receiver.take())
    }

    /// How many messages there are that the runtime itself said.
    pub(super) fn told(&self) -> usize {
        self.state().told
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
    pub(super) fn try_receive(&self) -> Option<Message> {
        self.take(self.state()).ok()
    }

    /// Waits for a message and takes it.
    pub(super) async fn receive(&self) -> Message {
        let mut receiving = Receiving { mailbox: self, is_waiting: false };
        let receive = poll_fn(|waker| match self.take(self.state()) {
            Ok(message) => receiving.done(message),
            Err(state) => receiving.wait(state, waker, false),
        });
        // A process that always finds a message lets others run, too.
        cooperative(receive).await
    }

    /// Takes the oldest message; gives the lock back if there is none.
    fn take<'a>(&self, mut state: MutexGuard<'a, State>) -> Result<Message, MutexGuard<'a, State>> {
        let Some(message) = state.queue.pop_front() else { return Err(state) };
        self.taken(state, &message);
        Ok(message)
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
        let next = if state.held > self.capacity { None } else { state.senders.pop_front() };
        let Some(sender) = next else {
            state.held -= 1;
            return;
        };
        give_back(&mut state.senders);
        drop(state);
        sender.waker.wake();
    }

    /// Takes the oldest message that `is_wanted`, and leaves the others where they are.
    pub(super) fn try_receive_where(&self, mut is_wanted: impl FnMut(&Message) -> bool) -> Option<Message> {
        let taken = self.take_where(&mut 0, &mut is_wanted).ok();
        if taken.is_none() {
            self.let_in(&mut 0, &mut is_wanted);
        }
        taken
    }

    /// Waits for a message that `is_wanted` and takes it, and leaves the others where they are.
    pub(super) async fn receive_where(&self, mut is_wanted: impl FnMut(&Message) -> bool) -> Message {
        let mut receiving = Receiving { mailbox: self, is_waiting: false };
        let (mut seen, mut last_seen) = (0, 0);
        let receive = poll_fn(|waker| match self.take_where(&mut seen, &mut is_wanted) {
            Ok(message) => receiving.done(message),
            Err(state) => {
                let pending = receiving.wait(state, waker, true);
                // After that, so that it is woken for senders that it does not see here.
                self.let_in(&mut last_seen, &mut is_wanted);
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
            let next = state.senders.partition_point(|sender| sender.number <= *last_seen);
            let Some(sender) = state.senders.get(next) else { return };
            let (number, offer) = (sender.number, Arc::clone(&sender.message));
            drop(state);
            *last_seen = number;
            if !offer.message().as_ref().is_some_and(&mut *is_wanted) {
                continue;
            }
            let mut state = self.state();
            // It may have given up, or been let in.
            let Ok(place) = state.place(number) else { continue };
            let sender = state.senders.remove(place);
            state.held += 1;
            drop(state);
            if let Some(sender) = sender {
                sender.waker.wake();
            }
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
        let senders = mem::take(&mut state.senders);
        drop(state);
        drop(receiver);
        for sender in senders {
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
        state.told -= unwanted.len();
        unwanted
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
            None if state.held < self.mailbox.capacity => state.held += 1,
            None => {
                state.last_sender += 1;
                let number = state.last_sender;
                let message = Arc::new(Offer(Mutex::new(self.message.take())));
                self.waiting = Some((number, Arc::clone(&message)));
                state.senders.push_back(Sender { number, waker: waker.waker().clone(), message });
                let receiver = if state.is_selective { state.receiver.take() } else { None };
                drop(state);
                if let Some(receiver) = receiver {
                    receiver.wake();
                }
                return Poll::Pending;
            }
            Some((number, offer)) => {
                if let Ok(place) = state.place(*number) {
                    let before = mem::replace(&mut state.senders[place].waker, waker.waker().clone());
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
        if let Ok(place) = state.place(number) {
            let sender = state.senders.remove(place);
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

impl State {
    /// Where a sender waits; an error if it does not any more.
    fn place(&self, number: u64) -> Result<usize, usize> {
        self.senders.binary_search_by_key(&number, |sender| sender.number)
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::Pin;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A message of somebody, which takes room.
    fn sent(number: u64) -> Message {
        Message::Sent { from: None, payload: json!(number).into(), reply: None }
    }

    /// What the runtime says, which takes none.
    fn told(number: u64) -> Message {
        Message::Cancelled { reason: number.to_string().into(), deadline: None }
    }

    fn number_of(message: &Message) -> u64 {
        match message {
            Message::Sent { payload, .. } => payload.as_json().unwrap().as_u64().unwrap(),
            Message::Cancelled { reason, .. } => reason.parse().unwrap(),
            other => unreachable!("{other:?}"),
        }
    }

    /// How much the runtime says before that is too much.
    const MOST_TOLD: usize = 3;

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
        fn new(mailbox: &Arc<Mailbox>, divisor: Option<u64>) -> Self {
            let mailbox = Arc::clone(mailbox);
            let polled = Polled::new(async move {
                match divisor {
                    None => mailbox.receive().await,
                    Some(divisor) => mailbox.receive_where(|it| number_of(it).is_multiple_of(divisor)).await,
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
        ]
    }

    /// What a mailbox is meant to be: lists.
    struct Model {
        capacity: usize,
        queue: Vec<Message>,
        /// Senders that wait, and then those for whom room is kept, by number.
        waiting: Vec<u64>,
        granted: Vec<u64>,
        is_closed: bool,
    }

    impl Model {
        fn held(&self) -> usize {
            self.queue.iter().filter(|message| message.takes_room()).count() + self.granted.len()
        }

        fn has_room(&self) -> bool {
            self.held() < self.capacity
        }

        fn grant(&mut self) {
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
                let number = self.waiting.remove(place);
                self.granted.push(number);
            }
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
                let is_told = self.is_closed || self.granted.contains(number);
                assert_eq!(sender.is_woken(), is_told, "{number}");
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
        let mut model = Model { capacity, queue: vec![], waiting: vec![], granted: vec![], is_closed: false };
        let mut senders: Vec<(u64, Sender)> = vec![];
        let mut receiver: Option<Receiver> = None;
        for (number, step) in (1..).zip(steps) {
            match step {
                Step::TrySend => match mailbox.try_send(sent(number)) {
                    Ok(()) => {
                        assert!(!model.is_closed && model.has_room());
                        model.queue.push(sent(number));
                    }
                    Err(Refused::Full(it)) => {
                        assert!(!model.is_closed && !model.has_room());
                        assert_eq!(number_of(&it), number);
                    }
                    Err(Refused::Closed(_)) => assert!(model.is_closed),
                },
                Step::Tell => {
                    let unread = model.queue.iter().filter(|message| !message.takes_room()).count();
                    let is_told = mailbox.tell(told(number), MOST_TOLD).map(|it| it.map(Waker::wake)).is_ok();
                    assert_eq!(is_told, model.is_closed || unread < MOST_TOLD);
                    if is_told && !model.is_closed {
                        model.queue.push(told(number));
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
                    assert_eq!(mailbox.try_receive().as_ref().map(number_of), model.take(place));
                }
                Step::ReceiveWhere(divisor) if receiver.is_none() => {
                    let is_wanted = |it: &Message| number_of(it).is_multiple_of(divisor);
                    let place = model.queue.iter().position(is_wanted);
                    let message = mailbox.try_receive_where(is_wanted);
                    assert_eq!(message.as_ref().map(number_of), model.take(place));
                    if message.is_none() {
                        model.let_in(|number| number.is_multiple_of(divisor));
                    }
                }
                Step::Wait | Step::WaitWhere(_) => {
                    let divisor = if let Step::WaitWhere(divisor) = step { Some(divisor) } else { None };
                    let waits = receiver.get_or_insert_with(|| Receiver::new(&mailbox, divisor));
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
                    let left: Vec<_> = mailbox.close().iter().map(number_of).collect();
                    assert_eq!(left, model.queue.drain(..).map(|it| number_of(&it)).collect::<Vec<_>>());
                    model.is_closed = true;
                }
                _ => (),
            }
            model.compare(&mailbox, &senders, receiver.as_ref());
        }
    }

    proptest! {
        #[test]
        fn it_does_what_lists_would(
            capacity in 1..5_usize,
            mut steps in prop::collection::vec(step(), 1..100),
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
        assert_eq!(mailbox.try_receive().as_ref().map(number_of), Some(0));
        assert!(first.is_woken() && !second.is_woken());
        let mut later = send(&mailbox, sent(3));
        assert!(later.poll().is_pending() && matches!(mailbox.try_send(sent(4)), Err(Refused::Full(_))));
        drop(first);
        assert!(second.is_woken(), "what was kept for the first is that of the second");
        assert!(matches!(second.poll(), Poll::Ready(None)));
        assert_eq!(mailbox.try_receive().as_ref().map(number_of), Some(2));
        assert!(matches!(later.poll(), Poll::Ready(None)));
    }

    #[test]
    fn a_receiver_finds_what_it_wants_although_others_have_filled_the_mailbox() {
        let mailbox = Arc::new(Mailbox::new(1));
        mailbox.try_send(sent(1)).unwrap();
        let mut receiver = Receiver::new(&mailbox, Some(2));
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
        assert_eq!(mailbox.try_receive().as_ref().map(number_of), Some(1));
        assert!(matches!(other.poll(), Poll::Ready(None)));
    }

    #[test]
    fn what_panics_or_closes_it_in_the_middle_of_a_look_leaves_it_whole() {
        let mailbox = Mailbox::new(3);
        for number in 0..3 {
            mailbox.try_send(sent(number)).unwrap();
        }
        let panics = |message: &Message| {
            mailbox.tell(told(7), MOST_TOLD).unwrap();
            assert!(number_of(message) < 1);
            false
        };
        catch_unwind(AssertUnwindSafe(|| mailbox.try_receive_where(panics))).unwrap_err();
        let numbers: Vec<_> = std::iter::from_fn(|| mailbox.try_receive()).map(|it| number_of(&it)).collect();
        assert_eq!(numbers, [0, 1, 2, 7, 7], "what came meanwhile is behind");

        mailbox.try_send(sent(0)).unwrap();
        let taken = mailbox.try_receive_where(|_| {
            assert!(mailbox.close().is_empty());
            false
        });
        assert!(taken.is_none());
        assert_eq!(mailbox.len(), 0);
        assert!(matches!(mailbox.try_send(sent(1)), Err(Refused::Closed(_))));
    }

    #[test]
    fn it_keeps_no_room_for_a_rush_that_is_over() {
        let mailbox = Mailbox::new(10_000);
        assert_eq!(mailbox.state().queue.capacity(), 0);
        for number in 0..10_000 {
            mailbox.try_send(sent(number)).unwrap();
        }
        while mailbox.try_receive().is_some() {}
        assert!(mailbox.state().queue.capacity() <= ROOM_KEPT);
    }
}
