//! Traces, sent to an OpenTelemetry collector.

#[cfg(test)]
mod tests;

use std::fmt::{self, Debug};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use frame_net::http::{HttpClient, HttpConfig, HttpError, Request, Response};
use frame_net::{BootError, Dialer, DirectConfig, DirectDefault, NetConfig, NetworkError, Rule, RuleError};
use frame_registry::text::escape;
use frame_registry::{App, AppError, BoxError, FrameBuilder, FrameResolvers};
use http::Uri;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceId};
use opentelemetry::{InstrumentationScope, KeyValue, TraceFlags};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor,
};
use prost::Message;
use tokio::runtime::Runtime;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::traced::TARGET;
use crate::manifest::Otlp;
use crate::report;

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

/// Makes spans with the ids of frames, which no tracer of the SDK would give them.
struct SpanLayer {
    spans: Arc<BatchSpanProcessor>,
}

impl SpanLayer {
    const fn new(spans: Arc<BatchSpanProcessor>) -> Self {
        Self { spans }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut open = OpenSpan::new();
        attributes.record(&mut open);
        if open.is_sampled()
            && let Some(span) = ctx.span(id)
        {
            span.extensions_mut().insert(open);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<OpenSpan>() else { return };
        values.record(open);
        // When the span is closed it may be long over: whatever the unit has spawned may hold it.
        if open.outcome.is_some()
            && let Some(open) = extensions.remove::<OpenSpan>()
        {
            drop(extensions);
            self.spans.on_end(open.end());
        }
    }
}

/// A span that is not over, and what is known of it so far.
struct OpenSpan {
    begun: SystemTime,
    unit: String,
    is_process: bool,
    trace_id: TraceId,
    span_id: SpanId,
    parent_id: SpanId,
    is_parent_remote: bool,
    flags: TraceFlags,
    state: String,
    attributes: Vec<KeyValue>,
    outcome: Option<String>,
    error: String,
}

impl OpenSpan {
    fn new() -> Self {
        Self {
            begun: SystemTime::now(),
            unit: String::new(),
            is_process: false,
            trace_id: TraceId::INVALID,
            span_id: SpanId::INVALID,
            parent_id: SpanId::INVALID,
            is_parent_remote: false,
            flags: TraceFlags::default(),
            state: String::new(),
            attributes: Vec::new(),
            outcome: None,
            error: String::new(),
        }
    }

    /// Whether a collector is to be told of it.
    fn is_sampled(&self) -> bool {
        self.flags.is_sampled() && self.trace_id != TraceId::INVALID && self.span_id != SpanId::INVALID
    }

