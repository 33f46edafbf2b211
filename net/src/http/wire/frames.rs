//! Reads the frames of HTTP/2 (RFC 9113), as far as hyper does not report what is in them: which streams they open and end,
//! and how large heads are.
//!
//! h2 refuses a head that is too large like one that is malformed, and does not say which of the two it was. The fields of
//! heads and their bytes are counted here without decoding them: RFC 7541, section 6.

use std::collections::BTreeMap;

use super::{Excess, MAX_INTERIM, Observed, Side, Streams};

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// Bytes of the header block, compressed.
    pub(crate) bytes: usize,
    /// Fields, with `:status`.
    pub(crate) fields: usize,
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

impl FrameHeader {
    /// Whether the frame ends its side of the stream.
    const fn ends_side(self) -> bool {
        matches!(self.kind, HEADERS | DATA) && self.flags & END_STREAM != 0
    }

    /// Notes what ends with the frame. Returns whether the stream is closed then.
    fn end(self, streams: &mut Streams, side: Side) -> bool {
        if self.kind == RST_STREAM {
            streams.reset(self.stream)
        } else {
            self.ends_side() && streams.end(self.stream, side)
        }
    }
}

/// A part of what goes over a connection of HTTP/2.
enum FramePiece<'a> {
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
    fn read(&mut self, mut bytes: &[u8], mut take: impl FnMut(FramePiece<'_>)) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let (payload, rest) = bytes.split_at(self.payload.min(bytes.len()));
                self.payload -= payload.len();
                bytes = rest;
                take(FramePiece::Payload(payload));
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
                take(FramePiece::Header(FrameHeader { len: self.payload, kind, flags, stream }));
            }
            if self.payload == 0 {
                take(FramePiece::End);
            }
        }
    }
}

