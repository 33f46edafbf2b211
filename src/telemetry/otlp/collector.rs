//! The collector, as it is sent to.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use frame_net::http::{HttpClient, HttpConfig, HttpError, Request, Response};
use frame_net::{Dialer, DirectConfig, DirectDefault, NetConfig, Rule};
use frame_registry::{App, BoxError, FrameBuilder, FrameResolvers};
use http::Uri;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prost::Message;
use tokio::runtime::Runtime;

use super::ExporterError;
use crate::manifest::Otlp;
use crate::report;

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
pub(super) struct Collector {
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
    pub(super) fn new(otlp: &Otlp, resource: &Resource) -> Result<Self, ExporterError> {
        let endpoint = otlp.endpoint.trim_end_matches('/');
        let not_one = || ExporterError::Endpoint { endpoint: otlp.endpoint.escape_debug().to_string() };
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
        let url = |source| ExporterError::Url { endpoint: self.url.escape_debug().to_string(), source };
        let mut request = Request::post(&self.url).map_err(url)?;
        request = request.header("content-type", "application/x-protobuf").map_err(url)?;
        for (name, value) in &self.headers {
            let unsendable = |source| ExporterError::Header { name: name.escape_debug().to_string(), source };
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
            let why = partial.error_message.escape_debug();
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
