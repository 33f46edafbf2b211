//! The response to a request, and its body.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;
use url::Url;

use super::decode::{DecodeFault, Decoder};
use super::error::{HttpError, Peer};
use super::events::Events;
use super::pool::Lease;
use super::retry;
use super::secret::SecretHeader;
use super::wire::{Excess, HeadLimits};
use crate::audit::{End, Recording};
use crate::deadline::Deadline;
use crate::network::Route;
use crate::secrets::{EchoGuard, Found};

/// A response: its head, and its body, which may still be arriving.
///
/// It holds its connection until the body was read to its end. Dropping it before closes the connection; over HTTP/2 that
/// is the request's stream only, unless the connection is the request's own.
pub struct Response {
    pub(crate) head: http::response::Parts,
    pub(crate) url: Url,
    pub(crate) redirects: usize,
    pub(crate) body: ResponseBody,
}

impl Response {
    /// Returns the status.
    pub const fn status(&self) -> StatusCode {
        self.head.status
    }

    /// Returns the version of HTTP.
    pub const fn version(&self) -> Version {
        self.head.version
    }

    /// Returns the headers as they were sent: `Content-Encoding` and `Content-Length` are those of the encoded body, also if it
    /// is [decoded](Self::is_decoded).
    pub const fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Returns the URL of the last request, after all redirects.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Returns how many redirects were followed.
    pub const fn redirects(&self) -> usize {
        self.redirects
    }

    /// Returns the route of the request.
    pub const fn route(&self) -> &Route {
        &self.body.peer().route
    }

    /// The server.
    pub(crate) const fn peer(&self) -> &Peer {
        self.body.peer()
    }

    /// Returns whether the body is decoded as it is read: see [`Request::decode`](super::Request::decode).
    pub const fn is_decoded(&self) -> bool {
        self.body.is_decoded()
    }

    /// The events of the body, which is `text/event-stream`. The request for it is best [streamed](super::Request::streamed).
    ///
    /// # Errors
    ///
    /// [`HttpError::Events`] if the status is not 200 or the `Content-Type` is another.
    pub fn events(self) -> Result<Events, HttpError> {
        Events::new(self)
    }

    /// The next piece of the body, which is not empty, or nothing at its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next call gets it.
    ///
    /// # Errors
    ///
    /// [`HttpError::BodyTooLarge`] once there are more bytes than allowed, also where only the server says so;
    /// [`HttpError::TimedOut`], [`HttpError::Stalled`], [`HttpError::Broken`] and [`HttpError::Protocol`];
    /// [`HttpError::Encoding`] and [`HttpError::DecoderMemory`] where it is decoded. The connection is closed then, and every
    /// further call fails.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        self.body.chunk().await
    }

    /// Returns the fields after the body. There are none before the body is read to its end.
    pub const fn trailers(&self) -> Option<&HeaderMap> {
        self.body.trailers()
    }

    /// Reads the rest of the body.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the response.
    ///
    /// # Errors
    ///
    /// As [`chunk`](Response::chunk).
    pub async fn bytes(mut self) -> Result<Bytes, HttpError> {
        self.collect().await
    }

    /// [`bytes`](Self::bytes), and the [trailers](Self::trailers).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the response.
    ///
    /// # Errors
    ///
    /// As [`chunk`](Response::chunk).
    pub async fn bytes_and_trailers(mut self) -> Result<(Bytes, Option<HeaderMap>), HttpError> {
        let bytes = self.collect().await?;
        Ok((bytes, self.body.take_trailers()))
    }

    async fn collect(&mut self) -> Result<Bytes, HttpError> {
        /// What a server says that it will send is no reason to have that much ready.
        const MOST_AT_ONCE: u64 = 64 << 10;

        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let further = self.body.at_least().min(MOST_AT_ONCE);
        let further = usize::try_from(further).unwrap_or(0);
        let mut bytes = BytesMut::with_capacity(first.len() + second.len() + further);
        bytes.extend_from_slice(&first);
        bytes.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Reads the rest of the body as UTF-8, whatever its `Content-Type`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the response.
    ///
    /// # Errors
    ///
    /// [`HttpError::NotUtf8`], and those of [`chunk`](Response::chunk).
    pub async fn text(self) -> Result<String, HttpError> {
        let peer = self.body.peer().clone();
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.into()).map_err(|_| HttpError::NotUtf8 { peer })
    }

    /// Reads the rest of the body as JSON, whatever its `Content-Type`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the response.
    ///
    /// # Errors
    ///
    /// [`HttpError::Decode`], and those of [`chunk`](Response::chunk).
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, HttpError> {
        let peer = self.body.peer().clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| HttpError::Decode { peer, source: error.into() })
    }
}

