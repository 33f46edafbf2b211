//! What was observed on a connection, and the streams of HTTP/2: hyper does not tell how many the server takes at once, nor
//! whether a request that failed was sent.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What of a head exceeds its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    Bytes,
    Fields,
}

/// What the connection knows of a request without a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost {
    /// Nothing of the request was sent.
    pub(crate) is_unsent: bool,
    /// Its stream is above those of the server's GOAWAY.
    pub(crate) is_unprocessed: bool,
    /// No byte of a response was received. Over HTTP/2 only an error of the whole connection leaves that open.
    pub(crate) is_unanswered: bool,
    /// What of the head of the response was too much.
    pub(crate) excess: Option<Excess>,
}

/// What was observed on a connection. Its stream writes it, and the requests over it read it.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Bytes received since the connection was opened.
    received: AtomicU64,
    /// Set when a request of HTTP/1.1 is sent: the next bytes are those of a head.
    awaits_head: AtomicBool,
    /// The most header lines in one head since the last request of HTTP/1.1.
    headers: AtomicUsize,
    /// There were more interim responses than there may be. hyper's error does not carry it for HTTP/2.
    is_flooded: AtomicBool,
    /// The streams of HTTP/2.
    streams: Mutex<Streams>,
    /// There may be room for another stream.
    has_room: Notify,
}

/// The streams of a connection, as the frames show them that are sent and received.
#[derive(Debug)]
pub(crate) struct Streams {
    /// How many the server takes at once: one until it has said so, in its first frame.
    pub(crate) max: usize,
    /// Requests that are about to be handed to hyper.
    reserved: usize,
    /// Requests that were handed to hyper, which opens their streams in this order.
    handed: u64,
    /// Those of them that were given up before their streams were opened.
    abandoned: u64,
    /// Those that were neither answered nor given up, by their place among all, with the place of the stream of each among
    /// all streams. Where an earlier request is given up it may be a later stream, and is never an earlier one.
    waiting: BTreeMap<u64, u64>,
    /// Streams that were opened so far, and the number of the last one.
    opened: u64,
    last: u32,
    /// Those that are not closed, and what has ended of them.
    open: BTreeMap<u32, EndedSides>,
    /// The last stream that the server may process, by its GOAWAY.
    pub(crate) last_processed: u32,
    /// Streams with heads that are too large.
    exceeded: BTreeMap<u32, Excess>,
}

/// Which sides of a stream have ended.
#[derive(Debug, Default)]
struct EndedSides {
    sent: bool,
    received: bool,
}

/// A direction of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    Sent,
    Received,
}

impl Default for Streams {
    fn default() -> Self {
        let (handed, abandoned, opened) = (0, 0, 0);
        let (waiting, open) = (BTreeMap::new(), BTreeMap::new());
        Self {
            max: 1,
            reserved: 0,
            handed,
            abandoned,
            waiting,
            opened,
            last: 0,
            open,
            last_processed: u32::MAX,
            exceeded: BTreeMap::new(),
        }
    }
}

impl Streams {
    fn has_room(&self) -> bool {
        let unopened = self.handed.saturating_sub(self.abandoned).saturating_sub(self.opened);
        let unopened = usize::try_from(unopened).unwrap_or(usize::MAX);
        self.reserved.saturating_add(unopened).saturating_add(self.open.len()) < self.max
    }

    /// Notes that a request is handed to hyper, and returns its place among all.
    fn hand(&mut self) -> u64 {
        self.handed += 1;
        self.waiting.insert(self.handed, self.handed - self.abandoned);
        self.handed
    }

    /// Notes that the request was given up. Returns whether its stream had not been opened.
    fn abandon(&mut self, number: u64) -> bool {
        let is_unopened = self.waiting.remove(&number).is_some_and(|index| self.opened < index);
        if is_unopened {
            self.abandoned += 1;
            for index in self.waiting.range_mut(number..).map(|(_, index)| index) {
                *index -= 1;
            }
        }
        is_unopened
    }

    /// Notes that a head is too large.
    pub(crate) fn exceeded(&mut self, stream: u32, excess: Excess) {
        /// The requests of earlier ones have failed by now.
        const MAX: usize = 64;
        self.exceeded.insert(stream, excess);
        if self.exceeded.len() > MAX {
            self.exceeded.pop_first();
        }
    }

    /// What is too much in a head of the first of these streams that has such a head.
    fn take_excess(&mut self, streams: RangeInclusive<u32>) -> Option<Excess> {
        let stream = *self.exceeded.range(streams).next()?.0;
        self.exceeded.remove(&stream)
    }

    pub(crate) fn open(&mut self, stream: u32) {
        if stream > self.last {
            (self.opened, self.last) = (self.opened + 1, stream);
            self.open.insert(stream, EndedSides::default());
        }
    }

    /// Notes that one side of a stream has ended. Returns whether the stream is closed then.
    pub(crate) fn end(&mut self, stream: u32, side: Side) -> bool {
        let Some(ended) = self.open.get_mut(&stream) else { return false };
        match side {
            Side::Sent => ended.sent = true,
            Side::Received => ended.received = true,
        }
        ended.sent && ended.received && self.open.remove(&stream).is_some()
    }

