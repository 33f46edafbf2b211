//! The body of a response.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::decode::{Decoder, Fault};
use super::error::{HttpError, Peer};
use super::fields::{Excess, HeadLimits};
use super::pool::Lease;
use super::retry;
use super::secret::SecretHeader;
use crate::audit::End;
use crate::deadline::Deadline;
use crate::secrets::{EchoGuard, Found};

/// A body that is still on its way, and the connection it comes over.
pub(super) struct ResponseBody {
    state: State,
    decoder: Option<Decoder>,
    /// What came behind it.
    trailers: Option<HeaderMap>,
    peer: Peer,
    /// Bytes as they were sent.
    received: u64,
    /// Bytes that were given out.
    given: u64,
    limits: BodyLimits,
    guard: Option<Box<Guard>>,
}

/// What must not be in the body, and finds it there.
struct Guard {
    secret: Arc<SecretHeader>,
    echo: EchoGuard,
}

/// What a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    /// How many bytes it may have, decoded.
    pub(super) max: u64,
    /// The setting of the limit.
    pub(super) setting: &'static str,
    /// For all of it.
    pub(super) total: Option<Deadline>,
    /// For each piece.
    pub(super) stall: Option<Duration>,
    /// For its trailers.
    pub(super) trailers: HeadLimits,
}

#[allow(clippy::large_enum_variant, reason = "a body is `Coming` nearly all of its life")]
enum State {
    Coming { incoming: Incoming, lease: Lease },
    Whole,
    Failed(Failure),
}

/// Why no more comes. It stays so: a body that is cut off must not look as if it were whole.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Broken,
    TooLarge,
    TimedOut(Duration),
    Stalled(Duration),
    Encoding(&'static str),
    DecoderMemory(u64),
    Trailers(Excess),
    Echoed,
}

/// What caused a failure, which is told once.
enum Source {
    Connection(hyper::Error),
    Encoding(io::Error),
}

impl ResponseBody {
    pub(super) fn new(
        incoming: Incoming,
        lease: Lease,
        decoder: Option<Decoder>,
        peer: Peer,
        limits: BodyLimits,
    ) -> Self {
        let state = State::Coming { incoming, lease };
        let mut body =
            Self { state, decoder, trailers: None, peer, received: 0, given: 0, limits, guard: None };
        body.finish_if_whole();
        body
    }

    /// The same, which fails if the secret is in it.
    pub(super) fn guarded(mut self, secret: Option<Arc<SecretHeader>>) -> Self {
        self.guard = secret.map(|secret| Box::new(Guard { echo: secret.guard(), secret }));
        self
    }

    pub(super) const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What came behind the body, once that is read to its end.
    pub(super) const fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    pub(super) const fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    pub(super) const fn is_decoded(&self) -> bool {
        self.decoder.is_some()
    }

    /// How many bytes there are at least from now on.
    pub(super) fn at_least(&self) -> u64 {
        if self.is_decoded() { 0 } else { self.to_come() }
    }

    /// How many bytes are sent at least from now on.
    fn to_come(&self) -> u64 {
        match &self.state {
            State::Coming { incoming, .. } => incoming.size_hint().lower(),
            State::Whole | State::Failed(_) => 0,
        }
    }

