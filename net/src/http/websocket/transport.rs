//! The connection, as the protocol sees it, and a bound on how many frames a server may send that bring the program nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;

use crate::network::BoxStream;

/// How many times the connection is read before other tasks have their turn. A server may send frames without end that
/// are no message.
const READS: u32 = 8;

/// A connection that is read and written without waiting: where it would have to, the error is `WouldBlock`, and the task
/// is woken when it is worth another try.
pub(crate) struct Transport {
    stream: BoxStream,
    waker: Waker,
    reads_left: u32,
    has_received: bool,
    has_sent: bool,
    frames: FrameCounter,
    /// Whether there were too many frames. It is told with the next read, after the frames that came before.
    is_flooded: bool,
}

impl Transport {
    /// Of `stream`, on which `received` has arrived already.
    pub(crate) fn new(stream: BoxStream, received: &[u8]) -> Self {
        let waker = Waker::noop().clone();
        let mut frames = FrameCounter::new();
        let is_flooded = frames.read(received).is_err();
        Self { stream, waker, reads_left: 0, has_received: false, has_sent: false, frames, is_flooded }
    }

    /// Notes that a ping is sent. Its answer does not count as part of a flood.
    pub(crate) fn expect_pong(&mut self) {
        self.frames.expect_pong();
    }

    /// Begins a poll of the task that has the connection.
    pub(crate) fn begin(&mut self, cx: &Context<'_>) {
        self.waker.clone_from(cx.waker());
        self.reads_left = READS;
    }

    /// Whether anything was received since the last time.
    pub(crate) const fn take_received(&mut self) -> bool {
        std::mem::replace(&mut self.has_received, false)
    }

    /// Whether anything was sent since the last time.
    pub(crate) const fn take_sent(&mut self) -> bool {
        std::mem::replace(&mut self.has_sent, false)
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn ready<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.reads_left.checked_sub(1) else {
            self.waker.wake_by_ref();
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if self.is_flooded {
            return Err(io::Error::other(Flooded));
        }
        let mut buffer = ReadBuf::new(buffer);
        let mut cx = Context::from_waker(&self.waker);
        ready(Pin::new(&mut self.stream).poll_read(&mut cx, &mut buffer))?;
        self.reads_left = left;
        let len = buffer.filled().len();
        self.has_received |= len > 0;
        self.is_flooded = self.frames.read(buffer.filled()).is_err();
        Ok(len)
    }
}

impl io::Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut cx = Context::from_waker(&self.waker);
        let len = ready(Pin::new(&mut self.stream).poll_write(&mut cx, bytes))?;
        self.has_sent |= len > 0;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut cx = Context::from_waker(&self.waker);
        ready(Pin::new(&mut self.stream).poll_flush(&mut cx))
    }
}

/// How many frames may come at once that bring the program nothing.
const BURST: u32 = 1_000;

/// How long it takes until there may be one more.
const REFILL: Duration = Duration::from_millis(10);

/// How many more there may be with each message.
const PER_MESSAGE: u32 = 16;

/// A frame of a message that is not its last one brings nothing if it has fewer bytes than this.
const TINY: u64 = 16;

/// There were more frames than there may be that bring nothing.
#[derive(Debug, thiserror::Error)]
#[error("more control frames or tiny fragments than a connection may have")]
pub(crate) struct Flooded;

/// Reads the headers of the frames that are received, and counts those that bring the program nothing: frames that control
/// the connection, and tiny fragments. To read them takes time of the processor that is charged to no script. Messages do
/// not count: they wait until the script takes them.
#[derive(Debug)]
struct FrameCounter {
    /// The header of a frame: RFC 6455, section 5.2.
    header: [u8; 14],
    filled: usize,
    /// Bytes of the payload that are still to come.
    payload: u64,
    /// How many more frames there may be, and since when they are counted.
    left: u32,
    since: Instant,
}

impl FrameCounter {
    fn new() -> Self {
        Self { header: [0; 14], filled: 0, payload: 0, left: BURST, since: Instant::now() }
    }

    /// Allows one frame more: the answer to a ping of ours.
    fn expect_pong(&mut self) {
        self.add(1);
    }

