//! What the program says of itself as it runs: logs, progress, traces.
//!
//! All of it goes through [`tracing`], so that a program of one's own that has these parts can have others listen.
//!
//! - **Logs** go to standard error: see [`LogArgs`]. A thread of its own writes them. If standard error is not read, lines that
//!   do not fit into a queue of 2 MiB are dropped, and a line of the log says how many. Nothing else waits for the reader.
//! - **Progress** of what takes time is a line on a terminal, and plain log events elsewhere.
//! - **Traces**: a function or a process that was [`traced`] runs in a span with the ids of its frame's
//!   [`TraceContext`](crate::trace::TraceContext), which an `Exporter` (feature `otlp`) sends to an OpenTelemetry collector.
//!
//! ```standalone_crate
//! use frame_dispatch::{CallContext, FunctionId, Functions, Payload, Task};
//! use frame_registry::{App, FrameResolvers, Options};
//! use frame_runtime::telemetry::traced;
//! use frame_runtime::trace::TRACE_KEY;
//! use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let mut app = App::builder();
//! app.set_resolvers(FrameResolvers::linked())?;
//! let functions = Functions::new(app.build());
//!
//! let id: FunctionId = "app:where".parse()?;
//! let function = async |ctx: CallContext, _: Payload| Ok(json!(ctx.frame().get(&TRACE_KEY)).into());
//! functions.register(id.clone(), Options::from_json(&json!({ "trace": true }))?, traced(&id, function))?;
//! let answer = functions.root().call(Task::new(id)).await?;
//! assert!(answer.as_json().unwrap()["traceparent"].is_string());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod format;
mod log;
#[cfg(feature = "otlp")]
mod otlp;
pub(crate) mod output;
mod progress;
mod traced;

use std::fmt;
use std::io;
use std::time::Duration;

use tracing::subscriber::set_global_default;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

pub use self::log::{FilterError, LogArgs, LogFormat};
#[cfg(feature = "otlp")]
pub use self::otlp::{Exporter, ExporterError};
pub(crate) use self::progress::{failed, progress, reporting};
pub use self::traced::{Traced, traced};
use crate::manifest::Otlp;

/// How long what is left to send is waited for, where nobody says.
pub(crate) const LAST_WAIT: Duration = Duration::from_secs(2);

/// Says what the program says of itself, until it is dropped. Then, or at [`shutdown`](Self::shutdown), it sends what is
/// left of the traces.
#[must_use = "dropped, it sends no more traces"]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    exporter: Option<Exporter>,
    is_flushed: bool,
}

/// A layer of what [`init`] makes.
type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Begins to log, to show progress, and to send the traces of the app `name` to the collector, if there is one. Once in a
/// program.
///
/// # Errors
///
/// A [`TelemetryError`]; nothing has begun then.
pub fn init(log: &LogArgs, otlp: Option<&Otlp>, name: &str) -> Result<Telemetry, TelemetryError> {
    let mut layers: Vec<AnyLayer> = Vec::new();
    let filter = log.filter()?;
    let output = output::start().map_err(TelemetryError::Thread)?;
    #[cfg(feature = "otlp")]
    let exporter = otlp.map(|otlp| Exporter::new(otlp, name)).transpose()?;
    #[cfg(feature = "otlp")]
    layers.extend(exporter.iter().map(|exporter| exporter.layer().boxed()));
    #[cfg(not(feature = "otlp"))]
    if otlp.is_some() {
        return Err(TelemetryError::WithoutOtlp { name: name.to_owned() });
    }
    log::add(&mut layers, log.format, filter, output);
    set_global_default(Registry::default().with(layers)).map_err(|_| TelemetryError::Twice)?;
    Ok(Telemetry {
        #[cfg(feature = "otlp")]
        exporter,
        is_flushed: false,
    })
}

impl Telemetry {
    /// Sends what is left of the traces, and waits for that, but not longer than `patience`. Then it waits until the log is
    /// written: at most a second if standard error is not read, and five if it is read slowly. It blocks its thread: what runs
    /// on that has ended before.
    pub fn shutdown(mut self, patience: Duration) {
        self.finish(patience);
    }

    fn finish(&mut self, patience: Duration) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter.take() {
            exporter.shutdown(patience);
        }
        #[cfg(not(feature = "otlp"))]
        let _ = patience;
        if !std::mem::replace(&mut self.is_flushed, true)
            && let Some(output) = output::started()
        {
            output.flush();
        }
    }
}

/// Waits for the collector for up to two seconds.
impl Drop for Telemetry {
    fn drop(&mut self) {
        self.finish(LAST_WAIT);
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

/// The program cannot say what it was told to say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// Which logs are wanted is not said in a way that can be read.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// There is no way to the collector.
    #[cfg(feature = "otlp")]
    #[error(transparent)]
    Exporter(#[from] ExporterError),
    /// The manifest names a collector, and the program has nothing to send with.
    #[cfg(not(feature = "otlp"))]
    #[error(
        "the traces of `{name}` cannot be sent: this program was built without the feature `otlp`; leave `[telemetry]` out"
    )]
    WithoutOtlp {
        /// The app.
        name: String,
    },
    /// There is no thread to write the log.
    #[error("the thread that writes the log cannot be started")]
    Thread(#[source] io::Error),
    /// Something in this program listens already.
    #[error("the program has a subscriber of `tracing` already, so that logs and traces cannot begin")]
    Twice,
}