/// Without the path, the query, the values of headers and the body, where secrets may be.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.head.headers.keys().collect();
        f.debug_struct("Response")
            .field("peer", &format_args!("{}", self.body.peer()))
            .field("status", &self.head.status)
            .field("version", &self.head.version)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

/// The body of a response, and the connection that it comes over.
pub(crate) struct ResponseBody {
    state: BodyState,
    decoder: Option<Decoder>,
    /// The fields after it.
    trailers: Option<HeaderMap>,
    peer: Peer,
    /// Bytes as they were sent.
    received: u64,
    /// Bytes that were given out.
    given: u64,
    limits: BodyLimits,
    guard: Option<Box<BodyGuard>>,
}

/// What must not be in the body, and finds it there.
struct BodyGuard {
    secret: Arc<SecretHeader>,
    echo: EchoGuard,
    /// That of the request: how it ended is known once the body was looked through.
    recording: Recording,
}

/// The limits of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// How many bytes it may have, decoded.
    pub(crate) max: u64,
    /// The setting of the limit.
    pub(crate) setting: &'static str,
    /// For all of it.
    pub(crate) total: Option<Deadline>,
    /// For each piece.
    pub(crate) stall: Option<Duration>,
    /// For its trailers.
    pub(crate) trailers: HeadLimits,
}

#[allow(clippy::large_enum_variant, reason = "a body is `Coming` nearly all of its life")]
enum BodyState {
    Coming { incoming: Incoming, lease: Lease },
    Whole,
    Failed(BodyFailure),
}

/// Why reading has failed. Further reads fail the same way: a body that is cut off must not look complete.
#[derive(Debug, Clone, Copy)]
enum BodyFailure {
    Broken,
    TooLarge,
    TimedOut(Duration),
    Stalled(Duration),
    Encoding(&'static str),
    DecoderMemory(u64),
    Trailers(Excess),
    Echoed,
}

/// The cause of a failure. It is reported once.
enum FailureCause {
    Connection(hyper::Error),
    Encoding(io::Error),
}

impl ResponseBody {
    pub(crate) fn new(
        incoming: Incoming,
        lease: Lease,
        decoder: Option<Decoder>,
        peer: Peer,
        limits: BodyLimits,
    ) -> Self {
        let state = BodyState::Coming { incoming, lease };
        let mut body =
            Self { state, decoder, trailers: None, peer, received: 0, given: 0, limits, guard: None };
        body.finish_if_whole();
        body
    }

    /// The same, which fails if the secret is in it.
    pub(crate) fn guarded(mut self, secret: Option<Arc<SecretHeader>>) -> Self {
        let recording = match &self.state {
            BodyState::Coming { lease, .. } => lease.recording.clone(),
            BodyState::Whole | BodyState::Failed(_) => Recording::default(),
        };
        self.guard = secret.map(|secret| Box::new(BodyGuard { echo: secret.guard(), secret, recording }));
        self
    }

    pub(crate) const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The fields after the body, once that is read to its end.
    pub(crate) const fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    const fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    const fn is_decoded(&self) -> bool {
        self.decoder.is_some()
    }

    /// How many bytes there are at least from now on.
    fn at_least(&self) -> u64 {
        if self.is_decoded() { 0 } else { self.to_come() }
    }

    /// How many bytes are sent at least from now on.
    fn to_come(&self) -> u64 {
        match &self.state {
            BodyState::Coming { incoming, .. } => incoming.size_hint().lower(),
            BodyState::Whole | BodyState::Failed(_) => 0,
        }
    }

