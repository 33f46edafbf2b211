//! Why a request got no response, and whether it is sent again.

use std::error::Error;
use std::time::Duration;

use h2::Reason;
use http::Method;

use super::wire::{Excess, Lost};

/// Why a request got no response, by what is known of the server's part in it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing of the request was sent.
    Unsent(hyper::Error),
    /// The server has said that it did not process the request.
    Unprocessed(hyper::Error),
    /// The connection was closed before one byte of the response arrived.
    Unanswered(hyper::Error),
    /// The head of the response is too large, and this side has refused it.
    TooLarge(Excess),
    /// Anything else. What the server did with the request is not known.
    Broken(hyper::Error),
}

impl Failure {
    /// Classifies `error`, which came instead of a response.
    pub(crate) fn new(error: hyper::Error, lost: Lost) -> Self {
        let source = of_h2(&error);
        // The server wants fewer requests, and not the same again.
        let wants_calm = source
            .is_some_and(|source| source.is_remote() && source.reason() == Some(Reason::ENHANCE_YOUR_CALM));
        // RFC 9113, sections 6.8 and 8.7. A stream fails with the server's GOAWAY only if its number is above the last
        // one that the server may have processed.
        let is_refused = source.is_some_and(|source| {
            let is_reset = source.is_reset() && source.reason() == Some(Reason::REFUSED_STREAM);
            source.is_remote() && (source.is_go_away() || is_reset)
        });
        if let Some(excess) = lost.excess
            && source.is_some_and(h2::Error::is_library)
        {
            Self::TooLarge(excess)
        } else if !wants_calm && (lost.is_unprocessed || is_refused) {
            Self::Unprocessed(error)
        } else if !wants_calm && lost.is_unsent {
            Self::Unsent(error)
        } else if lost.is_unanswered && source.is_none() {
            Self::Unanswered(error)
        } else {
            Self::Broken(error)
        }
    }
}

/// The error of HTTP/2 that `error` is about.
pub(crate) fn of_h2(error: &hyper::Error) -> Option<&h2::Error> {
    let mut causes = std::iter::successors(error.source(), |&error| error.source());
    causes.find_map(|cause| cause.downcast_ref())
}

/// How often a request is sent, at most. The limits of the request bound the time.
const MAX_ATTEMPTS: u32 = 8;

/// The attempts at one request.
#[derive(Debug)]
pub(crate) struct Attempts {
    made: u32,
}

impl Attempts {
    pub(crate) const fn first() -> Self {
        Self { made: 1 }
    }

    pub(crate) const fn made(&self) -> u32 {
        self.made
    }

    /// Whether the next attempt needs a connection of its own. A server that takes few requests over a connection
    /// processes the first one; among many that share a connection, a request could be refused every time.
    pub(crate) const fn are_alone(&self) -> bool {
        self.made > 2
    }

    /// Returns how long to wait before the request is sent again, or nothing if it must not be.
    ///
    /// `is_reused` is whether the connection had been used or shared before: only such a connection may have been closed
    /// for being idle.
    pub(crate) fn again(&mut self, failure: &Failure, is_reused: bool, method: &Method) -> Option<Duration> {
        const FIRST: Duration = Duration::from_millis(10);
        // Where a connection that was made for the request ends before that was sent, others likely do, too: what is in front of
        // the server, such as a proxy, may spoil each. One more is made, in case it was chance.
        let is_spoilt = |made| !is_reused && made > 1;
        let is_safe = match failure {
            Failure::Unprocessed(_) => true,
            Failure::Unsent(_) => !is_spoilt(self.made),
            Failure::Unanswered(_) => is_reused && method.is_idempotent(),
            Failure::TooLarge(_) | Failure::Broken(_) => false,
        };
        if !is_safe || self.made == MAX_ATTEMPTS {
            return None;
        }
        self.made += 1;
        // The second attempt is immediate: mostly the connection had come to its end.
        Some(match self.made {
            2 => Duration::ZERO,
            made => FIRST * 2_u32.pow(made - 3),
        })
    }
}
