//! The client: sends requests, follows their redirects, and sends them again where that is safe.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
#[cfg(feature = "websocket")]
use bytes::Bytes;
#[cfg(feature = "websocket")]
use http::StatusCode;
use http::{HeaderValue, header};
use hyper::body::{Body as _, Incoming};

use super::body::{BodyError, Late};
use super::config::HttpConfig;
#[cfg(feature = "websocket")]
use super::connection;
use super::connector::{ConnectRequest, Connector, within};
use super::decode::{ACCEPT_ENCODING, Coding, Decoder, DecoderMemory};
use super::error::{HttpError, Peer};
use super::headers;
use super::hop::{self, Hop, RefusedRedirect};
use super::pool::Lease;
use super::request::{Request, StepLimits};
use super::response::{BodyLimits, Response, ResponseBody};
use super::retry::{Attempts, Failure};
#[cfg(feature = "websocket")]
use super::secret::SentSecret;
#[cfg(feature = "websocket")]
use super::websocket::{WebSocket, WebSocketError, WebSocketRequest};
use super::wire::{Excess, HeadLimits, MAX_INTERIM, Observed};
use crate::audit::{AttemptKind, End, Recording};
use crate::deadline::Deadline;
use crate::dialer::{Dialer, unrecorded};
use crate::error::DriverStep;
use crate::isolation::Isolation;
#[cfg(feature = "websocket")]
use crate::network::BoxStream;

/// Sends requests through the networks of frames. Clones share its connections; an app needs one client.
///
/// There is no request without a [`Dialer`]: see [the module](super) for what goes through which connection.
///
/// ```standalone_crate
/// use frame_net::http::{HttpClient, HttpConfig, Request};
/// use frame_net::{NetConfig, dialer};
/// use frame_registry::{App, FrameBuilder, FrameResolvers, Options, ResolveContext};
/// use serde_json::json;
/// # use frame_net::{BoxFuture, BoxStream, DriverError, Endpoint, IsolationKey, Network};
/// # use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
/// #
/// # /// A network with one server.
/// # struct Shop;
/// #
/// # impl Network for Shop {
/// #     fn kind(&self) -> &'static str {
/// #         "shop"
/// #     }
/// #
/// #     fn connect<'a>(
/// #         &'a self,
/// #         _: &'a Endpoint,
/// #         _: Option<&'a IsolationKey>,
/// #     ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
/// #         let (client, mut server) = tokio::io::duplex(1024);
/// #         tokio::spawn(async move {
/// #             server.read(&mut [0; 1024]).await?;
/// #             server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await
/// #         });
/// #         Box::pin(async { Ok(Box::new(client) as BoxStream) })
/// #     }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut app = App::builder();
/// app.set_resolvers(FrameResolvers::linked())?;
/// let networks = frame_net::boot(&mut app, NetConfig::default())?;
/// # networks.register("app:shop".parse()?, std::sync::Arc::new(Shop))?;
/// let app = app.build();
/// let client = HttpClient::new(HttpConfig::default())?;
///
/// let options = Options::from_json(&json!({ "network": "app:shop" }))?;
/// let mut frame = FrameBuilder::new();
/// app.resolvers().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut())?;
/// let dialer = dialer(&frame.seal(), &app)?;
///
/// let response = client.send(&dialer, Request::get("http://shop.internal/")?).await?;
/// assert_eq!(response.route().to_string(), "network `app:shop`");
/// assert_eq!(response.text().await?, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HttpClient {
    inner: Arc<ArcSwap<ClientState>>,
}

/// The settings of a client and what belongs to them. [`HttpClient::switch_to`] replaces all of it.
struct ClientState {
    config: Arc<HttpConfig>,
    connector: Connector,
    decoder_memory: Arc<DecoderMemory>,
}

/// How each hop of a request is sent: the first one, and those that redirects lead to.
#[derive(Debug, Clone, Copy)]
struct HopSettings {
    steps: StepLimits,
    stall: Duration,
    /// How long to wait until a connection to a host may be made.
    queue: Deadline,
    has_own_connection: bool,
}