    fn end(mut self) -> SpanData {
        let outcome = self.outcome.unwrap_or_default();
        let status = if outcome == "ok" {
            Status::Unset
        } else {
            self.attributes.push(KeyValue::new("error.type", outcome.clone()));
            Status::error(self.error)
        };
        self.attributes.push(KeyValue::new("frame.outcome", outcome));
        let unit = if self.is_process { "frame.process" } else { "frame.function" };
        self.attributes.push(KeyValue::new(unit, self.unit.clone()));
        // The SDK knows a narrower grammar for keys with an `@`; a state that it does not take is left out.
        let state = self.state.parse().unwrap_or_default();
        SpanData {
            span_context: SpanContext::new(self.trace_id, self.span_id, self.flags, false, state),
            parent_span_id: self.parent_id,
            parent_span_is_remote: self.is_parent_remote,
            span_kind: SpanKind::Internal,
            name: self.unit.into(),
            start_time: self.begun,
            end_time: SystemTime::now(),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("frame-runtime")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

impl Visit for OpenSpan {
    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "is_process" => self.is_process = value,
            "is_parent_remote" => self.is_parent_remote = value,
            _ => (),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "flags" => self.flags = TraceFlags::new(u8::try_from(value).unwrap_or_default()),
            "attempt" => {
                let attempt = i64::try_from(value).unwrap_or(i64::MAX);
                self.attributes.push(KeyValue::new("frame.attempt", attempt));
            }
            _ => (),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "unit" => value.clone_into(&mut self.unit),
            "pid" => self.attributes.push(KeyValue::new("frame.pid", value.to_owned())),
            "trace_id" => self.trace_id = TraceId::from_hex(value).unwrap_or(TraceId::INVALID),
            "span_id" => self.span_id = SpanId::from_hex(value).unwrap_or(SpanId::INVALID),
            "parent_id" => self.parent_id = SpanId::from_hex(value).unwrap_or(SpanId::INVALID),
            "tracestate" => value.clone_into(&mut self.state),
            "outcome" => self.outcome = Some(value.to_owned()),
            "error" => value.clone_into(&mut self.error),
            _ => (),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// How long a batch may take, the connection included.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// How long it is left alone between attempts at sending it a batch, unless it says.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// The statuses with which a collector says that it may take a batch later.
const RETRYABLE: [u16; 4] = [429, 502, 503, 504];
/// How often the log says that spans are lost.
const COMPLAINTS: Duration = Duration::from_mins(1);
/// How much a collector answers.
const MOST_ANSWERED: u64 = 64 << 10;

/// A collector that takes OTLP over HTTP.
struct Collector {
    url: String,
    headers: Vec<(String, String)>,
    client: HttpClient,
    dialer: Dialer,
    resource: ResourceAttributesWithSchema,
    /// The thread that batches are sent from waits for each, and is in no runtime.
    runtime: Runtime,
    lost: Mutex<Lost>,
}

#[derive(Default)]
struct Lost {
    spans: usize,
    said: Option<Instant>,
}

impl Collector {
    fn new(otlp: &Otlp, resource: &Resource) -> Result<Self, ExporterError> {
        let endpoint = otlp.endpoint.trim_end_matches('/');
        let not_one = || ExporterError::Endpoint { endpoint: escape(&otlp.endpoint).into_owned() };
        let uri: Uri = endpoint.parse().map_err(|_| not_one())?;
        let dialer = dialer(&uri, endpoint, not_one)?;
        let mut config = HttpConfig::default();
        config.time_limit = TIME_LIMIT;
        config.max_redirects = 0;
        config.max_response_body = MOST_ANSWERED;
        let collector = Self {
            url: format!("{endpoint}/v1/traces"),
            headers: otlp.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            client: HttpClient::new(config).map_err(ExporterError::Client)?,
            dialer,
            resource: resource.into(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(ExporterError::Runtime)?,
            lost: Mutex::default(),
        };
        collector.request(Bytes::new())?;
        Ok(collector)
    }

    fn request(&self, body: Bytes) -> Result<Request, ExporterError> {
        let url = |source| ExporterError::Url { endpoint: escape(&self.url).into_owned(), source };
        let mut request = Request::post(&self.url).map_err(url)?;
        request = request.header("content-type", "application/x-protobuf").map_err(url)?;
        for (name, value) in &self.headers {
            let unsendable = |source| ExporterError::Header { name: escape(name).into_owned(), source };
            // Most often it is a key.
            let mut value = http::HeaderValue::try_from(value.as_str())
                .map_err(|_| unsendable(HttpError::InvalidHeader))?;
            value.set_sensitive(true);
            request = request.header(name.as_str(), value).map_err(unsendable)?;
        }
        Ok(request.body(body))
    }

    /// Sends a batch, again if the collector may take it later.
    async fn send(&self, batch: Vec<SpanData>) -> Result<(), BoxError> {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        let mut waits = WAITS.into_iter();
        loop {
            let sent = self.client.send(&self.dialer, self.request(body.clone())?).await;
            let wait = match &sent {
                Ok(response) if RETRYABLE.contains(&response.status().as_u16()) => {
                    waits.next().map(|wait| retry_after(response.headers()).unwrap_or(wait))
                }
                Err(error) if error.is_retryable() => waits.next(),
                _ => None,
            };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return accepted(sent?).await,
            }
        }
    }

    /// Says it once in a while.
    fn complain(&self, spans: usize, error: &BoxError) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.spans += spans;
        if lost.said.is_none_or(|said| said.elapsed() >= COMPLAINTS) {
            lost.said = Some(Instant::now());
            let spans = std::mem::take(&mut lost.spans);
            tracing::warn!(spans, collector = %self.url, "traces are lost: {}", report::chain(&**error));
        }
    }
}

/// How long the collector says that it wants to be left alone, if that is not too long.
fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(TIME_LIMIT))
}

/// Whether the collector has taken all of a batch.
async fn accepted(response: Response) -> Result<(), BoxError> {
    let status = response.status();
    if !status.is_success() {
        return Err(format!("it answers {status}").into());
    }
    let answer = ExportTraceServiceResponse::decode(response.bytes().await?)?;
    match answer.partial_success {
        Some(partial) if partial.rejected_spans > 0 => {
            let why = escape(&partial.error_message);
            Err(format!("it refuses {} spans: {why}", partial.rejected_spans).into())
        }
        _ => Ok(()),
    }
}

impl SpanExporter for Collector {
    /// Called from a thread of its own, one batch after the other, so that it may block.
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        if let Err(error) = self.runtime.block_on(self.send(batch)) {
            self.complain(spans, &error);
        }
        // Of an error the SDK would say each time what was said.
        Ok(())
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The way to the collector, over clearnet, whatever the app's default is: it is the operator who named it. There is no way
/// from here to anybody else.
fn dialer(uri: &Uri, endpoint: &str, not_one: impl Fn() -> ExporterError) -> Result<Dialer, ExporterError> {
    let port = match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), Some("http" | "https")) => port,
        (None, Some("http")) => 80,
        (None, Some("https")) => 443,
        _ => return Err(not_one()),
    };
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(&not_one)?;
    if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(not_one());
    }
    let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    let mut rules = vec![format!("{host}:{port}")];
    if !is_address {
        // A name opens no special addresses, and a collector is most often at one. Nothing but the name is ever dialled.
        rules.extend([format!("0.0.0.0/0:{port}"), format!("[::/0]:{port}")]);
    }
    let rule = |source| ExporterError::Rule { endpoint: endpoint.to_owned(), source };
    let rules = rules.iter().map(|text| text.parse::<Rule>().map_err(rule)).collect::<Result<Vec<_>, _>>()?;
    let clearnet =
        DirectConfig::default().with_default(DirectDefault::Deny).with_allow(rules).with_deadline(TIME_LIMIT);
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked())?;
    frame_net::boot(&mut app, NetConfig::default().with_clearnet(clearnet))?;
    Ok(frame_net::dialer(&FrameBuilder::new().seal(), &app.build())?)
}
