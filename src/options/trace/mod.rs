//! The option `trace`: the distributed trace that a unit is part of, as [W3C Trace Context](https://www.w3.org/TR/trace-context/).
//!
//! | option | where the caller is in no trace | where it is in one |
//! |---|---|---|
//! | none | no trace | the caller's |
//! | `false` | no trace | the caller's |
//! | `true` | a new one, sampled | the caller's |
//! | `"00-0af7…319c-b7ad…3331-01"` | that one | that one, if the program says so |
//! | `{ traceparent = "00-…", tracestate = "rojo=00f0" }` | that one | that one, if the program says so |
//!
//! Each frame is a span of its own, with an id of its own, whose parent is that of the caller's frame: what is sent along in
//! a header `traceparent` is the frame's [`TraceContext`], which scripts read as `frame.get("trace")`, and what a collector is
//! told of the call has the same ids.
//!
//! A script cannot take what it calls out of the trace that it is in itself: where it names another that is an error.
//!
//! Since `true` starts a trace where there is none, as a default it belongs under the options of every unit. On a frame that
//! all units inherit from it would make one trace of all that ever runs.
//!
//! ```standalone_crate
//! use frame_registry::{App, FrameBuilder, FrameResolvers, Options, ResolveContext};
//! use frame_runtime::trace::TRACE_KEY;
//! use serde_json::json;
//!
//! let mut app = App::builder();
//! app.set_resolvers(FrameResolvers::linked())?;
//! let app = app.build();
//!
//! let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
//! let mut frame = FrameBuilder::new();
//! let options = Options::from_json(&json!({ "trace": header }))?;
//! app.resolvers().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut())?;
//! let frame = frame.seal();
//!
//! let trace = frame.get(&TRACE_KEY).unwrap();
//! assert_eq!(trace.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
//! assert_eq!(trace.parent_id().unwrap().to_string(), "b7ad6b7169203331");
//!
//! let child = frame.fork().seal();
//! let nested = child.get(&TRACE_KEY).unwrap();
//! assert_eq!((nested.trace_id(), nested.parent_id()), (trace.trace_id(), Some(trace.span_id())));
//! assert_eq!(child.public("trace").unwrap()?["traceparent"], nested.traceparent());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod context;
mod traceparent;
mod tracestate;

use std::fmt;

use frame_registry::{
    FrameOption, Key, Options, Pair, ResolveContext, frame_key, frame_option, frame_resolver,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

pub use self::context::{TraceContext, TraceFormatError};
pub use self::traceparent::{SpanId, TraceId, TraceparentError};
pub use self::tracestate::{TraceState, TracestateError};

/// The trace that the unit is part of, as W3C Trace Context: `true` starts one where the caller is in none, and
/// `"00-TRACE-SPAN-FLAGS"`, or `{ traceparent = "…", tracestate = "…" }`, joins one. What the unit calls is part of it, too.
#[frame_option(name = "trace")]
pub static TRACE: FrameOption<Trace>;

/// Which span of which trace the frame is. A fork of the frame is a child of it.
#[frame_key(name = "trace", propagates, inherit_forked, public)]
pub static TRACE_KEY: Key<TraceContext>;

/// Puts on the frame what [`TRACE`] says, where that is not what the frame inherits.
///
/// # Errors
///
/// [`TraceError`] where a script names a trace for what it calls, and is part of another; or where it is part of none,
/// and takes away or replaces the one that is preset.
#[frame_resolver(order = 400, covers(TRACE))]
fn trace(ctx: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, TraceError> {
    let Some(given) = options.get(&TRACE) else { return Ok(None) };
    // A fork is a child of it already. Another child made here would be a second id for one span.
    let inherited = ctx.parent().and_then(|parent| parent.get(&TRACE_KEY));
    let span = match (given, inherited) {
        (Trace::Unchanged | Trace::Join(_), None) if options.replaces_trusted(&TRACE) => {
            return Err(TraceError::Preset);
        }
        (Trace::Unchanged, _) | (Trace::Start, Some(_)) => return Ok(None),
        (Trace::Start, None) => TraceContext::start(),
        (Trace::Join(caller), None) => caller.child(),
        (Trace::Join(caller), Some(parent)) if caller.trace_id() == parent.trace_id() => return Ok(None),
        (Trace::Join(caller), Some(_)) if options.is_trusted(&TRACE) => caller.child(),
        (Trace::Join(_), Some(_)) => return Err(TraceError::Caller),
    };
    Ok(Some(TRACE_KEY.pair(span)))
}

/// A script gives a trace to what it calls that is not its to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// It is part of another.
    #[error(
        "the caller is part of another trace, which an option of its own does not leave; leave `trace` out"
    )]
    Caller,
    /// There is a preset.
    #[error(
        "a trace is preset for what was called, and is not for scripts and components to replace; leave the option \
         `trace` out"
    )]
    Preset,
}

/// What the option [`TRACE`] says.
///
/// ```
/// use frame_runtime::trace::Trace;
/// use serde_json::{from_value, json};
///
/// assert_eq!(from_value::<Trace>(json!(true))?, Trace::Start);
/// let header = json!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// assert!(matches!(from_value(header)?, Trace::Join(_)));
///
/// let error = from_value::<Trace>(json!("0af7651916cd43dd8448eb211c80319c")).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "not a traceparent, because it does not begin with a version such as `00-`; \
///      write `00-`, 32 hex digits, `-`, 16 hex digits, `-`, and `01` (sampled) or `00`",
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trace {
    /// The caller's trace, if it is in one: as without the option, for where that has another default. In text `false`.
    Unchanged,
    /// The caller's trace, or else a new one. In text `true`.
    Start,
    /// The trace of this span, as a child of it. In text a `traceparent`, or both headers.
    Join(TraceContext),
}

impl<'de> Deserialize<'de> for Trace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TraceVisitor)
    }
}

struct TraceVisitor;

impl<'de> Visitor<'de> for TraceVisitor {
    type Value = Trace;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "true, false, a traceparent such as `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`, ",
        )?;
        f.write_str("or `traceparent` with `tracestate`")
    }

    fn visit_bool<E: Error>(self, starts: bool) -> Result<Trace, E> {
        Ok(if starts { Trace::Start } else { Trace::Unchanged })
    }

    fn visit_str<E: Error>(self, traceparent: &str) -> Result<Trace, E> {
        TraceContext::parse(traceparent, "").map(Trace::Join).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Trace, A::Error> {
        TraceContext::deserialize(MapAccessDeserializer::new(members)).map(Trace::Join)
    }
}
