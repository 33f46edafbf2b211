//! Decoding of response bodies: `gzip` (RFC 1952), `br` (RFC 7932) and `zstd` (RFC 8878, with the window of RFC 9659).
//!
//! The decoders do no I/O. Each call gives a bounded piece of output, whatever the input is, and each response has a decoder
//! of its own. What a decoder needs most memory for is its window, whose size the input names. It is counted for the unit
//! before it is allocated.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::{Buf as _, Bytes, BytesMut};
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::zstd::params::DParameter;
use compression_codecs::{DecodeV2, GzipDecoder, ZstdDecoder};
use http::{HeaderMap, HeaderValue, header};

use crate::limits::Unit;

/// What is asked for. It is the same for all requests.
pub(crate) const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("gzip, br, zstd");

/// How many bytes are decoded at once.
const PIECE: usize = 32 << 10;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

impl Coding {
    /// Returns the coding of a response, if it is one that is decoded. As in the Fetch standard a body with another one is
    /// left as it is; so is one that was encoded several times, which no server does of its own accord.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let value = value.to_str().ok()?.trim_matches([' ', '\t']);
        let is = |name: &str| value.eq_ignore_ascii_case(name);
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("br") {
            Some(Self::Brotli)
        } else if is("zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// Counts the memory that decoders take, for each unit.
#[derive(Debug)]
pub(crate) struct DecoderMemory {
    max: u64,
    units: Mutex<HashMap<Unit, u64>>,
}

impl DecoderMemory {
    /// At most `max` bytes for a unit.
    pub(crate) fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max, units: Mutex::default() })
    }

    fn take(self: &Arc<Self>, unit: &Unit, bytes: u64) -> Option<MemoryShare> {
        let mut units = self.units();
        let taken = units.get(unit).copied().unwrap_or(0);
        let taken = taken.checked_add(bytes).filter(|taken| *taken <= self.max)?;
        units.insert(unit.clone(), taken);
        drop(units);
        Some(MemoryShare { memory: Arc::clone(self), unit: unit.clone(), bytes })
    }

    fn units(&self) -> MutexGuard<'_, HashMap<Unit, u64>> {
        // Nothing in here panics in the middle of a change.
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that is taken, until this is dropped.
#[derive(Debug)]
struct MemoryShare {
    memory: Arc<DecoderMemory>,
    unit: Unit,
    bytes: u64,
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        let mut units = self.memory.units();
        if let Some(taken) = units.get_mut(&self.unit) {
            *taken -= self.bytes;
            if *taken == 0 {
                units.remove(&self.unit);
            }
        }
    }
}

/// Why no more is decoded.
#[derive(Debug)]
pub(crate) enum DecodeFault {
    Invalid(io::Error),
    /// The unit has no more memory for decoders.
    Memory,
}

impl From<io::Error> for DecodeFault {
    fn from(error: io::Error) -> Self {
        Self::Invalid(error)
    }
}

/// Decodes one body.
pub(crate) struct Decoder {
    coding: Coding,
    memory: Arc<DecoderMemory>,
    unit: Unit,
    codec: Option<(Codec, MemoryShare)>,
    input: BytesMut,
    /// Whether the last piece was full, so that there may be more without further input.
    is_full: bool,
    /// Whether what was begun is complete. Another member or frame may follow, but for `br`.
    is_whole: bool,
}

impl Decoder {
    pub(crate) fn new(coding: Coding, memory: &Arc<DecoderMemory>, unit: &Unit) -> Self {
        Self {
            coding,
            memory: Arc::clone(memory),
            unit: unit.clone(),
            codec: None,
            input: BytesMut::new(),
            is_full: false,
            // A body without a byte is an empty one.
            is_whole: true,
        }
    }

    pub(crate) const fn coding(&self) -> Coding {
        self.coding
    }

    /// How many bytes the decoders of the unit may take together.
    pub(crate) fn max_memory(&self) -> u64 {
        self.memory.max
    }

    /// Adds input. Before that, [`next`](Self::next) has used up what there was.
    pub(crate) fn feed(&mut self, input: &Bytes) {
        self.input.extend_from_slice(input);
    }

