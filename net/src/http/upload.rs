//! The body of a request.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, HeaderName};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::AsyncRead;
use tokio::time::{Instant, timeout_at};
use tokio_util::io::ReaderStream;

use crate::audit::Recording;

/// An error of what a body is read from.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How many bytes of a streamed body are kept to send them again.
const MAX_KEPT: usize = 64 << 10;

/// How many pieces of it are kept: each may be a few bytes and takes more memory than that.
const MAX_KEPT_PIECES: usize = 64;

/// How many bytes are read from a reader at once.
const READ: usize = 32 << 10;

/// The body of a [`Request`](super::Request): bytes, or a stream of them that is read while it is sent.
///
/// A streamed body is read once. The request can be sent again, by a retry or a redirect, only while no more than the first
/// 64 KiB have been read, which are kept for that. Clones share the stream, and one of them can be sent.
///
/// ```
/// use frame_net::http::{Body, HttpError, Request};
///
/// let file: &[u8] = b"any `AsyncRead`, such as a file";
/// let body = Body::from_reader(file).with_length(31);
/// let request = Request::post("https://example.com/upload")?.body(body);
/// # Ok::<(), HttpError>(())
/// ```
#[derive(Clone)]
pub struct Body {
    content: Content<Arc<Source>>,
    trailers: Vec<HeaderName>,
}

/// What is in a body: bytes, or a stream of them.
#[derive(Clone)]
pub(super) enum Content<S> {
    Whole(Bytes),
    Streamed(S),
}

impl Body {
    /// A stream of frames: data, and trailers that were [announced](Self::with_trailers). If its size is exact, that is
    /// the `Content-Length`.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let length = body.size_hint().exact();
        Self::streamed(Box::pin(body.map_err(Into::into)), length)
    }

    /// A stream of bytes of unknown length. Over HTTP/1.1 it is sent in chunks unless it is given a
    /// [length](Self::with_length).
    pub fn from_stream<S, T, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<T, E>> + Send + 'static,
        T: Into<Bytes>,
        E: Into<BoxError>,
    {
        Self::streamed(Box::pin(Chunks(Box::pin(stream))), None)
    }

    /// What `reader` reads until its end, 32 KiB at a time at most.
    pub fn from_reader(reader: impl AsyncRead + Send + 'static) -> Self {
        Self::from_stream(ReaderStream::with_capacity(reader, READ))
    }

    /// With exactly `length` bytes, which is the `Content-Length`. Sending fails if the stream has more or fewer, so the
    /// last of them are sent once the stream has ended. On bytes that are known, it has no effect.
    #[must_use]
    pub fn with_length(self, length: u64) -> Self {
        if let Content::Streamed(source) = &self.content {
            source.lock().length = Some(length);
        }
        self
    }

    /// With trailers of these names, which the stream has as its last frame: see [`Body::new`]. Over HTTP/1.1 they are
    /// announced in `Trailer`, and the body is sent in chunks. Trailers of other names fail the request.
    #[must_use]
    pub fn with_trailers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.trailers.extend(names);
        if let Content::Streamed(source) = &self.content {
            source.lock().announced.clone_from(&self.trailers);
        }
        self
    }

    fn streamed(
        body: Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>,
        length: Option<u64>,
    ) -> Self {
        Self { content: Content::Streamed(Arc::new(Source::new(body, length))), trailers: Vec::new() }
    }

    /// The number of bytes, if it is known.
    pub fn length(&self) -> Option<u64> {
        match &self.content {
            Content::Whole(bytes) => Some(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Content::Streamed(source) => source.lock().length,
        }
    }

    /// Whether there are no bytes in it, as far as is known before it is read.
    pub(super) fn is_empty(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Streamed(source) => {
                let source = source.lock();
                source.kept.as_ref().is_some_and(Vec::is_empty) && source.has_nothing_more()
            }
        }
    }

    /// The bytes, unless it is a stream.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Whole(bytes) => Some(bytes),
            Content::Streamed(_) => None,
        }
    }

    /// What is in it, to be sent as a part of another body. A stream cannot be sent in another way afterwards.
    pub(super) fn into_content(self) -> Result<Content<Unread>, BodyError> {
        match self.content {
            Content::Whole(bytes) => Ok(Content::Whole(bytes)),
            Content::Streamed(source) => source.take().map(Content::Streamed),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn trailers(&self) -> &[HeaderName] {
        &self.trailers
    }

    pub(super) const fn is_streamed(&self) -> bool {
        matches!(self.content, Content::Streamed(_))
    }

    /// Whether it can be sent, from its beginning.
    pub(super) fn can_be_sent(&self) -> bool {
        self.source().is_none_or(|source| source.lock().kept.is_some())
    }

    pub(super) const fn source(&self) -> Option<&Arc<Source>> {
        match &self.content {
            Content::Whole(_) => None,
            Content::Streamed(source) => Some(source),
        }
    }

    /// The body for one attempt to send it, which `recording` counts. An earlier one can no longer be read.
    pub(super) fn attempt(&self, recording: &Recording) -> Outgoing {
        match &self.content {
            Content::Whole(bytes) => {
                recording.add_sent(bytes.len());
                Outgoing::Whole(Full::new(bytes.clone()))
            }
            Content::Streamed(source) => {
                let mut state = source.lock();
                state.attempt += 1;
                Outgoing::Streamed {
                    attempt: state.attempt,
                    source: Arc::clone(source),
                    replayed: 0,
                    sent: 0,
                    recording: recording.clone(),
                }
            }
        }
    }
}

/// No bytes.
impl Default for Body {
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self { content: Content::Whole(bytes.into()), trailers: Vec::new() }
    }
}

