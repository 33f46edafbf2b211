//! An attempt that is recorded, until it ends.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};
use std::{fmt, io};

use frame_registry::{App, Frame};

use super::attempt::{Attempt, AttemptKind, Destination, Outcome, Verdict};
use super::callers::{CALLERS, Callers};
use super::end::End;
use super::{AUDIT, Audit, Begun, Unrecorded};
use crate::dialer::Dialer;
use crate::endpoint::Endpoint;
use crate::network::Route;

/// Whose attempts are recorded, and where. A dialer has it if its app has an audit log.
#[derive(Debug)]
pub(crate) struct Subject {
    log: Arc<dyn Audit>,
    callers: Callers,
    trace_id: Option<Arc<str>>,
}

impl Subject {
    /// That of `frame`, if the app has an audit log.
    pub(crate) fn of(frame: &Frame, app: &App) -> Option<Arc<Self>> {
        let log = Arc::clone(app.get(&AUDIT)?);
        let callers = frame.get(&CALLERS).cloned().unwrap_or_default();
        let trace_id = log.trace_id(frame);
        Some(Arc::new(Self { log, callers, trace_id }))
    }
}

/// The number of the next attempt.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What is known of a request besides where it goes.
#[derive(Debug, Default)]
pub(crate) struct RequestDetails {
    pub(crate) method: Option<Box<str>>,
    pub(crate) scheme: Option<&'static str>,
    pub(crate) secret: Option<Arc<str>>,
}

/// The longest method that is recorded in full. HTTP has none that is longer, and a script can make one up.
#[cfg(feature = "http")]
const MAX_METHOD: usize = 32;

#[cfg(feature = "http")]
impl RequestDetails {
    pub(crate) fn new(method: &http::Method, scheme: &'static str, secret: Option<Arc<str>>) -> Self {
        let method = method.as_str();
        let method = method.get(..MAX_METHOD).unwrap_or(method);
        Self { method: Some(method.into()), scheme: Some(scheme), secret }
    }
}

/// An attempt that is recorded. The last clone to be dropped records its end. Without an audit log it is nothing.
#[derive(Clone, Default)]
pub(crate) struct Recording(Option<Arc<Open>>);