    /// The next piece, which is not empty, or nothing if that needs further input.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, DecodeFault> {
        self.decode(false)
    }

    /// The next piece after the last input, or nothing at the end.
    pub(crate) fn finish(&mut self) -> Result<Option<Bytes>, DecodeFault> {
        let piece = self.decode(true)?;
        if piece.is_none() {
            if !self.is_whole {
                let why = "it ends before it is complete";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why).into());
            }
            // A response may be kept for long after its body was read.
            self.codec = None;
        }
        Ok(piece)
    }

    fn decode(&mut self, is_last: bool) -> Result<Option<Bytes>, DecodeFault> {
        loop {
            if self.input.is_empty() && !self.is_full {
                return Ok(None);
            }
            if self.is_whole
                && !self.input.is_empty()
                && let Some((codec, _)) = &mut self.codec
            {
                match codec.restart(&self.input, is_last)? {
                    Next::Begun => self.is_whole = false,
                    Next::Unseen => return Ok(None),
                    Next::Larger => self.codec = None,
                }
            }
            if self.codec.is_none() {
                let Some((codec, bytes)) = Codec::of(self.coding, &self.input, is_last)? else {
                    return Ok(None);
                };
                let share = self.memory.take(&self.unit, bytes).ok_or(DecodeFault::Memory)?;
                self.codec = Some((codec, share));
                self.is_whole = false;
            }
            let Some((codec, _)) = &mut self.codec else { return Ok(None) };
            let mut piece = BytesMut::zeroed(PIECE);
            let (read, written, is_whole) = codec.step(&self.input, &mut piece)?;
            self.input.advance(read);
            self.is_whole |= is_whole;
            self.is_full = written == PIECE;
            if read == 0 && written == 0 && !is_whole && !self.input.is_empty() {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            }
            if written > 0 {
                // A small piece does not hold a large buffer.
                let is_small = written < PIECE / 4;
                piece.truncate(written);
                return Ok(Some(if is_small { Bytes::copy_from_slice(&piece) } else { piece.freeze() }));
            }
        }
    }
}

enum Codec {
    Gzip(GzipDecoder),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd {
        decoder: ZstdDecoder,
        /// The base-2 logarithm of the largest window that it takes.
        log: u32,
    },
}

/// How what follows the first member or frame is decoded.
enum Next {
    /// By the same codec.
    Begun,
    /// It needs to see more to know.
    Unseen,
    /// By another codec, with a larger window.
    Larger,
}

impl Codec {
    /// The codec for what begins with `head`, and how much memory it takes. Nothing if it needs to see more to know.
    fn of(coding: Coding, head: &[u8], is_last: bool) -> io::Result<Option<(Self, u64)>> {
        Ok(Some(match coding {
            // The window has 32 KiB, and as much again is the rest.
            Coding::Gzip => (Self::Gzip(GzipDecoder::new()), 64 << 10),
            Coding::Brotli => {
                // Its tables take a few MiB at most.
                const TABLES: u64 = 4 << 20;
                let Some(first) = head.first() else { return Ok(None) };
                let window = brotli_window(*first)
                    .ok_or_else(|| invalid("it needs a window that RFC 7932 does not have"))?;
                let alloc = StandardAlloc::default;
                // `new` takes windows of up to 1 GiB.
                let state = BrotliState::new_strict(alloc(), alloc(), alloc());
                (Self::Brotli(Box::new(state)), (1 << window) + TABLES)
            }
            Coding::Zstd => {
                // Buffers for blocks, and tables.
                const BLOCKS: u64 = 1 << 20;
                let Some(log) = zstd_log(head, is_last)? else { return Ok(None) };
                let decoder = ZstdDecoder::new_with_params(&[DParameter::window_log_max(log)]);
                (Self::Zstd { decoder, log }, (1 << log) + BLOCKS)
            }
        }))
    }

    /// Begins with what follows the first member or frame, which begins with `head`.
    fn restart(&mut self, head: &[u8], is_last: bool) -> io::Result<Next> {
        match self {
            Self::Gzip(decoder) => decoder.reinit()?,
            Self::Brotli(_) => return Err(invalid("something follows it")),
            Self::Zstd { decoder, log } => match zstd_log(head, is_last)? {
                None => return Ok(Next::Unseen),
                Some(needed) if needed > *log => return Ok(Next::Larger),
                Some(_) => decoder.reinit()?,
            },
        }
        Ok(Next::Begun)
    }

