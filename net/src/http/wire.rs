//! What arrives on a connection, as far as hyper does not report it: whether anything does, how many headers a head
//! has, how many heads come before the one of the response, and how many streams a server takes at once.

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

use super::fields::{Excess, FieldCounter, HeadLimits};
use super::host_limit::HostSlot;
use super::retry::Lost;
use crate::network::BoxStream;

/// How many interim responses, such as 103, may precede a response. Servers send one or two.
pub(super) const MAX_INTERIM: usize = 32;

/// What was observed on a connection. Its stream writes it, and the requests over it read it.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Bytes received since the connection was opened.
    received: AtomicU64,
    /// Set when a request of HTTP/1.1 is sent: the next bytes are those of a head.
    awaits_head: AtomicBool,
    /// The most header lines in one head since the last request of HTTP/1.1.
    headers: AtomicUsize,
    /// There were more than [`MAX_INTERIM`] interim responses. hyper's error does not carry it for HTTP/2.
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
    open: BTreeMap<u32, Ended>,
    /// The last stream that the server may process, by its GOAWAY.
    last_processed: u32,
    /// Streams with heads that are too large.
    exceeded: BTreeMap<u32, Excess>,
}

#[derive(Debug, Default)]
struct Ended {
    sent: bool,
    received: bool,
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
            self.open.insert(stream, Ended::default());
        }
    }

    /// Notes the end of a stream, if `frame` has it. Returns whether the stream is closed then.
    fn ended(&mut self, frame: FrameHeader, side: fn(&mut Ended) -> &mut bool) -> bool {
        let Some(ended) = self.open.get_mut(&frame.stream) else { return false };
        if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
            *side(ended) = true;
        }
        let is_closed = frame.kind == RST_STREAM || ended.sent && ended.received;
        if is_closed {
            self.open.remove(&frame.stream);
        }
        is_closed
    }
}

/// The place of a request among the streams of a connection, before it is sent.
#[derive(Debug)]
pub(super) struct Reservation(Arc<Observed>);

impl Reservation {
    /// Does `hand`, which hands a request to hyper.
    pub(super) fn hand<T>(self, hand: impl FnOnce() -> T) -> (T, Handed) {
        let observed = Arc::clone(&self.0);
        let mut streams = observed.streams();
        let number = streams.hand();
        let handed = hand();
        drop(streams);
        (handed, Handed { observed, number })
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
pub(super) struct Handed {
    observed: Arc<Observed>,
    number: u64,
}

/// The stream of a request that was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    stream: u32,
    /// Whether it is that one. It may be a later one if requests were given up before.
    is_exact: bool,
}

impl Handed {
    /// The request was answered.
    pub(super) fn answered(self) -> Answered {
        let mut streams = self.observed.streams();
        let index = streams.waiting.remove(&self.number).unwrap_or_default();
        Answered { stream: number_of(index), is_exact: streams.abandoned == 0 }
    }

