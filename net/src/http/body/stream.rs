//! A body that is a stream: it is read while it is sent, and what is read first is kept to send it again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::audit::Recording;

/// An error of what a body is read from.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a streamed body is read from.
pub(crate) type BoxedBody = Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>;

/// How many bytes of a streamed body are kept to send them again.
const MAX_KEPT: usize = 64 << 10;

/// How many pieces of it are kept: each may be a few bytes and takes more memory than that.
const MAX_KEPT_PIECES: usize = 64;

/// A stream that is sent as the body of a request.
pub(crate) struct StreamedBody(Mutex<StreamState>);

struct StreamState {
    body: BoxedBody,
    length: Option<u64>,
    announced: Vec<HeaderName>,
    /// How many bytes it may have.
    max: u64,
    /// The attempt that may read.
    attempt: u64,
    /// What was read, while it is little.
    kept: Option<Vec<BodyPiece>>,
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
enum BodyPiece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl From<BodyPiece> for Frame<Bytes> {
    fn from(piece: BodyPiece) -> Self {
        match piece {
            BodyPiece::Data(data) => Self::data(data),
            BodyPiece::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

/// A streamed body could not be sent.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// More of it was read than is kept, by an earlier attempt or another request.
    #[error("it was read already, and a stream can be sent only once")]
    Used,
    /// What it is read from has failed.
    #[error("it could not be read")]
    Read(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// It has more or fewer bytes than were announced.
    #[error("its length was given as {length} bytes, and it has {}", if *.read > *.length { "more" } else { "fewer" })]
    Length {
        /// How many were announced.
        length: u64,
        /// How many were read.
        read: u64,
    },
    /// It is longer than [`HttpConfig::max_streamed_body`](crate::http::HttpConfig::max_streamed_body) allows.
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
struct AttemptEnded;

impl StreamedBody {
    pub(crate) fn new(body: BoxedBody, length: Option<u64>) -> Self {
        Self(Mutex::new(StreamState::new(body, length)))
    }

    /// The stream, if nothing of it was read.
    pub(crate) fn take(&self) -> Result<Unread, BodyError> {
        let mut state = self.lock();
        if state.attempt > 0 || state.kept.is_none() {
            return Err(BodyError::Used);
        }
        let used = StreamState {
            kept: None,
            ..StreamState::new(Box::pin(Empty::new().map_err(|never| match never {})), None)
        };
        let unread = std::mem::replace(&mut *state, used);
        // The body that it becomes a part of keeps what is read, and has no place for trailers.
        Ok(Unread(StreamState { kept: None, announced: Vec::new(), ..unread }))
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.lock().length
    }

    pub(crate) fn set_length(&self, length: u64) {
        self.lock().length = Some(length);
    }

    /// Allows trailers of these names.
    pub(crate) fn announce(&self, trailers: &[HeaderName]) {
        self.lock().announced = trailers.to_vec();
    }

    /// Returns whether it has no bytes, as far as is known before it is read.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.kept.as_ref().is_some_and(Vec::is_empty) && state.has_nothing_more()
    }

    /// Returns whether it can be sent from its beginning.
    pub(crate) fn is_replayable(&self) -> bool {
        self.lock().kept.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, StreamState> {
        // If what is read panics, the next attempt is refused what it has read.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn limit(&self, max: u64) {
        self.lock().max = max;
    }

    /// Why it could not be sent, if that was because of the body.
    pub(crate) fn take_failure(&self) -> Option<BodyError> {
        self.lock().failure.take()
    }

    /// Reads a body that is said to be empty: hyper would not look whether it is.
    pub(crate) async fn check_empty(&self) -> Result<(), BodyError> {
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
    pub(crate) async fn watch<T>(
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
pub(crate) enum Late {
    Stalled(Duration),
    Answer(Duration),
}

/// A stream of which nothing was read, and that nothing else reads.
pub(crate) struct Unread(StreamState);

impl Unread {
    /// The number of bytes, if it is known.
    pub(crate) const fn length(&self) -> Option<u64> {
        self.0.length
    }

    /// The next bytes, or nothing at the end.
    pub(crate) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        if self.0.is_ended {
            return Poll::Ready(Ok(None));
        }
        Poll::Ready(match ready!(self.0.poll_piece(context)) {
            Ok(Some(BodyPiece::Data(data))) => Ok(Some(data)),
            // There are no trailers that were announced, and others fail.
            Ok(Some(BodyPiece::Trailers(_)) | None) => Ok(None),
            Err(error) => Err(error),
        })
    }
}

impl StreamState {
    fn new(body: BoxedBody, length: Option<u64>) -> Self {
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
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<BodyPiece>, BodyError>> {
        let piece = loop {
            let frame = match ready!(self.body.as_mut().poll_frame(context)) {
                None => {
                    self.is_ended = true;
                    if let Err(error) = self.check_whole() {
                        return Poll::Ready(Err(error));
                    }
                    break self.held.take().map(BodyPiece::Data);
                }
                Some(Err(error)) => return Poll::Ready(Err(BodyError::Read(error.into()))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    if let Err(error) = self.count(data.len()) {
                        return Poll::Ready(Err(error));
                    }
                    if self.length != Some(self.read) {
                        break Some(BodyPiece::Data(data));
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
                        break Some(BodyPiece::Data(data));
                    }
                    break Some(BodyPiece::Trailers(trailers));
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

    fn keep(&mut self, piece: &BodyPiece) {
        if let BodyPiece::Data(data) = piece {
            self.kept_bytes = self.kept_bytes.saturating_add(data.len());
        }
        match &mut self.kept {
            Some(kept) if self.kept_bytes <= MAX_KEPT && kept.len() < MAX_KEPT_PIECES => {
                // A piece may be a part of a much larger buffer.
                kept.push(match piece {
                    BodyPiece::Data(data) => BodyPiece::Data(Bytes::copy_from_slice(data)),
                    BodyPiece::Trailers(trailers) => BodyPiece::Trailers(trailers.clone()),
                });
            }
            _ => self.kept = None,
        }
    }
}

/// One attempt to send a streamed body: what earlier attempts have read, and then the stream.
pub(crate) struct StreamAttempt {
    source: Arc<StreamedBody>,
    attempt: u64,
    /// How many of the pieces were sent that earlier attempts have read.
    replayed: usize,
    sent: u64,
    /// Counts what is sent.
    recording: Recording,
}

impl StreamAttempt {
    /// Begins an attempt. Earlier ones can no longer be read.
    pub(crate) fn new(source: &Arc<StreamedBody>, recording: &Recording) -> Self {
        let mut state = source.lock();
        state.attempt += 1;
        let attempt = state.attempt;
        drop(state);
        Self { source: Arc::clone(source), attempt, replayed: 0, sent: 0, recording: recording.clone() }
    }
}

impl HttpBody for StreamAttempt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { source, attempt, replayed, sent, recording } = self.get_mut();
        let mut state = source.lock();
        if state.attempt != *attempt || state.failure.is_some() {
            return Poll::Ready(Some(Err(AttemptEnded.into())));
        }
        let kept = state.kept.as_ref().and_then(|kept| kept.get(*replayed)).cloned();
        let piece = match kept {
            Some(piece) => Some(piece),
            None if state.trailers.is_some() => {
                let trailers = state.trailers.take().map(BodyPiece::Trailers);
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
                    return Poll::Ready(Some(Err(AttemptEnded.into())));
                }
            },
        };
        *replayed += 1;
        if let Some(BodyPiece::Data(data)) = &piece {
            *sent += u64::try_from(data.len()).unwrap_or(u64::MAX);
            recording.add_sent(data.len());
        }
        Poll::Ready(piece.map(|piece| Ok(piece.into())))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.source.lock();
        let is_replayed = state.kept.as_ref().is_none_or(|kept| self.replayed >= kept.len());
        is_replayed && state.announced.is_empty() && state.has_nothing_more()
    }

    fn size_hint(&self) -> SizeHint {
        let left = |length: u64| SizeHint::with_exact(length.saturating_sub(self.sent));
        self.source.length().map_or_else(SizeHint::default, left)
    }
}
