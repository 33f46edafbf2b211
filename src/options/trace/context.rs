//! Where in which trace a frame is.

use std::fmt;

use frame_registry::Fork;
use serde::de::Error;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::traceparent::{self, SpanId, TraceId, Traceparent, TraceparentError};
use super::tracestate::{TraceState, TracestateError};

/// A span of a trace, as W3C Trace Context says it: what a caller sends along as `traceparent` and `tracestate`.
///
/// As JSON it is an object of these two, of which `tracestate` is left out if it is empty: it can be given as the option
/// [`trace`](super::TRACE) again.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    parent: Option<Parent>,
    flags: u8,
    state: TraceState,
    is_remote: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Parent {
    id: SpanId,
    is_remote: bool,
}

/// The caller may have recorded its span.
const SAMPLED: u8 = 0b01;
/// The id of the trace is random, as level 2 says that it should be.
const RANDOM: u8 = 0b10;

impl TraceContext {
    /// The first span of a new trace, which is sampled, and whose id is random.
    #[must_use]
    pub fn start() -> Self {
        Self {
            trace_id: TraceId::random(),
            span_id: SpanId::random(),
            parent: None,
            flags: SAMPLED | RANDOM,
            state: TraceState::default(),
            is_remote: false,
        }
    }

    /// The span that somebody else has sent the headers of. An empty `tracestate` is as good as none.
    ///
    /// A `traceparent` of a later version than 00 is read as that version says: what is behind its flags is left out. Of the
    /// flags those are kept that are known, which are `sampled` and, of level 2, `random`.
    ///
    /// # Errors
    ///
    /// A [`TraceFormatError`] if one of them is not as the specification says. Unlike a server, which ignores a `tracestate` that
    /// is not, this is for whoever has written it.
    pub fn parse(traceparent: &str, tracestate: &str) -> Result<Self, TraceFormatError> {
        let Traceparent { trace_id, span_id, flags } = traceparent::parse(traceparent)?;
        let state = TraceState::parse(tracestate)?;
        Ok(Self {
            trace_id,
            span_id,
            parent: None,
            flags: flags & (SAMPLED | RANDOM),
            state,
            is_remote: true,
        })
    }

    /// A new span of the same trace, whose parent this is.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            trace_id: self.trace_id,
            span_id: SpanId::random(),
            parent: Some(Parent { id: self.span_id, is_remote: self.is_remote }),
            flags: self.flags,
            state: self.state.clone(),
            is_remote: false,
        }
    }

    /// The trace.
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The span.
    pub const fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// The span that it is inside of. None for the first of a trace, and for what was [parsed](Self::parse).
    pub fn parent_id(&self) -> Option<SpanId> {
        self.parent.map(|parent| parent.id)
    }

    /// Whether the span that it is inside of is of another program, or another part of this one: whether its
    /// `traceparent` was [parsed](Self::parse).
    pub fn is_parent_remote(&self) -> bool {
        self.parent.is_some_and(|parent| parent.is_remote)
    }

    /// The flags, of which only those are ever set that are known.
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether its spans are recorded, and sent to a collector.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What the systems that it came through say of it.
    pub const fn state(&self) -> &TraceState {
        &self.state
    }

    /// The header `traceparent`, of version 00: what to send along.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.to_string()
    }
}

/// Shows the `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        match &self.parent {
            Some(parent) => write!(f, " (in {})", parent.id),
            None => Ok(()),
        }
    }
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let state = self.state.as_str();
        let mut members = serializer.serialize_struct("TraceContext", 1 + usize::from(!state.is_empty()))?;
        members.serialize_field("traceparent", &self.traceparent())?;
        if state.is_empty() {
            members.skip_field("tracestate")?;
        } else {
            members.serialize_field("tracestate", state)?;
        }
        members.end()
    }
}

/// The headers, as members.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Headers {
    traceparent: String,
    #[serde(default)]
    tracestate: String,
}

/// The span is that of a remote caller, as after [`parse`](TraceContext::parse).
impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Headers { traceparent, tracestate } = Headers::deserialize(deserializer)?;
        Self::parse(&traceparent, &tracestate).map_err(D::Error::custom)
    }
}

impl Fork for TraceContext {
    fn fork(&self) -> Option<Self> {
        Some(self.child())
    }
}

/// A header is not as the specification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceFormatError {
    /// It is `traceparent`.
    #[error(transparent)]
    Traceparent(#[from] TraceparentError),
    /// It is `tracestate`.
    #[error(transparent)]
    Tracestate(#[from] TracestateError),
}
