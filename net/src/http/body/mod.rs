//! The body of a request.

mod stream;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use http::HeaderName;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use self::stream::{BoxError, BoxedBody, StreamAttempt, StreamedBody};
use crate::audit::Recording;

pub use self::stream::BodyError;
pub(crate) use self::stream::{Late, Unread};

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
    content: Content<Arc<StreamedBody>>,
    trailers: Vec<HeaderName>,
}

/// What is in a body: bytes, or a stream of them.
#[derive(Clone)]
pub(crate) enum Content<S> {
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
            source.set_length(length);
        }
        self
    }

    /// With trailers of these names, which the stream has as its last frame: see [`Body::new`]. Over HTTP/1.1 they are
    /// announced in `Trailer`, and the body is sent in chunks. Trailers of other names fail the request.
    #[must_use]
    pub fn with_trailers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.trailers.extend(names);
        if let Content::Streamed(source) = &self.content {
            source.announce(&self.trailers);
        }
        self
    }

    fn streamed(body: BoxedBody, length: Option<u64>) -> Self {
        Self { content: Content::Streamed(Arc::new(StreamedBody::new(body, length))), trailers: Vec::new() }
    }

    /// The number of bytes, if it is known.
    pub fn length(&self) -> Option<u64> {
        match &self.content {
            Content::Whole(bytes) => Some(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Content::Streamed(source) => source.length(),
        }
    }

    /// Whether there are no bytes in it, as far as is known before it is read.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Streamed(source) => source.is_empty(),
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
    pub(crate) fn into_content(self) -> Result<Content<Unread>, BodyError> {
        match self.content {
            Content::Whole(bytes) => Ok(Content::Whole(bytes)),
            Content::Streamed(source) => source.take().map(Content::Streamed),
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn trailers(&self) -> &[HeaderName] {
        &self.trailers
    }

    pub(crate) const fn is_streamed(&self) -> bool {
        matches!(self.content, Content::Streamed(_))
    }

    /// Whether it can be sent, from its beginning.
    pub(crate) fn can_be_sent(&self) -> bool {
        self.source().is_none_or(|source| source.is_replayable())
    }

    pub(crate) const fn source(&self) -> Option<&Arc<StreamedBody>> {
        match &self.content {
            Content::Whole(_) => None,
            Content::Streamed(source) => Some(source),
        }
    }

    /// The body for one attempt to send it, which `recording` counts. An earlier one can no longer be read.
    pub(crate) fn attempt(&self, recording: &Recording) -> OutgoingBody {
        match &self.content {
            Content::Whole(bytes) => {
                recording.add_sent(bytes.len());
                OutgoingBody::Whole(Full::new(bytes.clone()))
            }
            Content::Streamed(source) => OutgoingBody::Streamed(StreamAttempt::new(source, recording)),
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

/// The body of one attempt to send a request.
pub(crate) enum OutgoingBody {
    Whole(Full<Bytes>),
    Streamed(StreamAttempt),
}

impl HttpBody for OutgoingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(whole) => {
                let frame = ready!(Pin::new(whole).poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Streamed(attempt) => Pin::new(attempt).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Streamed(attempt) => attempt.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Streamed(attempt) => attempt.size_hint(),
        }
    }
}