    /// Reads what was received. Fails if there are too many frames in it.
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Flooded> {
        self.refill();
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            self.payload -= skipped as u64;
            bytes = &bytes[skipped..];
            while let [byte, rest @ ..] = bytes
                && self.payload == 0
            {
                bytes = rest;
                self.header[self.filled] = *byte;
                self.filled += 1;
                if self.filled == self.header_len() {
                    self.filled = 0;
                    self.frame()?;
                }
            }
        }
        Ok(())
    }

    /// How long the header is, as far as that is known.
    fn header_len(&self) -> usize {
        const MASKED: u8 = 0x80;
        let [_, second, ..] = self.header;
        if self.filled < 2 {
            return 2;
        }
        let length = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        // A server must not mask a frame, which is for the protocol to refuse.
        2 + length + if second & MASKED == 0 { 0 } else { 4 }
    }

    /// The header of a frame is whole.
    fn frame(&mut self) -> Result<(), Flooded> {
        const FIN: u8 = 0x80;
        const CONTROL: u8 = 0x08;
        let [first, second, long @ ..] = &self.header;
        let of_bytes = |bytes: &[u8]| bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        self.payload = match second & 0x7f {
            126 => of_bytes(&long[..2]),
            127 => of_bytes(&long[..8]),
            length => length.into(),
        };
        let (is_control, is_last) = (first & CONTROL != 0, first & FIN != 0);
        if !is_control && is_last {
            self.add(PER_MESSAGE);
        } else if is_control || self.payload < TINY {
            self.left = self.left.checked_sub(1).ok_or(Flooded)?;
        }
        Ok(())
    }

    fn refill(&mut self) {
        let passed = self.since.elapsed().as_nanos() / REFILL.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.add(passed);
        if self.left == BURST {
            self.since = Instant::now();
        } else {
            self.since += REFILL * passed;
        }
    }

    fn add(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: &[u8] = &[0x89, 0];
    const EMPTY: &[u8] = &[0, 0];
    const MESSAGE: &[u8] = &[0x81, 1, b'x'];

    /// How many times `frame` is read before it is too often.
    fn most(counter: &mut FrameCounter, frame: &[u8]) -> u32 {
        (0..100_000).find(|_| counter.read(frame).is_err()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_bring_nothing_are_counted_however_they_are_cut() {
        let tiny = &[&[0, 15][..], &[0; 15]].concat();
        let long_form = &[0x01, 127, 0, 0, 0, 0, 0, 0, 0, 0];
        for frame in [PING, EMPTY, &[0x8a, 3, 1, 2, 3], &[0x88, 2, 3, 232], tiny, long_form] {
            for size in 1..frame.len() + 3 {
                let mut counter = FrameCounter::new();
                let all = frame.repeat(1_001);
                let read = all.chunks(size).try_for_each(|part| counter.read(part));
                assert!(read.is_err(), "{frame:?}");
                let (fit, _) = all.split_at(frame.len() * 1_000);
                let mut counter = FrameCounter::new();
                fit.chunks(size).try_for_each(|part| counter.read(part)).unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_and_larger_fragments_do_not_count() {
        let fragment = [&[0, 16][..], &[7; 16]].concat();
        let long = [&[0x02, 126, 1, 0][..], &[0x89; 256]].concat();
        for frame in [MESSAGE, &[0x82, 0], &[0x80, 0], &fragment, &long] {
            FrameCounter::new().read(&frame.repeat(5_000)).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_and_messages_allow_more() {
        let mut counter = FrameCounter::new();
        assert_eq!(most(&mut counter, PING), 1_000);
        counter.read(MESSAGE).unwrap();
        assert_eq!(most(&mut counter, PING), 16);
        counter.expect_pong();
        assert_eq!(most(&mut counter, PING), 1);
        tokio::time::advance(Duration::from_millis(55)).await;
        assert_eq!(most(&mut counter, PING), 5);
        tokio::time::advance(Duration::from_millis(5)).await;
        assert_eq!(most(&mut counter, PING), 1);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(most(&mut counter, PING), 1_000);
        // A server that pings now and then may do so for ever.
        for _ in 0..10_000 {
            tokio::time::advance(REFILL).await;
            counter.read(PING).unwrap();
        }
    }
}