struct Open {
    log: Arc<dyn Audit>,
    attempt: Arc<Attempt>,
    begun: Instant,
    /// Set where it was not recorded, so that it has no end either.
    is_void: AtomicBool,
    end: AtomicU8,
    verdict: OnceLock<Verdict>,
    peer: OnceLock<SocketAddr>,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Dialer {
    /// Records that an attempt begins, which must be done before anything of it leaves.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the attempt is recorded as cancelled.
    pub(crate) async fn record(
        &self,
        kind: AttemptKind,
        destination: impl Into<Destination>,
    ) -> Result<Recording, Unrecorded> {
        self.record_request(kind, destination, RequestDetails::default).await
    }

    /// The same, of a request.
    pub(crate) async fn record_request(
        &self,
        kind: AttemptKind,
        destination: impl Into<Destination>,
        request: impl FnOnce() -> RequestDetails,
    ) -> Result<Recording, Unrecorded> {
        let Some(subject) = &self.subject else { return Ok(Recording(None)) };
        let destination = destination.into();
        let verdict = Verdict::allowed(self.rule_for(&destination));
        let attempt = self.attempt(subject, kind, destination, verdict, request());
        let begun = subject.log.begin(&attempt);
        if let Begun::Refused(why) = begun {
            return Err(why);
        }
        let open = Arc::new(Open {
            log: Arc::clone(&subject.log),
            attempt,
            begun: Instant::now(),
            is_void: AtomicBool::new(false),
            end: AtomicU8::new(End::Cancelled as u8),
            verdict: OnceLock::new(),
            peer: OnceLock::new(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        });
        if let Begun::Waits(recorded) = begun
            && let Err(why) = recorded.await
        {
            open.is_void.store(true, Ordering::Relaxed);
            return Err(why);
        }
        Ok(Recording(Some(open)))
    }

    /// Records an attempt that is refused with `error` before anything of it leaves.
    pub(crate) fn record_refusal(
        &self,
        kind: AttemptKind,
        destination: impl Into<Destination>,
        error: &(dyn Error + 'static),
        request: impl FnOnce() -> RequestDetails,
    ) {
        let Some(subject) = &self.subject else { return };
        let (end, verdict) = End::of(error);
        let verdict = verdict.unwrap_or_default();
        let attempt = self.attempt(subject, kind, destination.into(), verdict.clone(), request());
        subject.log.end(attempt, Outcome { end, ..Outcome::refused(verdict) });
    }

    fn attempt(
        &self,
        subject: &Subject,
        kind: AttemptKind,
        destination: Destination,
        verdict: Verdict,
        request: RequestDetails,
    ) -> Arc<Attempt> {
        let via = match self.route() {
            Route::Clearnet => Vec::new(),
            Route::Network(id) => self.networks.path_behind(id),
        };
        let RequestDetails { method, scheme, secret } = request;
        Arc::new(Attempt {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            time: SystemTime::now(),
            kind,
            unit: self.unit().clone(),
            callers: subject.callers.clone(),
            trace_id: subject.trace_id.clone(),
            route: self.route().clone(),
            via,
            isolation: self.isolation().cloned(),
            destination,
            method,
            scheme,
            secret,
            verdict,
        })
    }
}

impl Recording {
    /// Whether there is a log.
    #[cfg(feature = "http")]
    pub(crate) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The attempt has succeeded. From here on it is closed when it ends, unless it fails.
    pub(crate) fn succeeded(&self) {
        self.end_as(End::Closed);
    }

    /// The attempt has failed with `error`.
    pub(crate) fn failed(&self, error: &(dyn Error + 'static)) {
        if let Some(open) = &self.0 {
            let (end, verdict) = End::of(error);
            self.end_as(end);
            if let Some(verdict) = verdict {
                let _ = open.verdict.set(verdict);
            }
        }
    }

    /// What was connected has failed with `error`.
    pub(crate) fn broke(&self, error: &io::Error) {
        if self.0.is_some() {
            self.end_as(End::of_io(error));
        }
    }

    /// It will have ended as `end`, unless it has failed before.
    pub(crate) fn end_as(&self, end: End) {
        if let Some(open) = &self.0 {
            // What failed stays so, whatever is tried with it afterwards.
            let passes = |value| End::Cancelled as u8 == value || End::Closed as u8 == value;
            let _ = open.end.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| {
                passes(value).then_some(end as u8)
            });
        }
    }

    pub(crate) fn add_sent(&self, bytes: usize) {
        if let Some(open) = &self.0 {
            open.sent.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    pub(crate) fn add_received(&self, bytes: usize) {
        if let Some(open) = &self.0 {
            open.received.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// This host has connected to `peer` for it, unless that was for something on the way to it, such as a proxy.
    pub(crate) fn connected(&self, to: &Endpoint, peer: impl FnOnce() -> Option<SocketAddr>) {
        let Some(open) = &self.0 else { return };
        let is_destination =
            matches!(&open.attempt.destination, Destination::Endpoint(destination) if destination == to);
        if let Some(peer) = is_destination.then(peer).flatten() {
            let _ = open.peer.set(peer);
        }
    }

    /// The address that this host has connected to.
    #[cfg(feature = "http")]
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.0.as_ref()?.peer.get().copied()
    }

    /// It goes over a connection that was made earlier, to `peer` as far as that is known.
    #[cfg(feature = "http")]
    pub(crate) fn set_peer(&self, peer: Option<SocketAddr>) {
        if let (Some(open), Some(peer)) = (&self.0, peer) {
            let _ = open.peer.set(peer);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if *self.is_void.get_mut() {
            return;
        }
        let outcome = Outcome {
            is_begun: true,
            end: End::from_u8(*self.end.get_mut()),
            verdict: self.verdict.take().unwrap_or_else(|| self.attempt.verdict.clone()),
            peer: self.peer.take(),
            sent: *self.sent.get_mut(),
            received: *self.received.get_mut(),
            duration: self.begun.elapsed(),
        };
        self.log.end(Arc::clone(&self.attempt), outcome);
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recording").field(&self.0.as_ref().map(|open| open.attempt.id)).finish()
    }
}
