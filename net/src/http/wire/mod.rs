//! What arrives on a connection, as far as hyper does not report it: whether anything does, how many headers a head
//! has, how many heads come before that of the response, and how many streams a server takes at once.

mod frames;

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::frames::{ReceivedFrames, SentFrames};
use super::admission::HostSlot;
use crate::network::BoxStream;

pub(crate) use self::frames::HeadLimits;

/// How many interim responses, such as 103, may precede a response. Servers send one or two.
pub(crate) const MAX_INTERIM: usize = 32;

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
struct Streams {
    /// How many the server takes at once: one until it has said so, in its first frame.
    max: usize,
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
    last_processed: u32,
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
enum Side {
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
    fn exceeded(&mut self, stream: u32, excess: Excess) {
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

    fn open(&mut self, stream: u32) {
        if stream > self.last {
            (self.opened, self.last) = (self.opened + 1, stream);
            self.open.insert(stream, EndedSides::default());
        }
    }

    /// Notes that one side of a stream has ended. Returns whether the stream is closed then.
    fn end(&mut self, stream: u32, side: Side) -> bool {
        let Some(ended) = self.open.get_mut(&stream) else { return false };
        match side {
            Side::Sent => ended.sent = true,
            Side::Received => ended.received = true,
        }
        ended.sent && ended.received && self.open.remove(&stream).is_some()
    }

    /// Notes that a stream is reset. Returns whether it was open.
    fn reset(&mut self, stream: u32) -> bool {
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

    fn try_reserve(self: &Arc<Self>) -> Option<Reservation> {
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

    fn streams(&self) -> MutexGuard<'_, Streams> {
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
    fn add_received(&self, bytes: usize) {
        self.received.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// Returns whether the next bytes are those of a head, if they are the first after a request of HTTP/1.1.
    fn take_awaits_head(&self) -> bool {
        self.awaits_head.swap(false, Ordering::AcqRel)
    }

    /// Notes that a head has at least so many header lines.
    fn set_headers(&self, lines: usize) {
        self.headers.fetch_max(lines, Ordering::AcqRel);
    }

    fn set_flooded(&self) {
        self.is_flooded.store(true, Ordering::Release);
    }

    /// Lets a request that waits look for room.
    fn notify_room(&self) {
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

/// A stream that observes what goes over it.
pub(crate) struct Wire {
    stream: BoxStream,
    observed: Arc<Observed>,
    parser: WireParser,
    /// Given back after the stream is closed, which the order of these fields says.
    _slot: HostSlot,
}

/// Reads what goes over the stream, by the version of HTTP.
enum WireParser {
    Http1(Http1Heads),
    Http2 { received: Box<ReceivedFrames>, sent: SentFrames },
}

impl Wire {
    /// A stream that speaks HTTP/2 if there are limits for its heads.
    pub(crate) fn new(
        stream: BoxStream,
        limits: Option<HeadLimits>,
        slot: HostSlot,
    ) -> (Self, Arc<Observed>) {
        let observed = Arc::new(Observed::default());
        let parser = match limits {
            Some(limits) => WireParser::Http2 {
                received: Box::new(ReceivedFrames::new(limits)),
                sent: SentFrames::default(),
            },
            None => WireParser::Http1(Http1Heads::default()),
        };
        (Self { stream, observed: Arc::clone(&observed), parser, _slot: slot }, observed)
    }

    /// The stream, of which nothing more is observed.
    #[cfg(feature = "websocket")]
    pub(crate) fn into_inner(self) -> BoxStream {
        self.stream
    }

    fn wrote(&mut self, bytes: &[u8]) {
        if let WireParser::Http2 { sent, .. } = &mut self.parser {
            sent.wrote(bytes, &self.observed);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let WireParser::Http2 { received, .. } = &mut this.parser {
            // h2 reads again when it has processed all frames that it has.
            received.settle(&this.observed);
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let new = &buffer.filled()[before..];
        this.observed.add_received(new.len());
        let is_flooded = match &mut this.parser {
            WireParser::Http1(heads) => heads.read(new, &this.observed),
            WireParser::Http2 { received, .. } => received.read(new, &this.observed),
        };
        if is_flooded {
            this.observed.set_flooded();
            let why = format!("more than {MAX_INTERIM} interim responses");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.wrote(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let (new, _) = slice.split_at(left.min(slice.len()));
            left -= new.len();
            self.wrote(new);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Reads the heads of responses of HTTP/1.1, line by line, up to the end of the one that is not interim.
#[derive(Debug, Default)]
struct Http1Heads {
    is_in_head: bool,
    /// Complete lines of this head.
    lines: usize,
    /// Bytes of the line that is being read, without CR.
    line_len: usize,
    /// The first digit of the status, which is the tenth byte of a status line.
    class: u8,
    interim: usize,
}

impl Http1Heads {
    /// Returns whether there were too many interim responses.
    fn read(&mut self, bytes: &[u8], observed: &Observed) -> bool {
        const CLASS: usize = 9;
        if observed.take_awaits_head() {
            *self = Self { is_in_head: true, ..Self::default() };
        }
        let mut rest = bytes;
        while self.is_in_head && !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |index| index + 1);
            let piece;
            (piece, rest) = rest.split_at(end);
            let text = || piece.iter().filter(|&&byte| byte != b'\r' && byte != b'\n');
            if self.lines == 0
                && let Some(index) = CLASS.checked_sub(self.line_len)
                && let Some(&class) = text().nth(index)
            {
                self.class = class;
            }
            self.line_len += text().count();
            if !piece.ends_with(b"\n") {
                break;
            }
            match (std::mem::take(&mut self.line_len), self.lines) {
                // Empty lines before a status line do not count.
                (0, 0) => {}
                (0, _) => {
                    self.is_in_head = self.class == b'1';
                    self.interim += usize::from(self.is_in_head);
                    (self.lines, self.class) = (0, 0);
                }
                _ => {
                    self.lines += 1;
                    observed.set_headers(self.lines - 1);
                }
            }
        }
        self.interim > MAX_INTERIM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_headers_of_a_head_however_it_is_cut() {
        let text = b"HTTP/1.1 103 X\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\na\nb\nc\nd\ne\n";
        for size in 1..text.len() {
            let (observed, mut heads) = (Observed::default(), Http1Heads::default());
            observed.begin();
            for bytes in text.chunks(size) {
                assert!(!heads.read(bytes, &observed));
            }
            assert_eq!(observed.headers(), 2);
            assert_eq!(heads.interim, 1);
        }
    }

    #[test]
    fn interim_responses_of_http_1_1_are_bounded() {
        let (observed, mut heads) = (Observed::default(), Http1Heads::default());
        observed.begin();
        let hint = b"HTTP/1.1 103 Early Hints\r\n\r\n";
        assert!(!heads.read(&hint.repeat(MAX_INTERIM), &observed));
        assert!(heads.read(hint, &observed));
    }
}