/// Reads the frames that are received. It counts the heads of each stream, of which a response has one, and another for
/// trailers; all further ones are interim. And it reads which streams the server takes.
#[derive(Debug)]
pub(super) struct ReceivedFrames {
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

impl ReceivedFrames {
    pub(super) fn new(limits: HeadLimits) -> Self {
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
    pub(super) fn read(&mut self, bytes: &[u8], observed: &Observed) -> bool {
        let mut is_flooded = false;
        let mut splitter = std::mem::take(&mut self.splitter);
        splitter.read(bytes, |piece| match piece {
            FramePiece::Header(frame) => {
                (self.frame, self.len, self.max_streams) = (frame, 0, None);
                is_flooded |= self.begin();
            }
            FramePiece::Payload(payload) => self.payload(payload, observed),
            FramePiece::End => self.end(observed),
        });
        self.splitter = splitter;
        is_flooded
    }

    /// Counts the room that the frames made. hyper must have processed them: a request that came earlier would wait in hyper
    /// for a stream, and all later ones after it.
    pub(super) fn settle(&mut self, observed: &Observed) {
        if self.ended.is_empty() && self.new_max.is_none() {
            return;
        }
        let mut streams = observed.streams();
        for frame in self.ended.drain(..) {
            frame.end(&mut streams, Side::Received);
        }
        streams.max = self.new_max.take().unwrap_or(streams.max);
        drop(streams);
        observed.notify_room();
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
            HEADERS | DATA if self.frame.ends_side() => self.ended.push(self.frame),
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
pub(super) struct SentFrames {
    /// How many bytes of the preface were sent, which precedes the first frame.
    preface: usize,
    splitter: Splitter,
    frame: FrameHeader,
}

impl SentFrames {
    pub(super) fn wrote(&mut self, bytes: &[u8], observed: &Observed) {
        const PREFACE: usize = 24;
        let preface = (PREFACE - self.preface).min(bytes.len());
        self.preface += preface;
        self.splitter.read(&bytes[preface..], |piece| match piece {
            // A stream counts as open from here on, and as ended when the frame is whole.
            FramePiece::Header(frame) => {
                self.frame = frame;
                if frame.kind == HEADERS {
                    observed.streams().open(frame.stream);
                }
            }
            FramePiece::Payload(_) => {}
            FramePiece::End => {
                if self.frame.end(&mut observed.streams(), Side::Sent) {
                    observed.notify_room();
                }
            }
        });
    }
}

/// The size of a field at most, beside its own bytes: one of the dynamic table, which has 4 096 bytes.
const LARGEST_INDEXED: usize = 4096;

impl HeadLimits {
    /// A size that no head within the limits has once it is decoded, as RFC 9113 measures it in section 6.5.2. Huffman coding
    /// makes less than two bytes of one.
    pub(crate) const fn decoded(self) -> usize {
        let indexed = self.fields.saturating_mul(LARGEST_INDEXED);
        self.bytes.saturating_mul(2).saturating_add(indexed).saturating_add(1)
    }
}

/// Counts the fields of one head after the other.
#[derive(Debug, Default)]
struct FieldCounter {
    bytes: usize,
    fields: usize,
    state: FieldState,
    /// Bytes before the part of the header block that is in this frame, the first of which may be the length of the padding.
    before: usize,
    is_padded: bool,
    /// Bytes of that part.
    block: usize,
}

#[derive(Debug, Clone, Copy, Default)]
enum FieldState {
    /// The first byte of a field.
    #[default]
    Field,
    /// The index of a field that has so many strings.
    Index { strings: u8 },
    /// The first byte of the length of a string, the first of so many.
    Length { strings: u8 },
    /// A further byte of that.
    FurtherLength { strings: u8, length: usize, shift: u32 },
    /// The bytes of a string, before so many others.
    Text { left: usize, strings: u8 },
}

impl FieldCounter {
    /// A frame HEADERS begins, which begins a head.
    fn headers(&mut self, len: usize, is_padded: bool, has_priority: bool) {
        const PRIORITY: usize = 5;
        let before = usize::from(is_padded) + if has_priority { PRIORITY } else { 0 };
        let block = len.saturating_sub(before);
        *self = Self { before, is_padded, block, ..Self::default() };
    }

    /// A frame CONTINUATION begins.
    fn continuation(&mut self, len: usize) {
        (self.before, self.is_padded, self.block) = (0, false, len);
    }

    /// Reads a part of the payload of the frame. Returns what of the head is too much by now.
    fn read(&mut self, mut payload: &[u8], limits: HeadLimits) -> Option<Excess> {
        if let ([padding, ..], true) = (payload, self.is_padded) {
            self.is_padded = false;
            self.block = self.block.saturating_sub(usize::from(*padding));
        }
        let before = self.before.min(payload.len());
        self.before -= before;
        payload = &payload[before..];
        let block = &payload[..self.block.min(payload.len())];
        self.block -= block.len();
        self.bytes = self.bytes.saturating_add(block.len());
        self.count(block);
        if self.fields > limits.fields {
            Some(Excess::Fields)
        } else {
            (self.bytes > limits.bytes).then_some(Excess::Bytes)
        }
    }

    fn count(&mut self, mut block: &[u8]) {
        while let [byte, rest @ ..] = block {
            block = rest;
            self.state = match self.state {
                FieldState::Field => self.field(*byte),
                FieldState::Index { strings } if byte & 0x80 == 0 => before(strings),
                index @ FieldState::Index { .. } => index,
                FieldState::Length { strings } => match byte & 0x7f {
                    0x7f => FieldState::FurtherLength { strings, length: 0x7f, shift: 0 },
                    length => text(usize::from(length), strings),
                },
                FieldState::FurtherLength { strings, length, shift } => {
                    let more = usize::from(byte & 0x7f).checked_shl(shift).unwrap_or(usize::MAX);
                    let length = length.saturating_add(more);
                    if byte & 0x80 == 0 {
                        text(length, strings)
                    } else {
                        FieldState::FurtherLength { strings, length, shift: shift.saturating_add(7) }
                    }
                }
                FieldState::Text { left, strings } => {
                    let skipped = (left - 1).min(block.len());
                    block = &block[skipped..];
                    match left - 1 - skipped {
                        0 => before(strings),
                        left => FieldState::Text { left, strings },
                    }
                }
            };
        }
    }

    fn field(&mut self, byte: u8) -> FieldState {
        let (mask, has_index_only) = match byte {
            0x80.. => (0x7f, true),
            0x40..0x80 => (0x3f, false),
            // A size of the dynamic table.
            0x20..0x40 => (0x1f, true),
            0x00..0x20 => (0x0f, false),
        };
        self.fields += usize::from(!(0x20..0x40).contains(&byte));
        let index = byte & mask;
        let strings = match index {
            _ if has_index_only => 0,
            // Without an index the field has its name.
            0 => 2,
            _ => 1,
        };
        if index == mask { FieldState::Index { strings } } else { before(strings) }
    }
}

/// Before so many strings of a field.
const fn before(strings: u8) -> FieldState {
    if strings == 0 { FieldState::Field } else { FieldState::Length { strings } }
}

/// At the beginning of a string, the first of so many.
const fn text(length: usize, strings: u8) -> FieldState {
    let strings = strings.saturating_sub(1);
    if length == 0 { before(strings) } else { FieldState::Text { left: length, strings } }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Lost;
    use super::*;

    fn frames() -> ReceivedFrames {
        ReceivedFrames::new(HeadLimits { bytes: 100, fields: 3 })
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

    const LIMITS: HeadLimits = HeadLimits { bytes: usize::MAX, fields: usize::MAX };

    /// The fields of a block, however it is cut.
    fn fields(block: &[u8]) -> usize {
        let counted = (1..=block.len()).map(|size| {
            let mut counter = FieldCounter::default();
            counter.headers(block.len(), false, false);
            block.chunks(size).for_each(|part| assert_eq!(counter.read(part, LIMITS), None));
            assert_eq!(counter.bytes, block.len());
            assert!(matches!(counter.state, FieldState::Field), "{:?}", counter.state);
            counter.fields
        });
        let counted: Vec<_> = counted.collect();
        assert!(counted.iter().all(|fields| *fields == counted[0]), "{counted:?}");
        counted[0]
    }

    #[test]
    fn fields_are_counted_as_in_the_examples_of_the_rfc() {
        // RFC 7541, appendices C.2.1 to C.2.4, C.5.1 and C.6.1.
        assert_eq!(fields(b"\x40\x0acustom-key\x0dcustom-header"), 1);
        assert_eq!(fields(b"\x04\x0c/sample/path"), 1);
        assert_eq!(fields(b"\x10\x08password\x06secret"), 1);
        assert_eq!(fields(b"\x82"), 1);
        let response =
            b"\x48\x03302\x58\x07private\x61\x1dMon, 21 Oct 2013 20:13:21 GMT\x6e\x17https://www.example.com";
        assert_eq!(fields(response), 4);
        assert_eq!(fields(b"\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x88"), 3);
    }

    #[test]
    fn long_strings_indexes_and_sizes_of_the_table_are_passed_over() {
        // The length of the value is 127 + 0x2c + (2 << 7).
        let long = [b"\x04\x7f\xac\x02".as_slice(), &[b'v'; 427], b"\x82"].concat();
        assert_eq!(fields(&long), 2);
        // An index of several bytes, a size of the table, an empty value, and one field more.
        assert_eq!(fields(b"\xff\x80\x01\x3f\xe1\x1f\x0f\x00\x00\x82"), 3);
    }

    #[test]
    fn padding_and_priorities_are_no_fields() {
        let mut counter = FieldCounter::default();
        counter.headers(10, true, true);
        assert_eq!(counter.read(b"\x02\0\0\0\0\x07\x82\x82", LIMITS), None);
        assert_eq!(counter.read(b"\x82\x82", LIMITS), None);
        assert_eq!((counter.fields, counter.bytes), (2, 2));
        counter.continuation(1);
        assert_eq!(counter.read(b"\x82", LIMITS), None);
        assert_eq!((counter.fields, counter.bytes), (3, 3));
        counter.headers(1, false, false);
        assert_eq!(counter.read(b"\x82", HeadLimits { bytes: 1, fields: 1 }), None);
        counter.continuation(1);
        assert_eq!(counter.read(b"\x82", HeadLimits { bytes: 1, fields: 2 }), Some(Excess::Bytes));
        counter.continuation(1);
        assert_eq!(counter.read(b"\x82", HeadLimits { bytes: 1, fields: 2 }), Some(Excess::Fields));
    }
}
