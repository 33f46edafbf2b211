//! Traces, sent to an OpenTelemetry collector.

mod collector;
mod layer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use frame_net::http::HttpError;
use frame_net::{BootError, NetworkError, RuleError};
use frame_registry::AppError;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanProcessor};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use self::collector::Collector;
use self::layer::SpanLayer;
use super::traced::TARGET;
use crate::manifest::Otlp;

/// How many spans wait to be sent. Where the collector takes fewer than there are, further ones are lost: nothing waits for it.
const QUEUE: usize = 2048;
/// How many are sent at once.
const BATCH: usize = 512;
/// How long a span waits at most for others to be sent with it.
const DELAY: Duration = Duration::from_secs(2);

/// Sends the spans of what was [`traced`](super::traced) to an OpenTelemetry collector, over OTLP/HTTP with binary Protobuf:
/// those of traces that are sampled, each when it is over, in batches, from a thread of its own. What cannot be sent is lost,
/// and the log says so once in a while; calls never wait for it.
///
/// It reaches the collector over clearnet, and nobody else: redirects are not followed, and neither proxies nor the variables
/// `OTEL_*` are read from the environment.
///
/// A span is called as the function or the process, and has its ids and its parent from the frame. Its attributes are
/// `frame.function` or `frame.process`, `frame.pid`, `frame.attempt`, `frame.outcome`, and, if it failed, `error.type`, which
/// is the kind of the error.
pub struct Exporter {
    spans: Arc<BatchSpanProcessor>,
}

impl Exporter {
    /// Begins to send to this collector, for the app `name`, which the collector knows as `service.name`.
    ///
    /// # Errors
    ///
    /// An [`ExporterError`] if the collector's address or a header is none. Whether the collector is there is not asked.
    pub fn new(otlp: &Otlp, name: &str) -> Result<Self, ExporterError> {
        let collector = Collector::new(otlp, &resource(name))?;
        // All that could be read from the environment is set.
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let spans = BatchSpanProcessor::builder(collector).with_batch_config(config).build();
        Ok(Self { spans: Arc::new(spans) })
    }

    /// What sees the spans: a layer of a subscriber of [`tracing`].
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let only = Targets::new().with_target(TARGET, LevelFilter::INFO);
        SpanLayer::new(Arc::clone(&self.spans)).with_filter(only)
    }

    /// Sends what is left, and waits for that, but not longer than `patience`. It blocks its thread. What is over later is
    /// not sent.
    pub fn shutdown(&self, patience: Duration) {
        if let Err(error) = self.spans.shutdown_with_timeout(patience) {
            tracing::warn!(%error, "not all traces were sent: the collector did not take the last ones within {patience:?}");
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

/// Who sends. Not what the SDK would find out, which is in the environment.
fn resource(name: &str) -> Resource {
    let sdk = [
        KeyValue::new("telemetry.sdk.name", "opentelemetry"),
        KeyValue::new("telemetry.sdk.language", "rust"),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    Resource::builder_empty().with_service_name(name.to_owned()).with_attributes(sdk).build()
}

/// There is no way to the collector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExporterError {
    /// The address is none.
    #[error(
        "`{endpoint}` is no address of a collector; write it as `http://127.0.0.1:4318`, to which `/v1/traces` is added"
    )]
    Endpoint {
        /// The address.
        endpoint: String,
    },
    /// No request can go to the address.
    #[error("no request can be sent to the collector at `{endpoint}`")]
    Url {
        /// The address.
        endpoint: String,
        /// Why.
        source: HttpError,
    },
    /// A header cannot be sent.
    #[error("the header `{name}` cannot be sent to the collector")]
    Header {
        /// Its name.
        name: String,
        /// Why.
        source: HttpError,
    },
    /// The way out cannot be limited to the collector.
    #[error("the collector at `{endpoint}` cannot be reached")]
    Rule {
        /// The address.
        endpoint: String,
        /// Why.
        source: RuleError,
    },
    /// There is no HTTP client.
    #[error("there is no HTTP client for traces")]
    Client(#[source] HttpError),
    /// There is no clearnet.
    #[error("there is no network for traces")]
    App(#[from] AppError),
    /// There is no clearnet.
    #[error("there is no network for traces")]
    Boot(#[from] BootError),
    /// There is no clearnet.
    #[error("there is no network for traces")]
    Network(#[from] NetworkError),
    /// The operating system gives nothing to send with.
    #[error("there is no runtime for traces")]
    Runtime(#[source] io::Error),
}