/// A response, and the connection that its body comes over.
type Exchanged = (http::Response<Incoming>, Lease);

impl HttpClient {
    /// Creates a client with these settings.
    ///
    /// # Errors
    ///
    /// [`HttpError::Config`] if a setting is more than it can be, [`HttpError::File`] and [`HttpError::SystemRoots`] if
    /// certificates cannot be read, and [`HttpError::TlsConfig`] if a root certificate is not valid.
    pub fn new(config: HttpConfig) -> Result<Self, HttpError> {
        config.check()?;
        let config = Arc::new(config);
        let connector = Connector::new(&config)?;
        let decoder_memory = DecoderMemory::new(config.max_decoder_memory);
        let inner = ClientState { config, connector, decoder_memory };
        Ok(Self { inner: Arc::new(ArcSwap::from_pointee(inner)) })
    }

    /// Returns its settings.
    pub fn config(&self) -> Arc<HttpConfig> {
        Arc::clone(&self.inner.load().config)
    }

    /// Replaces the settings and connections of this client, in all of its handles, with those of `other`. Returns a client
    /// with the previous ones. Requests that are in flight are not affected.
    ///
    /// Settings are changed without a gap this way: `other` is made first, and has read all files that its settings name.
    #[must_use = "dropping what is returned closes the connections that were kept"]
    pub fn switch_to(&self, other: &Self) -> Self {
        Self { inner: Arc::new(ArcSwap::new(self.inner.swap(other.inner.load_full()))) }
    }

    /// Returns whether `other` has read the same certificates, from files and from the system. Their settings are not
    /// compared.
    pub fn has_same_certificates(&self, other: &Self) -> bool {
        self.inner.load().connector.has_same_certificates(&other.inner.load().connector)
    }

    /// Sends `request` through the network of `dialer` and follows its redirects. Returns the response as soon as its head
    /// has arrived.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection; over HTTP/2 it resets the request's stream, and the connection takes no
    /// further request. The server may have received the request.
    ///
    /// # Errors
    ///
    /// [`HttpError::Network`] if the frame's network is missing or fails to connect. [`HttpError::Redirect`] and
    /// [`HttpError::TooManyRedirects`] if a redirect is not followed. The other errors are about the request, limits or the
    /// server. An error status such as 404 is a response and not an error.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub async fn send(&self, dialer: &Dialer, mut request: Request) -> Result<Response, HttpError> {
        let inner = self.inner.load_full();
        let config = &inner.config;
        match request.hop.body.source() {
            Some(source) => {
                let max = config.max_streamed_body.unwrap_or(u64::MAX);
                source.limit(max);
                if request.hop.body.length().is_some_and(|length| length > max) {
                    return Err(HttpError::RequestBody(BodyError::TooLarge { limit: max }));
                }
            }
            None if request.hop.body.length().is_some_and(|len| len > config.max_request_body) => {
                return Err(HttpError::RequestTooLarge { limit: config.max_request_body });
            }
            None => {}
        }
        if !request.hop.body.can_be_sent() {
            return Err(HttpError::RequestBody(BodyError::Used));
        }
        if let Some(id) = &request.secret {
            request.hop.carry_secret(AttemptKind::Http, dialer, id)?;
        }
        let secret = request.hop.secret.clone();
        request.hop.body.trailers().iter().try_for_each(headers::check_trailer)?;
        let is_upload = request.hop.body.is_streamed();
        // A stream may take as long as it takes, as long as something moves.
        let own = request.time_limit.map(Deadline::after);
        let sending = own.or_else(|| (!is_upload).then(|| Deadline::after(config.time_limit)));
        let peer = request.hop.peer(dialer);
        // On the heap, because a connection that is being made is large, and callers hold it in their futures.
        let following = Box::pin(inner.follow(dialer, request, own, sending));
        let done = match sending {
            None => following.await,
            Some(limit) => {
                let timed_out = |_| Err(HttpError::TimedOut { peer: peer.clone(), limit: limit.limit });
                limit.timeout(following).await.unwrap_or_else(timed_out)
            }
        };
        match secret {
            None => done,
            Some(secret) => done.map_err(|error| secret.hidden_from(error, &peer.endpoint)),
        }
    }

    /// Connects to a WebSocket through the network of `dialer`.
    ///
    /// The connection is made for it alone, speaks HTTP/1.1, and counts for the dialer's unit as long as it is open. The
    /// client's settings for TLS, limits and certificates apply to it. Redirects are not followed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// [`WebSocketError::Http`] if there is no connection or no response, [`WebSocketError::Refused`] if the status of the
    /// response is not 101, and [`WebSocketError::Handshake`] if the response is not that of a WebSocket.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    #[cfg(feature = "websocket")]
    pub async fn websocket(
        &self,
        dialer: &Dialer,
        request: WebSocketRequest,
    ) -> Result<WebSocket, WebSocketError> {
        let config = self.config().websocket;
        let (handshake, request) = request.into_handshake()?;
        let upgrade = self.upgrade(dialer, request).await?;
        handshake.finish(upgrade, &config)
    }

    /// Sends `request`, which asks for another protocol, over a connection of its own.
    #[cfg(feature = "websocket")]
    async fn upgrade(&self, dialer: &Dialer, mut request: Request) -> Result<Upgrade, HttpError> {
        let inner = self.inner.load_full();
        if let Some(id) = &request.secret {
            request.hop.carry_secret(AttemptKind::WebSocket, dialer, id)?;
        }
        let secret = request.hop.secret.clone();
        let limit = Deadline::after(request.time_limit.unwrap_or(inner.config.time_limit));
        let peer = request.hop.peer(dialer);
        let done = limit.timeout(Box::pin(inner.upgrade(dialer, request))).await;
        let timed_out = |_| Err(HttpError::TimedOut { peer: peer.clone(), limit: limit.limit });
        let done = done.unwrap_or_else(timed_out);
        match secret {
            None => done,
            Some(secret) => done.map_err(|error| secret.hidden_from(error, &peer.endpoint)),
        }
    }
}

