//! Why something failed that a script or a component asked for, in the log. It is told less: see
//! [`of_network`](super::connect::of_network).

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use frame_dispatch::process::PROCESS;
use frame_dispatch::{CallContext, FUNCTION};

use crate::report;
use crate::trace::TRACE_KEY;

/// How many lines a unit causes in each [`PERIOD`]. A unit can fail as often as it likes, and must not fill the log.
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_mins(1);

/// What each unit has caused. Units are functions and processes of the manifest, so there are not many.
static WRITTEN: Mutex<BTreeMap<String, LoggedFailures>> = Mutex::new(BTreeMap::new());

struct LoggedFailures {
    since: Instant,
    lines: u32,
    /// How many more there were.
    dropped: u64,
}

/// Writes why something failed that a call asked for, with the unit and the trace of the call.
pub(crate) fn log(call: &CallContext, error: &(dyn Error + Send + Sync + 'static)) {
    let frame = call.frame();
    let function = frame.get(&FUNCTION).map(ToString::to_string);
    let unit = function.or_else(|| frame.get(&PROCESS).map(ToString::to_string)).unwrap_or_default();
    let Some(dropped) = admit(&unit) else { return };
    let why = report::chain(error);
    let trace_id = frame.get(&TRACE_KEY).map(|trace| trace.trace_id().to_string());
    if dropped > 0 {
        tracing::warn!(
            unit,
            trace_id,
            dropped,
            "failed: {why}; as many failures of this unit as `dropped` are not in the log"
        );
    } else {
        tracing::warn!(unit, trace_id, "failed: {why}");
    }
}

/// Returns how many lines of the unit were left out before this one, unless this is to be left out as well.
fn admit(unit: &str) -> Option<u64> {
    let now = Instant::now();
    let mut units = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !units.contains_key(unit) {
        units.insert(unit.to_owned(), LoggedFailures { since: now, lines: 0, dropped: 0 });
    }
    let written = units.get_mut(unit)?;
    let mut dropped = 0;
    if now.duration_since(written.since) >= PERIOD {
        dropped = written.dropped;
        *written = LoggedFailures { since: now, lines: 0, dropped: 0 };
    }
    if written.lines == LINES {
        written.dropped += 1;
        return None;
    }
    written.lines += 1;
    Some(dropped)
}