    /// The request has failed.
    pub(super) fn failed(self) -> Lost {
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

impl Drop for Handed {
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
    pub(super) fn take_excess(&self, answered: Answered) -> Option<Excess> {
        let Answered { stream, is_exact } = answered;
        let last = if is_exact { stream } else { u32::MAX };
        self.streams().take_excess(stream..=last)
    }

    /// Waits until the server takes another stream. Returns nothing once `spent` is cancelled.
    ///
    /// hyper would queue the request. If the connection then ends, it does not tell whether the request was sent.
    pub(super) async fn reserve(self: &Arc<Self>, spent: &CancellationToken) -> Option<Reservation> {
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
    pub(super) fn begin(&self) -> u64 {
        self.headers.store(0, Ordering::Relaxed);
        self.awaits_head.store(true, Ordering::Release);
        self.received()
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    pub(super) fn headers(&self) -> usize {
        self.headers.load(Ordering::Acquire)
    }

    pub(super) fn is_flooded(&self) -> bool {
        self.is_flooded.load(Ordering::Acquire)
    }
}

/// A stream that observes what goes over it.
pub(super) struct Wire {
    stream: BoxStream,
    observed: Arc<Observed>,
    parser: Parser,
    /// Given back after the stream is closed, which the order of these fields says.
    _slot: HostSlot,
}

enum Parser {
    Http1(Heads),
    Http2 { received: Box<Frames>, sent: SentFrames },
}

impl Wire {
    /// A stream that speaks HTTP/2 if there are limits for its heads.
    pub(super) fn new(
        stream: BoxStream,
        limits: Option<HeadLimits>,
        slot: HostSlot,
    ) -> (Self, Arc<Observed>) {
        let observed = Arc::new(Observed::default());
        let parser = match limits {
            Some(limits) => {
                Parser::Http2 { received: Box::new(Frames::new(limits)), sent: SentFrames::default() }
            }
            None => Parser::Http1(Heads::default()),
        };
        (Self { stream, observed: Arc::clone(&observed), parser, _slot: slot }, observed)
    }

    /// The stream, of which nothing more is observed.
    #[cfg(feature = "websocket")]
    pub(super) fn into_inner(self) -> BoxStream {
        self.stream
    }

    fn wrote(&mut self, bytes: &[u8]) {
        if let Parser::Http2 { sent, .. } = &mut self.parser {
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
        if let Parser::Http2 { received, .. } = &mut this.parser {
            // h2 reads again when it has processed all frames that it has.
            received.settle(&this.observed);
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let new = &buffer.filled()[before..];
        let len = u64::try_from(new.len()).unwrap_or(u64::MAX);
        this.observed.received.fetch_add(len, Ordering::AcqRel);
        let is_flooded = match &mut this.parser {
            Parser::Http1(heads) => heads.read(new, &this.observed),
            Parser::Http2 { received, .. } => received.read(new, &this.observed),
        };
        if is_flooded {
            this.observed.is_flooded.store(true, Ordering::Release);
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
struct Heads {
    is_in_head: bool,
    /// Complete lines of this head.
    lines: usize,
    /// Bytes of the line that is being read, without CR.
    line_len: usize,
    /// The first digit of the status, which is the tenth byte of a status line.
    class: u8,
    interim: usize,
}

impl Heads {
    /// Returns whether there were too many interim responses.
    fn read(&mut self, bytes: &[u8], observed: &Observed) -> bool {
        const CLASS: usize = 9;
        if observed.awaits_head.swap(false, Ordering::AcqRel) {
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
                    observed.headers.fetch_max(self.lines - 1, Ordering::AcqRel);
                }
            }
        }
        self.interim > MAX_INTERIM
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// The highest bit of a stream's number is reserved.
const LARGEST_STREAM: u32 = u32::MAX >> 1;

/// The header of a frame of HTTP/2: RFC 9113, section 4.1.
#[derive(Debug, Clone, Copy, Default)]
struct FrameHeader {
    len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// A part of what goes over a connection of HTTP/2.
enum Piece<'a> {
    Header(FrameHeader),
    Payload(&'a [u8]),
    /// The payload was whole.
    End,
}

/// Takes frames apart.
#[derive(Debug, Default)]
struct Splitter {
    header: [u8; 9],
    filled: usize,
    /// Bytes of the payload that are still to come.
    payload: usize,
}

impl Splitter {
    fn read(&mut self, mut bytes: &[u8], mut take: impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let (payload, rest) = bytes.split_at(self.payload.min(bytes.len()));
                self.payload -= payload.len();
                bytes = rest;
                take(Piece::Payload(payload));
            } else {
                let taken = (self.header.len() - self.filled).min(bytes.len());
                self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                bytes = &bytes[taken..];
                if self.filled < self.header.len() {
                    return;
                }
                self.filled = 0;
                let [len @ .., kind, flags, _, _, _, _] = self.header;
                let [_, _, _, _, _, stream @ ..] = self.header;
                self.payload = len.into_iter().fold(0, |len, byte| len << 8 | usize::from(byte));
                let stream = u32::from_be_bytes(stream) & LARGEST_STREAM;
                take(Piece::Header(FrameHeader { len: self.payload, kind, flags, stream }));
            }
            if self.payload == 0 {
                take(Piece::End);
            }
        }
    }
}

/// Reads the frames that are received. It counts the heads of each stream, of which a response has one, and another for
/// trailers; all further ones are interim. And it reads which streams the server takes.
#[derive(Debug)]
struct Frames {
    splitter: Splitter,
    frame: FrameHeader,
    /// The beginning of the payload of a GOAWAY, or the entry of a SETTINGS that is being read.
    filled: [u8; 6],
    len: usize,
    max_streams: Option<u32>,
    has_settings: bool,
    heads: BTreeMap<u32, usize>,
    /// Counts what is in a head.
    fields: FieldCounter,
    limits: HeadLimits,
    /// Frames that end a side of a stream, and a new maximum of streams, which [`settle`](Self::settle) applies.
    ended: Vec<FrameHeader>,
    new_max: Option<usize>,
}

impl Frames {
    fn new(limits: HeadLimits) -> Self {
        Self {
            splitter: Splitter::default(),
            frame: FrameHeader::default(),
            filled: [0; 6],
            len: 0,
            max_streams: None,
            has_settings: false,
            heads: BTreeMap::new(),
            fields: FieldCounter::default(),
            limits,
            ended: Vec::new(),
            new_max: None,
        }
    }

    /// Returns whether there were too many interim responses.
    fn read(&mut self, bytes: &[u8], observed: &Observed) -> bool {
        let mut is_flooded = false;
        let mut splitter = std::mem::take(&mut self.splitter);
        splitter.read(bytes, |piece| match piece {
            Piece::Header(frame) => {
                (self.frame, self.len, self.max_streams) = (frame, 0, None);
                is_flooded |= self.begin();
            }
            Piece::Payload(payload) => self.payload(payload, observed),
            Piece::End => self.end(observed),
        });
        self.splitter = splitter;
        is_flooded
    }

    /// Counts the room that the frames made. hyper must have processed them: a request that came earlier would wait in hyper
    /// for a stream, and all later ones after it.
    fn settle(&mut self, observed: &Observed) {
        if self.ended.is_empty() && self.new_max.is_none() {
            return;
        }
        let mut streams = observed.streams();
        for frame in self.ended.drain(..) {
            streams.ended(frame, |ended| &mut ended.received);
        }
        streams.max = self.new_max.take().unwrap_or(streams.max);
        drop(streams);
        observed.has_room.notify_one();
    }

    fn begin(&mut self) -> bool {
        /// Streams that we gave up stay in the table until it is full.
        const MAX_STREAMS: usize = 1024;
        let FrameHeader { len, kind, flags, stream } = self.frame;
        match kind {
            HEADERS => self.fields.headers(len, flags & PADDED != 0, flags & PRIORITY != 0),
            CONTINUATION => self.fields.continuation(len),
            _ => {}
        }
        match kind {
            HEADERS if flags & END_STREAM == 0 => {
                let heads = self.heads.entry(stream).or_insert(0);
                *heads += 1;
                let is_flooded = *heads > MAX_INTERIM + 1;
                if self.heads.len() > MAX_STREAMS {
                    self.heads.pop_first();
                }
                return is_flooded;
            }
            // The head of the response has come by now.
            DATA | HEADERS | RST_STREAM => {
                self.heads.remove(&stream);
            }
            _ => {}
        }
        false
    }

    fn payload(&mut self, payload: &[u8], observed: &Observed) {
        const MAX_CONCURRENT_STREAMS: u16 = 3;
        if let HEADERS | CONTINUATION = self.frame.kind
            && let Some(excess) = self.fields.read(payload, self.limits)
        {
            observed.streams().exceeded(self.frame.stream, excess);
        }
        let is_settings = self.frame.kind == SETTINGS;
        if !is_settings && self.frame.kind != GOAWAY {
            return;
        }
        for &byte in payload {
            if self.len == self.filled.len() {
                // What follows in a GOAWAY does not matter here.
                return;
            }
            self.filled[self.len] = byte;
            self.len += 1;
            if is_settings && self.len == self.filled.len() {
                self.len = 0;
                let [i, d, value @ ..] = self.filled;
                if u16::from_be_bytes([i, d]) == MAX_CONCURRENT_STREAMS {
                    self.max_streams = Some(u32::from_be_bytes(value));
                }
            }
        }
    }

    fn end(&mut self, observed: &Observed) {
        let FrameHeader { kind, flags, .. } = self.frame;
        match kind {
            RST_STREAM => self.ended.push(self.frame),
            HEADERS | DATA if flags & END_STREAM != 0 => self.ended.push(self.frame),
            // The first one sets what it leaves out to the default, which is no limit. Later ones change what they name.
            SETTINGS if flags & ACK == 0 => {
                if self.max_streams.is_some() || !self.has_settings {
                    let max = self.max_streams.map(|max| usize::try_from(max).unwrap_or(usize::MAX));
                    self.new_max = Some(max.unwrap_or(usize::MAX));
                }
                self.has_settings = true;
            }
            GOAWAY if self.len >= 4 => {
                let [last @ .., _, _] = self.filled;
                observed.streams().last_processed = u32::from_be_bytes(last) & LARGEST_STREAM;
            }
            _ => {}
        }
    }
}

/// Reads the frames that are sent, for the streams that they open and end.
#[derive(Debug, Default)]
struct SentFrames {
    /// How many bytes of the preface were sent, which precedes the first frame.
    preface: usize,
    splitter: Splitter,
    frame: FrameHeader,
}

impl SentFrames {
    fn wrote(&mut self, bytes: &[u8], observed: &Observed) {
        const PREFACE: usize = 24;
        let preface = (PREFACE - self.preface).min(bytes.len());
        self.preface += preface;
        self.splitter.read(&bytes[preface..], |piece| match piece {
            // A stream counts as open from here on, and as ended when the frame is whole.
            Piece::Header(frame) => {
                self.frame = frame;
                if frame.kind == HEADERS {
                    observed.streams().open(frame.stream);
                }
            }
            Piece::Payload(_) => {}
            Piece::End => {
                if observed.streams().ended(self.frame, |ended| &mut ended.sent) {
                    observed.has_room.notify_one();
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Frames {
        Frames::new(HeadLimits { bytes: 100, fields: 3 })
    }

    #[test]
    fn counts_the_headers_of_a_head_however_it_is_cut() {
        let text = b"HTTP/1.1 103 X\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\na\nb\nc\nd\ne\n";
        for size in 1..text.len() {
            let (observed, mut heads) = (Observed::default(), Heads::default());
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
        let (observed, mut heads) = (Observed::default(), Heads::default());
        observed.begin();
        let hint = b"HTTP/1.1 103 Early Hints\r\n\r\n";
        assert!(!heads.read(&hint.repeat(MAX_INTERIM), &observed));
        assert!(heads.read(hint, &observed));
    }

    #[test]
    fn interim_responses_of_http_2_are_bounded_for_each_stream() {
        let frame = |kind: u8, flags: u8, stream: u8| [0, 0, 2, kind, flags, 0, 0, 0, stream, 7, 7];
        let (mut frames, observed) = (frames(), Observed::default());
        let heads: Vec<u8> = (0..=MAX_INTERIM).flat_map(|_| frame(1, 4, 1)).collect();
        for bytes in heads.chunks(7) {
            assert!(!frames.read(bytes, &observed));
        }
        assert!(!frames.read(&frame(1, 4, 3), &observed), "another stream has its own");
        assert!(!frames.read(&frame(1, 5, 1), &observed), "trailers end the stream");
        assert!(!frames.read(&heads, &observed));
        assert!(frames.read(&frame(1, 4, 1), &observed));
    }

    #[test]
    fn a_server_says_how_many_streams_it_takes() {
        let settings = |flags: u8, entries: &[[u8; 6]]| {
            let len = u8::try_from(entries.len() * 6).unwrap();
            [&[0, 0, len, 4, flags, 0, 0, 0, 0], entries.as_flattened()].concat()
        };
        let max = |value: u8| [0, 3, 0, 0, 0, value];
        for size in 1..30 {
            let (mut frames, observed) = (frames(), Observed::default());
            let mut after = |bytes: &[u8]| {
                for bytes in bytes.chunks(size) {
                    assert!(!frames.read(bytes, &observed));
                }
                frames.settle(&observed);
                observed.streams().max
            };
            assert_eq!(after(&[]), 1);
            assert_eq!(after(&settings(0, &[])), usize::MAX);
            assert_eq!(after(&settings(0, &[[0, 4, 0, 0, 0, 9], max(7)])), 7);
            assert_eq!(after(&settings(0, &[[0, 4, 0, 0, 0, 9]])), 7);
            assert_eq!(after(&settings(1, &[])), 7);
        }
    }

    #[test]
    fn streams_are_counted_from_what_is_sent_and_received() {
        let frame = |kind: u8, flags: u8, stream: u8| [0, 0, 1, kind, flags, 0, 0, 0, stream, 7];
        let observed = Arc::new(Observed::default());
        observed.streams().max = 2;
        let (mut sent, mut received) = (SentFrames::default(), frames());
        let first = observed.try_reserve().unwrap();
        let second = observed.try_reserve().unwrap();
        assert!(observed.try_reserve().is_none());
        let ((), first) = first.hand(|| ());
        let ((), second) = second.hand(|| ());
        assert!(observed.try_reserve().is_none());
        sent.wrote(&[0; 24], &observed);
        sent.wrote(&frame(HEADERS, 4, 1), &observed);
        received.read(&frame(HEADERS, 4 | END_STREAM, 1), &observed);
        received.settle(&observed);
        first.answered();
        assert!(observed.try_reserve().is_none(), "the request is still being sent");
        sent.wrote(&frame(DATA, END_STREAM, 1), &observed);
        drop(observed.try_reserve().unwrap());
        assert!(second.failed().is_unsent, "its stream was not opened");
        let _third = observed.try_reserve().unwrap();
        assert!(observed.try_reserve().is_some());
    }

    #[test]
    fn a_request_above_the_last_stream_of_a_goaway_is_not_processed() {
        let observed = Arc::new(Observed::default());
        observed.streams().max = 3;
        let hand = || observed.try_reserve().unwrap().hand(|| ()).1;
        let (given_up, first, second) = (hand(), hand(), hand());
        drop(given_up);
        observed.streams().open(1);
        observed.streams().open(3);
        let goaway = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        frames().read(&goaway, &observed);
        let of = |lost: Lost| (lost.is_unsent, lost.is_unprocessed);
        assert_eq!(of(first.failed()), (false, false));
        assert_eq!(of(second.failed()), (false, true));
    }

    #[test]
    fn requests_without_a_stream_are_unsent_in_whichever_order_they_fail() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let observed = Arc::new(Observed::default());
            observed.streams().max = 10;
            let hand = || observed.try_reserve().unwrap().hand(|| ()).1;
            let sent = hand();
            let mut unsent = [(); 3].map(|()| Some(hand()));
            observed.streams().open(1);
            for index in order {
                let Lost { is_unsent, .. } = unsent[index].take().unwrap().failed();
                assert!(is_unsent, "{index} of {order:?}");
            }
            assert!(!sent.failed().is_unsent);
        }
    }
}