/// What a server answers if it is asked to switch to another protocol.
#[cfg(feature = "websocket")]
pub(crate) struct Upgrade {
    pub(crate) peer: Peer,
    pub(crate) head: http::response::Parts,
    /// The stream if the server has switched, with what has arrived after the head.
    pub(crate) switched: Option<(BoxStream, Bytes)>,
    /// The secret of the request, which must not come back.
    pub(crate) secret: Option<SentSecret>,
}

impl ClientState {
    /// What limits the steps of `request`.
    fn steps(&self, request: &Request) -> StepLimits {
        StepLimits {
            connect: request.steps.connect.or(Some(self.config.connect_limit)),
            answer: request.steps.answer.or(self.config.answer_limit),
        }
    }

    fn add_default_headers(&self, dialer: &Dialer, hop: &mut Hop) -> Result<(), HttpError> {
        let is_apart = dialer.isolation().is_some() || dialer.network()?.isolation() == Isolation::ByKey;
        headers::add_defaults(&self.config.headers, hop, dialer.route(), is_apart);
        Ok(())
    }

    /// Sends the request, and what its redirects lead to. `own` is the limit that the request has for everything, and
    /// `sending` the one until the head of the response is there.
    async fn follow(
        &self,
        dialer: &Dialer,
        request: Request,
        own: Option<Deadline>,
        sending: Option<Deadline>,
    ) -> Result<Response, HttpError> {
        let config = &self.config;
        let max_redirects = request.max_redirects.unwrap_or(config.max_redirects);
        let stall = request.stall_limit.unwrap_or(config.stall_limit);
        let settings = HopSettings {
            steps: self.steps(&request),
            stall,
            queue: sending.unwrap_or_else(|| Deadline::after(config.time_limit)),
            has_own_connection: request.has_own_connection,
        };
        let mut hop = request.hop;
        self.add_default_headers(dialer, &mut hop)?;
        let decides_itself = [header::ACCEPT_ENCODING, header::RANGE];
        let does_decode =
            request.decodes && !decides_itself.iter().any(|name| hop.headers.contains_key(name));
        if let Some(source) = hop.body.source() {
            let checked = Deadline::after(stall).timeout(source.check_empty()).await;
            let stalled = |_| HttpError::Stalled { peer: hop.peer(dialer), limit: stall };
            checked.map_err(stalled)?.map_err(HttpError::RequestBody)?;
        }
        if does_decode {
            hop.headers.insert(header::ACCEPT_ENCODING, ACCEPT_ENCODING);
        } else if hop.secret.is_some() {
            // A secret is found only in what can be read.
            hop.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let mut followed = 0;
        loop {
            let (response, lease) = self.exchange(dialer, &hop, settings).await?;
            let reach = lease.connection.reach();
            let (head, incoming) = response.into_parts();
            let peer = hop.peer(dialer);
            let location = hop::location(head.status, &head.headers).filter(|_| max_redirects > 0);
            let Some(location) = location else {
                let trailers = HeadLimits {
                    bytes: usize::try_from(config.max_response_head).unwrap_or(usize::MAX),
                    fields: config.max_response_headers,
                };
                let limits = if request.is_streamed {
                    let max = request.max_response_body.or(config.max_streamed_body).unwrap_or(u64::MAX);
                    BodyLimits { max, setting: "max_streamed_body", total: own, stall: Some(stall), trailers }
                } else {
                    let max = request.max_response_body.unwrap_or(config.max_response_body);
                    let total = sending.unwrap_or_else(|| Deadline::after(config.time_limit));
                    BodyLimits {
                        max,
                        setting: "max_response_body",
                        total: Some(total),
                        stall: None,
                        trailers,
                    }
                };
                let coding = does_decode.then(|| Coding::of(&head.headers)).flatten();
                if let Some(secret) =
                    hop.secret.as_ref().filter(|_| coding.is_none() && !incoming.is_end_stream())
                {
                    let checked = secret.check_coding(&head.headers, &peer.endpoint);
                    checked.inspect_err(|error| lease.recording.failed(error))?;
                }
                let decoder = coding.map(|coding| Decoder::new(coding, &self.decoder_memory, dialer.unit()));
                let body = ResponseBody::new(incoming, lease, decoder, peer, limits).guarded(hop.secret);
                return Ok(Response { head, url: hop.target.url, redirects: followed, body });
            };
            if followed == max_redirects {
                return Err(HttpError::TooManyRedirects { peer, limit: max_redirects });
            }
            let next = hop.redirected(reach, head.status, location, config.allow_downgrade);
            let RefusedRedirect { to, why } = match next {
                Ok(next) => {
                    skip(incoming, lease, peer).await;
                    (hop, followed) = (next, followed + 1);
                    continue;
                }
                Err(refused) => refused,
            };
            return Err(HttpError::Redirect { peer, to, source: why });
        }
    }

    /// Records `hop`, sends it, again if that is safe, and waits for the head of the response.
    async fn exchange(
        &self,
        dialer: &Dialer,
        hop: &Hop,
        settings: HopSettings,
    ) -> Result<Exchanged, HttpError> {
        // Also where a connection waits: it may have been made for a frame that may reach more.
        let recording = record(AttemptKind::Http, dialer, hop).await?;
        let exchanged = self.exchange_recorded(dialer, hop, settings, &recording).await;
        match &exchanged {
            Ok(_) => recording.succeeded(),
            Err(error) => failed_as(&recording, error),
        }
        exchanged
    }

    async fn exchange_recorded(
        &self,
        dialer: &Dialer,
        hop: &Hop,
        settings: HopSettings,
        recording: &Recording,
    ) -> Result<Exchanged, HttpError> {
        let mut attempts = Attempts::first();
        loop {
            // Looked up before any connection is: one that waits must not outlive its network.
            let registered = dialer.network()?;
            let request = ConnectRequest {
                dialer,
                registered: &registered,
                hop,
                recording,
                limit: settings.steps.connect,
                queue: settings.queue,
                has_own_connection: settings.has_own_connection,
            };
            let (mut lease, is_reused) = self.connector.checkout(request, attempts.are_alone()).await?;
            let entering = lease.connection.enter();
            let entered = if hop.body.is_streamed() {
                // Nothing else limits how long the server may be busy with other requests.
                let stalled = |_| HttpError::Stalled { peer: hop.peer(dialer), limit: settings.stall };
                Deadline::after(settings.stall).timeout(entering).await.map_err(stalled)?
            } else {
                entering.await
            };
            if !entered {
                // The connection has ended and nothing was sent, so this does not count as an attempt.
                continue;
            }
            // If it is dropped before the answer is there, because that takes too long, the connection may be dead.
            let unanswered = lease.connection.spent().clone().drop_guard();
            let sending = lease.connection.send(hop, recording);
            let sent = match hop.body.source() {
                None => within(settings.steps.answer, sending).await.map_err(Late::Answer),
                Some(source) => source.watch(settings.stall, settings.steps.answer, sending).await,
            };
            let sent = sent.map_err(|late| match late {
                Late::Answer(limit) => HttpError::AnswerTimedOut { peer: hop.peer(dialer), limit },
                Late::Stalled(limit) => HttpError::Stalled { peer: hop.peer(dialer), limit },
            })?;
            unanswered.disarm();
            let failure = match sent? {
                Ok(response) => {
                    self.check_head(hop, &response, || hop.peer(dialer))?;
                    return Ok((response, lease));
                }
                Err(failure) => failure,
            };
            if let Some(failure) = hop.body.source().and_then(|source| source.take_failure()) {
                return Err(HttpError::RequestBody(failure));
            }
            let again = attempts.again(&failure, is_reused, &hop.method).filter(|_| hop.body.can_be_sent());
            let Some(pause) = again else {
                let peer = hop.peer(dialer);
                return Err(self.failed(&peer, failure, attempts.made(), lease.connection.observed()));
            };
            // An HTTP/1.1 connection is closed before the next is made.
            drop(lease);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Sends `hop`, which asks for another protocol, over a connection of its own.
    #[cfg(feature = "websocket")]
    async fn upgrade(&self, dialer: &Dialer, request: Request) -> Result<Upgrade, HttpError> {
        let recording = record(AttemptKind::WebSocket, dialer, &request.hop).await?;
        let upgraded = self.upgrade_recorded(dialer, request, &recording).await;
        match &upgraded {
            Ok(_) => recording.succeeded(),
            Err(error) => failed_as(&recording, error),
        }
        upgraded
    }

    /// The same, where all that the connection carries is counted by `recording`.
    #[cfg(feature = "websocket")]
    async fn upgrade_recorded(
        &self,
        dialer: &Dialer,
        request: Request,
        recording: &Recording,
    ) -> Result<Upgrade, HttpError> {
        let (peer, steps) = (request.hop.peer(dialer), self.steps(&request));
        let mut hop = request.hop;
        self.add_default_headers(dialer, &mut hop)?;
        let (hop, registered) = (&hop, dialer.network()?);
        let request = ConnectRequest {
            dialer,
            registered: &registered,
            hop,
            recording,
            limit: steps.connect,
            queue: Deadline::after(Duration::ZERO),
            has_own_connection: true,
        };
        let mut connection = self.connector.open_apart(request).await?;
        // The connection counts it.
        let sent = within(steps.answer, connection.send(hop, &Recording::default())).await;
        let sent = sent.map_err(|limit| HttpError::AnswerTimedOut { peer: peer.clone(), limit })?;
        let mut response = match sent? {
            Ok(response) => response,
            Err(failure) => return Err(self.failed(&peer, failure, 1, connection.observed())),
        };
        self.check_head(hop, &response, || peer.clone())?;
        let switched = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let switched = connection::switched(&mut response).await;
            Some(switched.map_err(|error| HttpError::of_connection(&peer, error))?)
        } else {
            None
        };
        let head = response.into_parts().0;
        let secret = hop.secret.clone().map(|secret| SentSecret { secret, recording: recording.clone() });
        Ok(Upgrade { peer, head, switched, secret })
    }

    /// Holds the head of a response against the limits that hyper does not check, or not for both versions. It must not
    /// have the secret of its request in it.
    fn check_head(
        &self,
        hop: &Hop,
        response: &http::Response<Incoming>,
        peer: impl FnOnce() -> Peer,
    ) -> Result<(), HttpError> {
        let HttpConfig { max_response_head, max_response_headers, .. } = *self.config;
        if response.headers().len() > max_response_headers {
            return Err(HttpError::TooManyResponseHeaders { peer: peer(), limit: max_response_headers });
        }
        // As HTTP/1.1 writes them.
        let lines = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        if lines.sum::<usize>() > usize::try_from(max_response_head).unwrap_or(usize::MAX) {
            return Err(HttpError::HeadTooLarge { peer: peer(), limit: max_response_head });
        }
        match &hop.secret {
            Some(secret) if secret.is_in_headers(response.headers()) => {
                Err(secret.echoed(&hop.target.origin.endpoint).into())
            }
            _ => Ok(()),
        }
    }

    /// The error of a request that is not sent again.
    fn failed(&self, peer: &Peer, failure: Failure, attempts: u32, observed: &Observed) -> HttpError {
        let HttpConfig { max_response_head, max_response_headers, .. } = *self.config;
        let peer = peer.clone();
        if observed.is_flooded() {
            return HttpError::TooManyInterim { peer, limit: MAX_INTERIM };
        }
        match failure {
            Failure::Unsent(source) => HttpError::Unsent { peer, attempts, source: source.into() },
            Failure::Unprocessed(source) => HttpError::Unprocessed { peer, attempts, source: source.into() },
            Failure::Broken(source) if source.is_parse_too_large() => {
                if observed.headers() > max_response_headers {
                    HttpError::TooManyResponseHeaders { peer, limit: max_response_headers }
                } else {
                    HttpError::HeadTooLarge { peer, limit: max_response_head }
                }
            }
            Failure::TooLarge(Excess::Fields) => {
                HttpError::TooManyResponseHeaders { peer, limit: max_response_headers }
            }
            Failure::TooLarge(Excess::Bytes) => HttpError::HeadTooLarge { peer, limit: max_response_head },
            Failure::Unanswered(source) | Failure::Broken(source) => HttpError::of_connection(&peer, source),
        }
    }
}

/// Reads and drops the body of a redirect, so that the connection can serve the next request. The connection is closed
/// instead if that would cost more than a new one.
async fn skip(incoming: Incoming, lease: Lease, peer: Peer) {
    const MAX: u64 = 16 << 10;
    const LONGEST: Duration = Duration::from_millis(100);
    // Its trailers are not used, and are limited like those of other responses while they are read.
    let trailers = HeadLimits { bytes: usize::MAX, fields: usize::MAX };
    let limits = BodyLimits { max: MAX, setting: "max_response_body", total: None, stall: None, trailers };
    let mut body = ResponseBody::new(incoming, lease, None, peer, limits);
    let read = async { while let Ok(Some(_)) = body.chunk().await {} };
    // What is not there by then is not waited for.
    let _ = Deadline::after(LONGEST).timeout(read).await;
}

/// Records that `hop` begins, unless it leads where the frame may not go.
async fn record(kind: AttemptKind, dialer: &Dialer, hop: &Hop) -> Result<Recording, HttpError> {
    let to = &hop.target.origin.endpoint;
    let details = || {
        let secret = hop.secret.as_ref().map(|secret| secret.id().as_str().into());
        hop.details(kind, secret)
    };
    dialer.check(to).inspect_err(|error| dialer.record_refusal(kind, to, error, details))?;
    let recorded = dialer.record_request(kind, to, details).await;
    Ok(recorded.map_err(|error| dialer.not_connected(to, unrecorded(DriverStep::Connect, to, error)))?)
}

/// Records that a request has failed with `error`.
fn failed_as(recording: &Recording, error: &HttpError) {
    match error {
        HttpError::TimedOut { .. }
        | HttpError::ConnectTimedOut { .. }
        | HttpError::AnswerTimedOut { .. }
        | HttpError::HostBusy { .. }
        | HttpError::Stalled { .. } => recording.end_as(End::TimedOut),
        // It is shown as its cause, which is none of its own causes.
        HttpError::Secret(error) => recording.failed(error),
        error => recording.failed(error),
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("config", &self.config()).finish_non_exhaustive()
    }
}