/// Without what is in it.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("length", &self.length())
            .field("is_streamed", &self.is_streamed())
            .finish_non_exhaustive()
    }
}

/// A stream as a body.
struct Chunks<S>(Pin<Box<S>>);

impl<S, T, E> HttpBody for Chunks<S>
where
    S: Stream<Item = Result<T, E>>,
    T: Into<Bytes>,
    E: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let chunk = ready!(self.0.as_mut().poll_next(context));
        Poll::Ready(chunk.map(|chunk| chunk.map(|chunk| Frame::data(chunk.into())).map_err(Into::into)))
    }
}

/// What a streamed body is read from.
pub(super) struct Source(Mutex<State>);

struct State {
    body: Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>,
    length: Option<u64>,
    announced: Vec<HeaderName>,
    /// How many bytes it may have.
    max: u64,
    /// The attempt that may read.
    attempt: u64,
    /// What was read, while it is little.
    kept: Option<Vec<Piece>>,
    kept_bytes: usize,
    read: u64,
    /// The piece that completes the length. It is sent once nothing follows it: hyper would not look.
    held: Option<Bytes>,
    /// The trailers that follow such a piece.
    trailers: Option<HeaderMap>,
    is_ended: bool,
    failure: Option<BodyError>,
    /// When a piece was last taken, and how many were.
    progress: (Instant, u64),
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl From<Piece> for Frame<Bytes> {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Data(data) => Self::data(data),
            Piece::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

/// A streamed body could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// More of it was read than is kept, by an earlier attempt or another request.
    #[error("it was read already, and a stream can be sent only once")]
    Used,
    /// What it is read from has failed.
    #[error("it could not be read")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It has more or fewer bytes than were announced.
    #[error("its length was given as {length} bytes, and it has {}", if *.read > *.length { "more" } else { "fewer" })]
    Length {
        /// How many were announced.
        length: u64,
        /// How many were read.
        read: u64,
    },
    /// It is longer than [`HttpConfig::max_streamed_body`](super::HttpConfig::max_streamed_body) allows.
    #[error("it has more than {limit} bytes, the limit of `max_streamed_body`")]
    TooLarge {
        /// How many it may have.
        limit: u64,
    },
    /// It has trailers that were not announced.
    #[error("it has the trailer `{name}`, which was not announced")]
    Trailer {
        /// The first of them.
        name: HeaderName,
    },
}

/// Why an attempt has ended. The reason itself stays with the source.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request could not be sent")]
struct Ended;

impl Source {
    fn new(body: Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>, length: Option<u64>) -> Self {
        Self(Mutex::new(State::new(body, length)))
    }

