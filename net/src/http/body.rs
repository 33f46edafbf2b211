//! The body of a response.

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::error::{HttpError, Peer};
use super::pool::Lease;
use crate::deadline::Deadline;

/// A body that is still on its way, and the connection it comes over.
pub(super) struct Body {
    state: State,
    /// What came behind it.
    trailers: Option<HeaderMap>,
    peer: Peer,
    received: u64,
    max: u64,
    limit: Deadline,
}

#[allow(clippy::large_enum_variant, reason = "a body is `Coming` nearly all of its life")]
enum State {
    Coming { incoming: Incoming, lease: Lease },
    Whole,
    Failed(Failure),
}

/// Why no more comes. It stays so: a body that is cut off must not look as if it were whole.
#[derive(Clone, Copy)]
enum Failure {
    Broken,
    TooLarge,
    TimedOut,
}

impl Body {
    pub(super) fn new(incoming: Incoming, lease: Lease, peer: Peer, max: u64, limit: Deadline) -> Self {
        let state = State::Coming { incoming, lease };
        let mut body = Self { state, trailers: None, peer, received: 0, max, limit };
        body.finish_if_whole();
        body
    }

    pub(super) const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What came behind the body, once that is read to its end.
    pub(super) const fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// How many bytes there are at least from now on.
    pub(super) fn at_least(&self) -> u64 {
        match &self.state {
            State::Coming { incoming, .. } => incoming.size_hint().lower(),
            State::Whole | State::Failed(_) => 0,
        }
    }

    /// The next piece, which is not empty, or nothing at the end. Dropping the future loses nothing.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            if self.at_least() > self.max.saturating_sub(self.received) {
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
            let frame = match self.limit.timeout(incoming.frame()).await {
                Err(_) => return Err(self.fail(Failure::TimedOut, None)),
                Ok(Some(Err(error))) => return Err(self.fail(Failure::Broken, Some(error))),
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
                    self.trailers = frame.into_trailers().ok();
                    self.finish_if_whole();
                    continue;
                }
            };
            self.received = self.received.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
            if self.received > self.max {
                return Err(self.fail(Failure::TooLarge, None));
            }
            self.finish_if_whole();
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    fn finish_if_whole(&mut self) {
        if matches!(&self.state, State::Coming { incoming, .. } if incoming.is_end_stream()) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let State::Coming { lease, .. } = std::mem::replace(&mut self.state, State::Whole) {
            lease.finish(self.limit);
        }
    }

    /// Closes the connection, or where others use it, too, the stream.
    fn fail(&mut self, failure: Failure, source: Option<hyper::Error>) -> HttpError {
        let state = std::mem::replace(&mut self.state, State::Failed(failure));
        if let (State::Coming { lease, .. }, Failure::TimedOut) = (state, failure) {
            // It may be dead.
            lease.connection.spent().cancel();
        }
        let peer = self.peer.clone();
        match (failure, source) {
            (Failure::TooLarge, _) => HttpError::BodyTooLarge { peer, limit: self.max },
            (Failure::TimedOut, _) => HttpError::TimedOut { peer, limit: self.limit.limit },
            (Failure::Broken, Some(source)) => HttpError::of_connection(&peer, source),
            (Failure::Broken, None) => HttpError::Broken { peer, source: None },
        }
    }
}