    /// The next piece, which is not empty, or nothing at the end. Dropping the future loses nothing.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let piece = match (self.piece().await, &self.guard) {
                (Err(error), Some(guard)) => {
                    return Err(guard.secret.hidden_from(error, &self.peer.endpoint));
                }
                (piece, _) => piece?,
            };
            let Some(Guard { echo, .. }) = self.guard.as_deref_mut() else { return Ok(piece) };
            let Some(piece) = piece else {
                let held = echo.finish();
                return Ok(Some(held).filter(|held| !held.is_empty()));
            };
            match echo.pass(&piece) {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Ok(Some(piece)),
                Err(Found) => return Err(self.fail(Failure::Echoed, None)),
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
            if let State::Failed(failure) = self.state {
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
        next: fn(&mut Decoder) -> Result<Option<Bytes>, Fault>,
    ) -> Result<Option<Bytes>, HttpError> {
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        let fault = match next(decoder) {
            Ok(piece) => return Ok(piece),
            Err(fault) => fault,
        };
        let (name, max) = (decoder.coding().name(), decoder.max_memory());
        Err(match fault {
            Fault::Invalid(error) => self.fail(Failure::Encoding(name), Some(Source::Encoding(error))),
            Fault::Memory => self.fail(Failure::DecoderMemory(max), None),
        })
    }

    /// Gives out a piece, unless it is too much.
    fn give(&mut self, piece: Bytes) -> Result<Option<Bytes>, HttpError> {
        self.given = self.given.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if self.given > self.limits.max {
            return Err(self.fail(Failure::TooLarge, None));
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
                return Err(self.fail(Failure::TooLarge, None));
            }
            let incoming = match &mut self.state {
                State::Coming { incoming, .. } => incoming,
                State::Whole => return Ok(None),
                State::Failed(failure) => {
                    let failure = *failure;
                    return Err(self.fail(failure, None));
                }
            };
            let frame = match frame(incoming, self.limits).await {
                Err(late) => return Err(self.fail(late, None)),
                Ok(Some(Err(error))) => {
                    let failure = self.excess_of(&error).map_or(Failure::Broken, Failure::Trailers);
                    return Err(self.fail(failure, Some(Source::Connection(error))));
                }
                Ok(Some(Ok(frame))) => Some(frame),
                Ok(None) => None,
            };
            let Some(frame) = frame else {
                // hyper takes a stream that is reset with `NO_ERROR` for one that has ended.
                let is_cut = match &self.state {
                    State::Coming { incoming, lease } => {
                        lease.connection.is_shared() && !incoming.is_end_stream()
                    }
                    State::Whole | State::Failed(_) => false,
                };
                if is_cut {
                    return Err(self.fail(Failure::Broken, None));
                }
                self.finish();
                return Ok(None);
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    if let Some(excess) = self.excess_in(&trailers) {
                        return Err(self.fail(Failure::Trailers(excess), None));
                    }
                    if self.guard.as_ref().is_some_and(|guard| guard.secret.is_in_headers(&trailers)) {
                        return Err(self.fail(Failure::Echoed, None));
                    }
                    self.trailers = Some(trailers);
                    self.finish_if_whole();
                    continue;
                }
            };
            self.received = self.received.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
            if let State::Coming { lease, .. } = &self.state {
                lease.recording.add_received(data.len());
            }
            if self.received > self.max_received() {
                return Err(self.fail(Failure::TooLarge, None));
            }
            self.finish_if_whole();
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    fn excess_of_http2(&self) -> Option<Excess> {
        match &self.state {
            State::Coming { lease, .. } => lease.connection.excess_of_trailers(),
            State::Whole | State::Failed(_) => None,
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
        if matches!(&self.state, State::Coming { incoming, .. } if incoming.is_end_stream()) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        /// How long a server may go on reading the request, if nothing else limits that.
        const LONGEST: Duration = Duration::from_secs(30);
        if let State::Coming { lease, .. } = std::mem::replace(&mut self.state, State::Whole) {
            let BodyLimits { total, stall, .. } = self.limits;
            lease.finish(total.unwrap_or_else(|| Deadline::after(stall.unwrap_or(LONGEST))));
        }
    }

    /// Closes the connection, or where others use it, too, the stream.
    fn fail(&mut self, failure: Failure, source: Option<Source>) -> HttpError {
        let state = std::mem::replace(&mut self.state, State::Failed(failure));
        if let State::Coming { incoming, lease } = state {
            if let Failure::TimedOut(_) | Failure::Stalled(_) = failure {
                // It may be dead.
                lease.connection.spent().cancel();
            }
            lease.recording.end_as(match failure {
                Failure::TimedOut(_) | Failure::Stalled(_) => End::TimedOut,
                Failure::Broken => End::Reset,
                _ => End::Failed,
            });
            drop(incoming);
            lease.close();
        }
        self.decoder = None;
        let peer = self.peer.clone();
        match (failure, source) {
            (Failure::TooLarge, _) => {
                let BodyLimits { max, setting, .. } = self.limits;
                HttpError::BodyTooLarge { peer, limit: max, setting }
            }
            (Failure::TimedOut(limit), _) => HttpError::TimedOut { peer, limit },
            (Failure::Stalled(limit), _) => HttpError::Stalled { peer, limit },
            (Failure::DecoderMemory(limit), _) => HttpError::DecoderMemory { peer, limit },
            (Failure::Trailers(excess), _) => {
                let HeadLimits { bytes, fields } = self.limits.trailers;
                let (limit, setting) = match excess {
                    Excess::Bytes => (bytes, "max_response_head"),
                    Excess::Fields => (fields, "max_response_headers"),
                };
                HttpError::TrailersTooLarge { peer, limit, setting }
            }
            (Failure::Encoding(encoding), Some(Source::Encoding(source))) => {
                HttpError::Encoding { peer, encoding, source: Some(source) }
            }
            (Failure::Encoding(encoding), _) => HttpError::Encoding { peer, encoding, source: None },
            (Failure::Echoed, _) => match &self.guard {
                Some(guard) => guard.secret.echoed(&peer.endpoint).into(),
                None => HttpError::Broken { peer, source: None },
            },
            (Failure::Broken, Some(Source::Connection(source))) => HttpError::of_connection(&peer, source),
            (Failure::Broken, _) => HttpError::Broken { peer, source: None },
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let State::Coming { incoming, lease } = std::mem::replace(&mut self.state, State::Whole) {
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
) -> Result<Option<hyper::Result<hyper::body::Frame<Bytes>>>, Failure> {
    let BodyLimits { total, stall, .. } = limits;
    let next = async {
        match stall {
            None => Ok(incoming.frame().await),
            Some(stall) => {
                let next = Deadline::after(stall).timeout(incoming.frame()).await;
                next.map_err(|_| Failure::Stalled(stall))
            }
        }
    };
    match total {
        None => next.await,
        Some(total) => total.timeout(next).await.unwrap_or(Err(Failure::TimedOut(total.limit))),
    }
}