    /// Decodes some of `input` to `output`. Returns how many bytes were read and written, and whether what was begun is
    /// complete.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize, bool)> {
        match self {
            Self::Gzip(decoder) => run(decoder, input, output),
            Self::Zstd { decoder, .. } => run(decoder, input, output),
            Self::Brotli(state) => {
                let (mut read, mut written) = (0, 0);
                let (mut left, mut room) = (input.len(), output.len());
                let result = BrotliDecompressStream(
                    &mut left,
                    &mut read,
                    input,
                    &mut room,
                    &mut written,
                    output,
                    &mut 0,
                    state,
                );
                match result {
                    BrotliResult::ResultFailure => Err(invalid("it is damaged")),
                    BrotliResult::ResultSuccess => Ok((read, written, true)),
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {
                        Ok((read, written, false))
                    }
                }
            }
        }
    }
}

fn run(decoder: &mut impl DecodeV2, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize, bool)> {
    let mut input = PartialBuffer::new(input);
    let mut output = WriteBuffer::new_initialized(output);
    let is_whole = if input.unwritten().is_empty() {
        // Only output is left, if anything is.
        decoder.flush(&mut output)?;
        false
    } else {
        decoder.decode(&mut input, &mut output)?
    };
    Ok((input.written_len(), output.written_len(), is_whole))
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The base-2 logarithm of the window of `br`, by the first byte: RFC 7932, section 9.1. Nothing for the one value that it
/// does not define, with which streams with larger windows begin.
const fn brotli_window(first: u8) -> Option<u32> {
    if first & 1 == 0 {
        return Some(16);
    }
    match (first >> 1 & 7, first >> 4 & 7) {
        (0, 0) => Some(17),
        (0, 1) => None,
        (0, few) => Some(8 + few as u32),
        (many, _) => Some(17 + many as u32),
    }
}

/// The largest window of `zstd`, as a base-2 logarithm: RFC 9659, section 3.
const MAX_ZSTD_WINDOW: u32 = 23;

/// The base-2 logarithm of the window that a frame of `zstd` needs, which begins with `head`. Nothing if that is to be seen yet.
fn zstd_log(head: &[u8], is_last: bool) -> io::Result<Option<u32>> {
    const SMALLEST: u32 = 10;
    let window = match zstd_window(head) {
        Window::Bytes(bytes) => bytes,
        Window::Unseen if !is_last => return Ok(None),
        // It is cut off, which decoding it finds.
        Window::Unseen => 0,
        Window::Unknown => return Err(invalid("it is not a frame of RFC 8878")),
    };
    let log = window.checked_next_power_of_two().map_or(u32::MAX, u64::trailing_zeros).max(SMALLEST);
    if log > MAX_ZSTD_WINDOW {
        return Err(invalid("it needs a window of more than 8 MiB, which RFC 9659 does not allow"));
    }
    Ok(Some(log))
}

#[derive(Debug, PartialEq, Eq)]
enum Window {
    Bytes(u64),
    /// The header is not there yet.
    Unseen,
    /// It is not a frame.
    Unknown,
}

/// The window of `zstd`, by the header of a frame: RFC 8878, sections 3.1.1.1 and 3.1.2.
fn zstd_window(head: &[u8]) -> Window {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
    let (magic, rest) = head.split_at(head.len().min(MAGIC.len()));
    if let [first, others @ ..] = magic
        && first & 0xf0 == SKIPPABLE[0]
        && SKIPPABLE[1..].starts_with(others)
    {
        // It is passed over, which takes no window.
        return if magic.len() == SKIPPABLE.len() { Window::Bytes(0) } else { Window::Unseen };
    }
    if !MAGIC.starts_with(magic) {
        return Window::Unknown;
    }
    let Some((&descriptor, rest)) = rest.split_first() else { return Window::Unseen };
    if descriptor & 0x20 == 0 {
        let Some(window) = rest.first() else { return Window::Unseen };
        let base = 1_u64 << (10 + (window >> 3));
        return Window::Bytes(base + base / 8 * u64::from(window & 7));
    }
    // With a single segment the window is the content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let (size, more) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let Some(size) = rest.get(dictionary..dictionary + size) else { return Window::Unseen };
    let content = size.iter().rev().fold(0, |content, byte| content << 8 | u64::from(*byte));
    Window::Bytes(content.saturating_add(more))
}

#[cfg(test)]
mod tests;
