//! Progress of what takes time.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressStyle;
use tracing::field::{Empty, Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Span, Subscriber, info, info_span};
use tracing_indicatif::span_ext::IndicatifSpanExt;
use tracing_indicatif::writer::Stderr;
use tracing_indicatif::{IndicatifLayer, IndicatifWriter};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::AnyLayer;

/// The target of the spans, and of the events.
pub(super) const TARGET: &str = "frame_runtime::progress";

/// What took no longer is not worth another event.
const LONG: Duration = Duration::from_secs(1);

/// How often [`reporting`] looks for what still runs, and the age at which that is first reported.
const PERIOD: Duration = Duration::from_secs(10);

/// A span of something that takes time, such as `compiling app:greet`. From when it is first entered until it is dropped it
/// is a line on standard error, if that is a terminal and logs are for people. Elsewhere it is a log event as it begins, and,
/// if it took longer than a second, another when it ends.
///
/// The message is trusted: it is shown as it is.
pub(crate) fn progress(message: impl AsRef<str>) -> Span {
    let message = message.as_ref();
    info!(target: TARGET, "{message}");
    let span = info_span!(target: TARGET, "progress", what = message, failed = Empty);
    span.pb_set_message(message);
    span
}

/// Marks what a [`progress`] span is of as failed.
pub(crate) fn failed(span: &Span) {
    span.record("failed", true);
}

/// What runs, by the id of its span. Empty where a terminal shows it.
static RUNNING: Mutex<BTreeMap<u64, Reported>> = Mutex::new(BTreeMap::new());

/// What runs, and when it is next reported.
struct Reported {
    what: String,
    begun: Instant,
    due: Duration,
}

/// Awaits `work`, and logs what of it still runs: after 10 s, and each time that it has taken twice as long.
///
/// # Cancel safety
///
/// As that of `work`.
pub(crate) async fn reporting<F: Future>(work: F) -> F::Output {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(PERIOD) => (),
        }
        let messages = still_running(&mut RUNNING.lock().unwrap_or_else(PoisonError::into_inner));
        for message in messages {
            info!(target: TARGET, parent: None, "{message}");
        }
    }
}

fn still_running(running: &mut BTreeMap<u64, Reported>) -> Vec<String> {
    let due = running.values_mut().filter_map(|Reported { what, begun, due }| {
        let elapsed = begun.elapsed();
        (elapsed >= *due).then(|| {
            *due = elapsed.saturating_mul(2);
            format!("{what}: still running after {} s", elapsed.as_secs())
        })
    });
    due.collect()
}

/// Shows the spans as lines, and has what is logged written above them; nothing where there is no terminal for that.
pub(super) fn line() -> Option<(AnyLayer, IndicatifWriter<Stderr>)> {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if is_dumb || !io::stderr().is_terminal() {
        return None;
    }
    // It has no colours, whatever `NO_COLOR` says.
    let style = ProgressStyle::with_template("{span_child_prefix}{spinner} {wide_msg} {elapsed}").ok()?;
    let layer = IndicatifLayer::new().with_progress_style(style);
    let writer = layer.get_stderr_writer();
    Some((layer.with_filter(only()).boxed(), writer))
}

/// Says when something took long.
pub(super) fn events() -> AnyLayer {
    LongOnes { long: LONG }.with_filter(only()).boxed()
}

fn only() -> Targets {
    Targets::new().with_target(TARGET, LevelFilter::INFO)
}

struct LongOnes {
    long: Duration,
}

/// Kept with a span.
struct Begun {
    what: String,
    at: Instant,
    has_failed: bool,
}

impl Visit for Begun {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "what" {
            value.clone_into(&mut self.what);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "failed" {
            self.has_failed = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LongOnes {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut begun = Begun { what: String::new(), at: Instant::now(), has_failed: false };
        attributes.record(&mut begun);
        if let Some(span) = ctx.span(id) {
            let reported = Reported { what: begun.what.clone(), begun: begun.at, due: PERIOD };
            RUNNING.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into_u64(), reported);
            span.extensions_mut().insert(begun);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        if let Some(span) = ctx.span(id)
            && let Some(begun) = span.extensions_mut().get_mut::<Begun>()
        {
            values.record(begun);
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.into_u64());
        // Taken out before anything is logged, which may look at the span.
        let begun = ctx.span(&id).and_then(|span| span.extensions_mut().remove::<Begun>());
        let Some(Begun { what, at, has_failed }) = begun else { return };
        let elapsed = at.elapsed();
        if elapsed >= self.long {
            let ended = if has_failed { "failed" } else { "done" };
            info!(target: TARGET, parent: None, "{what}: {ended} after {:.1} s", elapsed.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::Event;
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// The messages of events.
    #[derive(Clone, Default)]
    struct Messages(Arc<Mutex<Vec<String>>>);

    impl Visit for Messages {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0.lock().unwrap().push(format!("{value:?}"));
            }
        }
    }

    impl<S: Subscriber> Layer<S> for Messages {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            event.record(&mut self.clone());
        }
    }

    fn messages(long: Duration, has_failed: bool) -> Vec<String> {
        let messages = Messages::default();
        let layers: Vec<AnyLayer> =
            vec![LongOnes { long }.with_filter(only()).boxed(), messages.clone().with_filter(only()).boxed()];
        tracing::subscriber::with_default(Registry::default().with(layers), || {
            let span = progress("compiling app:greet");
            span.in_scope(|| info!("something else"));
            if has_failed {
                failed(&span);
            }
        });
        messages.0.lock().unwrap().clone()
    }

    #[test]
    fn without_a_terminal_it_is_an_event_as_it_begins() {
        assert_eq!(messages(Duration::from_hours(1), false), ["compiling app:greet"]);
    }

    #[test]
    fn what_still_runs_is_reported_each_time_that_it_has_taken_twice_as_long() {
        let what = "compiling app:greet".to_owned();
        let mut running =
            BTreeMap::from([(1, Reported { what, begun: Instant::now(), due: Duration::ZERO })]);
        assert_eq!(still_running(&mut running), ["compiling app:greet: still running after 0 s"]);
        running.get_mut(&1).unwrap().due = PERIOD;
        assert!(still_running(&mut running).is_empty());
    }

    #[test]
    fn what_takes_long_is_an_event_as_it_ends() {
        for (has_failed, end) in [(false, "done after 0."), (true, "failed after 0.")] {
            let messages = messages(Duration::ZERO, has_failed);
            assert_eq!(messages.len(), 2, "{messages:?}");
            let said = messages[1].strip_prefix("compiling app:greet: ").unwrap();
            assert!(said.starts_with(end) && said.ends_with(" s"), "{said}");
        }
    }
}