    /// The stream, if nothing of it was read.
    fn take(&self) -> Result<Unread, BodyError> {
        let mut state = self.lock();
        if state.attempt > 0 || state.kept.is_none() {
            return Err(BodyError::Used);
        }
        let used =
            State { kept: None, ..State::new(Box::pin(Empty::new().map_err(|never| match never {})), None) };
        let unread = std::mem::replace(&mut *state, used);
        // The body that it becomes a part of keeps what is read, and has no place for trailers.
        Ok(Unread(State { kept: None, announced: Vec::new(), ..unread }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // If what is read panics, the next attempt is refused what it has read.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limit(&self, max: u64) {
        self.lock().max = max;
    }

    /// Why it could not be sent, if that was because of the body.
    pub(super) fn take_failure(&self) -> Option<BodyError> {
        self.lock().failure.take()
    }

    /// Reads a body that is said to be empty: hyper would not look whether it is.
    pub(super) async fn check_empty(&self) -> Result<(), BodyError> {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            if state.length != Some(0) || state.is_ended || !state.announced.is_empty() {
                return Poll::Ready(Ok(()));
            }
            state.poll_piece(context).map_ok(drop)
        })
        .await
    }

    /// Waits for `sending`, which sends this body and waits for the answer. Fails if for `stall` no more of the body was
    /// taken, or the answer has not begun `answer` after the body was sent.
    pub(super) async fn watch<T>(
        &self,
        stall: Duration,
        answer: Option<Duration>,
        sending: impl Future<Output = T>,
    ) -> Result<T, Late> {
        /// A clock does not go on for ever: longer than this is not to be added to it.
        const LONGEST: Duration = Duration::from_hours(24 * 365);
        let mut sending = std::pin::pin!(sending);
        let begun = Instant::now();
        loop {
            let (progress, is_ended) = {
                let state = self.lock();
                (state.progress, state.is_ended)
            };
            let (limit, late) = match answer.filter(|answer| is_ended && *answer < stall) {
                Some(answer) => (answer, Late::Answer(answer)),
                None => (stall, Late::Stalled(stall)),
            };
            let at = progress.0.max(begun) + limit.min(LONGEST);
            if let Ok(done) = timeout_at(at, &mut sending).await {
                return Ok(done);
            }
            if self.lock().progress.1 == progress.1 {
                return Err(late);
            }
        }
    }
}

/// What took too long.
#[derive(Debug, Clone, Copy)]
pub(super) enum Late {
    Stalled(Duration),
    Answer(Duration),
}

/// A stream of which nothing was read, and that nothing else reads.
pub(super) struct Unread(State);

impl Unread {
    /// The number of bytes, if it is known.
    pub(super) const fn length(&self) -> Option<u64> {
        self.0.length
    }

    /// The next bytes, or nothing at the end.
    pub(super) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        if self.0.is_ended {
            return Poll::Ready(Ok(None));
        }
        Poll::Ready(match ready!(self.0.poll_piece(context)) {
            Ok(Some(Piece::Data(data))) => Ok(Some(data)),
            // There are no trailers that were announced, and others fail.
            Ok(Some(Piece::Trailers(_)) | None) => Ok(None),
            Err(error) => Err(error),
        })
    }
}

impl State {
    fn new(body: Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>, length: Option<u64>) -> Self {
        Self {
            body,
            length,
            announced: Vec::new(),
            max: u64::MAX,
            attempt: 0,
            kept: Some(Vec::new()),
            kept_bytes: 0,
            read: 0,
            held: None,
            trailers: None,
            is_ended: false,
            failure: None,
            progress: (Instant::now(), 0),
        }
    }

