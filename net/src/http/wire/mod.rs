//! What arrives on a connection, as far as hyper does not report it: whether anything does, how many headers a head
//! has, how many heads come before that of the response, and how many streams a server takes at once.

mod frames;
mod streams;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::frames::{ReceivedFrames, SentFrames};
use super::admission::HostSlot;
use crate::network::BoxStream;

pub(crate) use self::frames::HeadLimits;
pub(crate) use self::streams::{AnsweredStream, Excess, Lost, Observed, Reservation};

/// How many interim responses, such as 103, may precede a response. Servers send one or two.
pub(crate) const MAX_INTERIM: usize = 32;

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