    /// The next piece, which is not empty, or nothing at the end. Dropping the future loses nothing.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let piece = match (self.piece().await, &self.guard) {
                (Err(error), Some(guard)) => {
                    return Err(guard.secret.hidden_from(error, &self.peer.endpoint));
                }
                (piece, _) => piece?,
            };
            let Some(BodyGuard { echo, recording, .. }) = self.guard.as_deref_mut() else {
                return Ok(piece);
            };
            let Some(piece) = piece else {
                *recording = Recording::default();
                let held = echo.finish();
                return Ok(Some(held).filter(|held| !held.is_empty()));
            };
            match echo.pass(&piece) {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Ok(Some(piece)),
                Err(Found) => return Err(self.fail(BodyFailure::Echoed, None)),
            }
        }
    }

    /// The next piece as it is received or decoded.
    async fn piece(&mut self) -> Result<Option<Bytes>, HttpError> {
        // A little input can be a lot of output, which is there without any waiting.
        if self.is_decoded() {
            tokio::task::consume_budget().await;
        }
        loop {
            if let BodyState::Failed(failure) = self.state {
                return Err(self.fail(failure, None));
            }
            if let Some(piece) = self.decoded(Decoder::next)? {
                return self.give(piece);
            }
            match self.received().await? {
                None => {
                    let Some(piece) = self.decoded(Decoder::finish)? else { return Ok(None) };
                    return self.give(piece);
                }
                Some(data) => match &mut self.decoder {
                    None => return self.give(data),
                    Some(decoder) => decoder.feed(&data),
                },
            }
        }
    }

    /// What the decoder, if there is one, has at the moment.
    fn decoded(
        &mut self,
        next: fn(&mut Decoder) -> Result<Option<Bytes>, DecodeFault>,
    ) -> Result<Option<Bytes>, HttpError> {
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        let fault = match next(decoder) {
            Ok(piece) => return Ok(piece),
            Err(fault) => fault,
        };
        let (name, max) = (decoder.coding().name(), decoder.max_memory());
        Err(match fault {
            DecodeFault::Invalid(error) => {
                self.fail(BodyFailure::Encoding(name), Some(FailureCause::Encoding(error)))
            }
            DecodeFault::Memory => self.fail(BodyFailure::DecoderMemory(max), None),
        })
    }

    /// Gives out a piece, unless it is too much.
    fn give(&mut self, piece: Bytes) -> Result<Option<Bytes>, HttpError> {
        self.given = self.given.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if self.given > self.limits.max {
            return Err(self.fail(BodyFailure::TooLarge, None));
        }
        Ok(Some(piece))
    }

    /// How many bytes may be sent. What is encoded can be a little longer than what it decodes to, and a body that decodes
    /// to nothing must end, too.
    fn max_received(&self) -> u64 {
        let max = self.limits.max;
        if self.is_decoded() { max.saturating_add(max / 64).saturating_add(4096) } else { max }
    }

    /// The next bytes, as they were sent.
    async fn received(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            if self.to_come() > self.max_received().saturating_sub(self.received) {
                return Err(self.fail(BodyFailure::TooLarge, None));
            }
            let incoming = match &mut self.state {
                BodyState::Coming { incoming, .. } => incoming,
                BodyState::Whole => return Ok(None),
                BodyState::Failed(failure) => {
                    let failure = *failure;
                    return Err(self.fail(failure, None));
                }
            };
            let frame = match frame(incoming, self.limits).await {
                Err(late) => return Err(self.fail(late, None)),
                Ok(Some(Err(error))) => {
                    let failure = self.excess_of(&error).map_or(BodyFailure::Broken, BodyFailure::Trailers);
                    return Err(self.fail(failure, Some(FailureCause::Connection(error))));
                }
                Ok(Some(Ok(frame))) => Some(frame),
                Ok(None) => None,
            };
            let Some(frame) = frame else {
                // hyper takes a stream that is reset with `NO_ERROR` for one that has ended.
                let is_cut = match &self.state {
                    BodyState::Coming { incoming, lease } => {
                        lease.connection.is_shared() && !incoming.is_end_stream()
                    }
                    BodyState::Whole | BodyState::Failed(_) => false,
                };
                if is_cut {
                    return Err(self.fail(BodyFailure::Broken, None));
                }
                self.finish();
                return Ok(None);
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    if let Some(excess) = self.excess_in(&trailers) {
                        return Err(self.fail(BodyFailure::Trailers(excess), None));
                    }
                    if self.guard.as_ref().is_some_and(|guard| guard.secret.is_in_headers(&trailers)) {
                        return Err(self.fail(BodyFailure::Echoed, None));
                    }
                    self.trailers = Some(trailers);
                    self.finish_if_whole();
                    continue;
                }
            };
            self.received = self.received.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
            if let BodyState::Coming { lease, .. } = &self.state {
                lease.recording.add_received(data.len());
            }
            if self.received > self.max_received() {
                return Err(self.fail(BodyFailure::TooLarge, None));
            }
            self.finish_if_whole();
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    fn excess_of_http2(&self) -> Option<Excess> {
        match &self.state {
            BodyState::Coming { lease, .. } => lease.connection.excess_of_trailers(),
            BodyState::Whole | BodyState::Failed(_) => None,
        }
    }

    /// What is too much in the trailers that `error` is about.
    fn excess_of(&self, error: &hyper::Error) -> Option<Excess> {
        match retry::of_h2(error) {
            Some(error) if error.is_library() => self.excess_of_http2(),
            Some(_) => None,
            None => excess_of_http1(error),
        }
    }

    /// What is too much in these trailers. h2 leaves out what does not fit, and does not say so.
    fn excess_in(&self, trailers: &HeaderMap) -> Option<Excess> {
        let HeadLimits { bytes, fields } = self.limits.trailers;
        let lines = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        if trailers.len() > fields {
            Some(Excess::Fields)
        } else if lines.sum::<usize>() > bytes {
            Some(Excess::Bytes)
        } else {
            self.excess_of_http2()
        }
    }

    fn finish_if_whole(&mut self) {
        if matches!(&self.state, BodyState::Coming { incoming, .. } if incoming.is_end_stream()) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        /// How long a server may go on reading the request, if nothing else limits that.
        const LONGEST: Duration = Duration::from_secs(30);
        if let BodyState::Coming { lease, .. } = std::mem::replace(&mut self.state, BodyState::Whole) {
            let BodyLimits { total, stall, .. } = self.limits;
            lease.finish(total.unwrap_or_else(|| Deadline::after(stall.unwrap_or(LONGEST))));
        }
    }

    /// Closes the connection, or where others use it, too, the stream.
    fn fail(&mut self, failure: BodyFailure, source: Option<FailureCause>) -> HttpError {
        let state = std::mem::replace(&mut self.state, BodyState::Failed(failure));
        if let Some(guard) = &mut self.guard {
            let recording = std::mem::take(&mut guard.recording);
            if let BodyFailure::Echoed = failure {
                recording.end_as(End::Withheld);
            }
        }
        if let BodyState::Coming { incoming, lease } = state {
            if let BodyFailure::TimedOut(_) | BodyFailure::Stalled(_) = failure {
                // It may be dead.
                lease.connection.spent().cancel();
            }
            lease.recording.end_as(match failure {
                BodyFailure::TimedOut(_) | BodyFailure::Stalled(_) => End::TimedOut,
                BodyFailure::Broken => End::Reset,
                _ => End::Failed,
            });
            drop(incoming);
            lease.close();
        }
        self.decoder = None;
        let peer = self.peer.clone();
        match (failure, source) {
            (BodyFailure::TooLarge, _) => {
                let BodyLimits { max, setting, .. } = self.limits;
                HttpError::BodyTooLarge { peer, limit: max, setting }
            }
            (BodyFailure::TimedOut(limit), _) => HttpError::TimedOut { peer, limit },
            (BodyFailure::Stalled(limit), _) => HttpError::Stalled { peer, limit },
            (BodyFailure::DecoderMemory(limit), _) => HttpError::DecoderMemory { peer, limit },
            (BodyFailure::Trailers(excess), _) => {
                let HeadLimits { bytes, fields } = self.limits.trailers;
                let (limit, setting) = match excess {
                    Excess::Bytes => (bytes, "max_response_head"),
                    Excess::Fields => (fields, "max_response_headers"),
                };
                HttpError::TrailersTooLarge { peer, limit, setting }
            }
            (BodyFailure::Encoding(encoding), Some(FailureCause::Encoding(source))) => {
                HttpError::Encoding { peer, encoding, source: Some(source.into()) }
            }
            (BodyFailure::Encoding(encoding), _) => HttpError::Encoding { peer, encoding, source: None },
            (BodyFailure::Echoed, _) => match &self.guard {
                Some(guard) => guard.secret.echoed(&peer.endpoint).into(),
                None => HttpError::Broken { peer, source: None },
            },
            (BodyFailure::Broken, Some(FailureCause::Connection(source))) => {
                HttpError::of_connection(&peer, source)
            }
            (BodyFailure::Broken, _) => HttpError::Broken { peer, source: None },
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let BodyState::Coming { incoming, lease } = std::mem::replace(&mut self.state, BodyState::Whole) {
            drop(incoming);
            lease.close();
        }
    }
}

/// What is too much in the trailers that `error` is about, over HTTP/1.1. hyper has no other way to tell.
fn excess_of_http1(error: &hyper::Error) -> Option<Excess> {
    match error.source()?.downcast_ref::<io::Error>()?.get_ref()?.to_string().as_str() {
        "chunk trailers bytes over limit" => Some(Excess::Bytes),
        "chunk trailers count overflow" => Some(Excess::Fields),
        _ => None,
    }
}

/// The next frame, within the limits.
async fn frame(
    incoming: &mut Incoming,
    limits: BodyLimits,
) -> Result<Option<hyper::Result<hyper::body::Frame<Bytes>>>, BodyFailure> {
    let BodyLimits { total, stall, .. } = limits;
    let next = async {
        match stall {
            None => Ok(incoming.frame().await),
            Some(stall) => {
                let next = Deadline::after(stall).timeout(incoming.frame()).await;
                next.map_err(|_| BodyFailure::Stalled(stall))
            }
        }
    };
    match total {
        None => next.await,
        Some(total) => total.timeout(next).await.unwrap_or(Err(BodyFailure::TimedOut(total.limit))),
    }
}