    /// The next piece after those that are kept.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Piece>, BodyError>> {
        let piece = loop {
            let frame = match ready!(self.body.as_mut().poll_frame(context)) {
                None => {
                    self.is_ended = true;
                    if let Err(error) = self.check_whole() {
                        return Poll::Ready(Err(error));
                    }
                    break self.held.take().map(Piece::Data);
                }
                Some(Err(error)) => return Poll::Ready(Err(BodyError::Read(error))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    if let Err(error) = self.count(data.len()) {
                        return Poll::Ready(Err(error));
                    }
                    if self.length != Some(self.read) {
                        break Some(Piece::Data(data));
                    }
                    self.held = Some(data);
                }
                Err(frame) => {
                    // With trailers the body is sent in chunks, so that no length makes hyper end it before them.
                    let trailers = frame.into_trailers().unwrap_or_default();
                    if let Some(name) = trailers.keys().find(|name| !self.announced.contains(name)) {
                        return Poll::Ready(Err(BodyError::Trailer { name: name.clone() }));
                    }
                    if let Err(error) = self.check_whole() {
                        return Poll::Ready(Err(error));
                    }
                    self.is_ended = true;
                    if let Some(data) = self.held.take() {
                        self.trailers = Some(trailers);
                        break Some(Piece::Data(data));
                    }
                    break Some(Piece::Trailers(trailers));
                }
            }
        };
        self.progress = (Instant::now(), self.progress.1 + 1);
        if let Some(piece) = &piece {
            self.keep(piece);
        }
        Poll::Ready(Ok(piece))
    }

    fn count(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.read = self.read.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        match self.length {
            Some(length) if self.read > length => Err(BodyError::Length { length, read: self.read }),
            _ if self.read > self.max => Err(BodyError::TooLarge { limit: self.max }),
            _ => Ok(()),
        }
    }

    /// Whether the end is known to be there. One that comes too early is to be read, which fails.
    fn has_nothing_more(&self) -> bool {
        let is_whole = self.held.is_none() && self.check_whole().is_ok();
        is_whole && (self.is_ended || self.body.is_end_stream())
    }

    fn check_whole(&self) -> Result<(), BodyError> {
        match self.length {
            Some(length) if self.read < length => Err(BodyError::Length { length, read: self.read }),
            _ => Ok(()),
        }
    }

    fn keep(&mut self, piece: &Piece) {
        if let Piece::Data(data) = piece {
            self.kept_bytes = self.kept_bytes.saturating_add(data.len());
        }
        match &mut self.kept {
            Some(kept) if self.kept_bytes <= MAX_KEPT && kept.len() < MAX_KEPT_PIECES => {
                // A piece may be a part of a much larger buffer.
                kept.push(match piece {
                    Piece::Data(data) => Piece::Data(Bytes::copy_from_slice(data)),
                    Piece::Trailers(trailers) => Piece::Trailers(trailers.clone()),
                });
            }
            _ => self.kept = None,
        }
    }
}

/// The body of one attempt to send a request.
pub(super) enum Outgoing {
    Whole(Full<Bytes>),
    Streamed {
        source: Arc<Source>,
        attempt: u64,
        /// How many of the pieces were sent that earlier attempts have read.
        replayed: usize,
        sent: u64,
        /// Counts what is sent.
        recording: Recording,
    },
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (source, attempt, replayed, sent, recording) = match self.get_mut() {
            Self::Whole(whole) => {
                let frame = ready!(Pin::new(whole).poll_frame(context));
                return Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})));
            }
            Self::Streamed { source, attempt, replayed, sent, recording } => {
                (source, *attempt, replayed, sent, recording)
            }
        };
        let mut state = source.lock();
        if state.attempt != attempt || state.failure.is_some() {
            return Poll::Ready(Some(Err(Ended.into())));
        }
        let kept = state.kept.as_ref().and_then(|kept| kept.get(*replayed)).cloned();
        let piece = match kept {
            Some(piece) => Some(piece),
            None if state.trailers.is_some() => {
                let trailers = state.trailers.take().map(Piece::Trailers);
                if let Some(trailers) = &trailers {
                    state.keep(trailers);
                }
                trailers
            }
            None if state.is_ended => None,
            None => match ready!(state.poll_piece(context)) {
                Ok(piece) => piece,
                Err(failure) => {
                    state.failure = Some(failure);
                    state.kept = None;
                    return Poll::Ready(Some(Err(Ended.into())));
                }
            },
        };
        *replayed += 1;
        if let Some(Piece::Data(data)) = &piece {
            *sent += u64::try_from(data.len()).unwrap_or(u64::MAX);
            recording.add_sent(data.len());
        }
        Poll::Ready(piece.map(|piece| Ok(piece.into())))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Streamed { source, replayed, .. } => {
                let state = source.lock();
                let is_replayed = state.kept.as_ref().is_none_or(|kept| *replayed >= kept.len());
                is_replayed && state.announced.is_empty() && state.has_nothing_more()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Streamed { source, sent, .. } => {
                let length = source.lock().length;
                length.map_or_else(SizeHint::default, |length| {
                    SizeHint::with_exact(length.saturating_sub(*sent))
                })
            }
        }
    }
}