    /// Notes that a stream is reset. Returns whether it was open.
    pub(crate) fn reset(&mut self, stream: u32) -> bool {
        self.open.remove(&stream).is_some()
    }
}

/// The place of a request among the streams of a connection, before it is sent.
#[derive(Debug)]
pub(crate) struct Reservation(Arc<Observed>);

impl Reservation {
    /// Does `hand`, which hands a request to hyper.
    pub(crate) fn hand<T>(self, hand: impl FnOnce() -> T) -> (T, HandedRequest) {
        let observed = Arc::clone(&self.0);
        let mut streams = observed.streams();
        let number = streams.hand();
        let handed = hand();
        drop(streams);
        (handed, HandedRequest { observed, number })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.streams().reserved -= 1;
        self.0.has_room.notify_one();
    }
}

/// A request that was handed to hyper, and has not failed or been answered yet.
#[derive(Debug)]
pub(crate) struct HandedRequest {
    observed: Arc<Observed>,
    number: u64,
}

/// The stream of a request that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnsweredStream {
    stream: u32,
    /// Whether it is that one. It may be a later one if requests were given up before.
    is_exact: bool,
}

impl HandedRequest {
    /// The request was answered.
    pub(crate) fn answered(self) -> AnsweredStream {
        let mut streams = self.observed.streams();
        let index = streams.waiting.remove(&self.number).unwrap_or_default();
        AnsweredStream { stream: number_of(index), is_exact: streams.abandoned == 0 }
    }

    /// The request has failed.
    pub(crate) fn failed(self) -> Lost {
        let mut streams = self.observed.streams();
        let index = streams.waiting.get(&self.number).copied().unwrap_or_default();
        let stream = number_of(index);
        Lost {
            is_unsent: streams.opened < index,
            is_unprocessed: stream > streams.last_processed,
            is_unanswered: true,
            excess: streams.take_excess(stream..=u32::MAX),
        }
    }
}

impl Drop for HandedRequest {
    fn drop(&mut self) {
        let is_unopened = self.observed.streams().abandon(self.number);
        if is_unopened {
            self.observed.has_room.notify_one();
        }
    }
}

/// The number of a stream by its place among all: a client's have the odd numbers.
fn number_of(index: u64) -> u32 {
    u32::try_from((2 * index).saturating_sub(1)).unwrap_or(u32::MAX)
}

impl Observed {
    /// What is too much in the trailers of the response to a request.
    pub(crate) fn take_excess(&self, answered: AnsweredStream) -> Option<Excess> {
        let AnsweredStream { stream, is_exact } = answered;
        let last = if is_exact { stream } else { u32::MAX };
        self.streams().take_excess(stream..=last)
    }

    /// Waits until the server takes another stream. Returns nothing once `spent` is cancelled.
    ///
    /// hyper would queue the request. If the connection then ends, it does not tell whether the request was sent.
    pub(crate) async fn reserve(self: &Arc<Self>, spent: &CancellationToken) -> Option<Reservation> {
        loop {
            if let Some(reservation) = self.try_reserve() {
                return Some(reservation);
            }
            // A permit is kept for who begins to wait after there was room.
            spent.run_until_cancelled(self.has_room.notified()).await?;
        }
    }

    pub(super) fn try_reserve(self: &Arc<Self>) -> Option<Reservation> {
        let mut streams = self.streams();
        if !streams.has_room() {
            return None;
        }
        streams.reserved += 1;
        if streams.has_room() {
            // More may have ended than requests were told.
            self.has_room.notify_one();
        }
        Some(Reservation(Arc::clone(self)))
    }

    pub(crate) fn streams(&self) -> MutexGuard<'_, Streams> {
        // Nothing in here panics in the middle of a change.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request is sent. Returns how many bytes had been received before.
    pub(crate) fn begin(&self) -> u64 {
        self.headers.store(0, Ordering::Relaxed);
        self.awaits_head.store(true, Ordering::Release);
        self.received()
    }

    /// Notes that bytes were received.
    pub(crate) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// Returns whether the next bytes are those of a head, if they are the first after a request of HTTP/1.1.
    pub(crate) fn take_awaits_head(&self) -> bool {
        self.awaits_head.swap(false, Ordering::AcqRel)
    }

    /// Notes that a head has at least so many header lines.
    pub(crate) fn set_headers(&self, lines: usize) {
        self.headers.fetch_max(lines, Ordering::AcqRel);
    }

    pub(crate) fn set_flooded(&self) {
        self.is_flooded.store(true, Ordering::Release);
    }

    /// Lets a request that waits look for room.
    pub(crate) fn notify_room(&self) {
        self.has_room.notify_one();
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    pub(crate) fn headers(&self) -> usize {
        self.headers.load(Ordering::Acquire)
    }

    pub(crate) fn is_flooded(&self) -> bool {
        self.is_flooded.load(Ordering::Acquire)
    }
}
