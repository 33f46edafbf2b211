//! The client.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
#[cfg(feature = "websocket")]
use bytes::Bytes;
#[cfg(feature = "websocket")]
use http::StatusCode;
use http::{HeaderValue, header};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::body::{BodyLimits, ResponseBody};
use super::config::HttpConfig;
use super::connection::Connection;
use super::decode::{ACCEPT_ENCODING, Coding, Decoder, DecoderMemory};
use super::error::{HttpError, Peer};
use super::fields::{Excess, HeadLimits};
use super::gate::Gates;
use super::host_limit::{HostLimit, HostPermit, HostSlot};
use super::pool::{Lease, Place, Pool};
use super::request::{Hop, Request, StepLimits, check_trailer};
use super::response::Response;
use super::retry::{Attempts, Failure};
use super::secret::SecretHeader;
use super::target::Scheme;
use super::tls::Connectors;
use super::upload::{BodyError, Late};
use super::wire::{MAX_INTERIM, Observed};
#[cfg(feature = "websocket")]
use super::{connection, tls};
use super::{default_headers, redirect};
use crate::audit::{AttemptKind, End, Recording, RequestDetails};
use crate::deadline::Deadline;
use crate::dialer::{Dialer, unrecorded};
use crate::error::{NetworkError, Step};
use crate::isolation::Isolation;
use crate::limits::Counted;
#[cfg(feature = "websocket")]
use crate::network::BoxStream;
use crate::reach::{self, Reach};
use crate::registry::Registered;

/// Makes requests through the networks of frames. Cloning it gives another handle to the same connections; an app
/// needs one.
///
/// There is no request without a [`Dialer`]: see [the module](super) for what goes through which connection.
///
/// ```standalone_crate
/// use frame_net::http::{HttpClient, HttpConfig, Request};
/// use frame_net::{NetConfig, dialer};
/// use frame_registry::{App, ResolveContext, FrameBuilder, FrameResolvers, Options};
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
    inner: Arc<ArcSwap<Inner>>,
}

struct Inner {
    config: Arc<HttpConfig>,
    /// Which of these a connection is made with follows from its network and its origin. So no two that are kept in one
    /// place of the pool, which belongs to this configuration alone, can have been made under different trust.
    tls: Connectors,
    pool: Arc<Pool>,
    gates: Gates,
    hosts: HostLimit,
    decoder_memory: Arc<DecoderMemory>,
}

/// How requests are sent that redirects lead to, as the first one is.
#[derive(Debug, Clone, Copy)]
struct Manner {
    steps: StepLimits,
    stall: Duration,
    /// Until when to wait for a place among the connections to a host.
    queue: Deadline,
    has_own_connection: bool,
}

/// What a connection is made through.
#[derive(Clone, Copy)]
struct Way<'a> {
    dialer: &'a Dialer,
    registered: &'a Arc<Registered>,
    /// The record of what the connection is made for.
    recording: &'a Recording,
}

impl Way<'_> {
    fn timed_out(self, hop: &Hop, limit: Duration) -> HttpError {
        HttpError::ConnectTimedOut { peer: peer(self.dialer, hop), limit }
    }
}

/// How long a connection may take. To wait until one may be made takes none of it.
struct Patience {
    limit: Option<Duration>,
    left: Duration,
}

impl Patience {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, left: limit.unwrap_or_default() }
    }

    /// Does `step`, unless that takes longer than what is left. Returns the limit then.
    async fn spend<T>(&mut self, step: impl Future<Output = T>) -> Result<T, Duration> {
        let begun = Instant::now();
        let done = within(self.limit.map(|_| self.left), step).await;
        self.left = self.left.saturating_sub(begun.elapsed());
        done.map_err(|left| self.limit.unwrap_or(left))
    }
}

/// A response, and the connection that its body comes over.
type Answer = (http::Response<Incoming>, Lease);

impl HttpClient {
    /// A client with these settings.
    ///
    /// # Errors
    ///
    /// [`HttpError::Config`] if a setting is more than it can be, [`HttpError::File`] and [`HttpError::SystemRoots`] if
    /// certificates cannot be read, and [`HttpError::TlsConfig`] if a root certificate is not valid.
    pub fn new(config: HttpConfig) -> Result<Self, HttpError> {
        config.check()?;
        let (tls, pool) = (Connectors::new(&config)?, Arc::new(Pool::new(&config)));
        let hosts = HostLimit::new(config.max_connections_per_host);
        let decoder_memory = DecoderMemory::new(config.max_decoder_memory);
        let (config, gates) = (Arc::new(config), Gates::default());
        let inner = Inner { config, tls, pool, gates, hosts, decoder_memory };
        Ok(Self { inner: Arc::new(ArcSwap::from_pointee(inner)) })
    }

    /// Its settings.
    pub fn config(&self) -> Arc<HttpConfig> {
        Arc::clone(&self.inner.load().config)
    }

    /// Takes over the settings of `other`, and its connections, in all handles to this client. Returns a client with those
    /// that this one had. Requests that are on their way go on as they were begun.
    ///
    /// So settings are changed without a gap: `other` is made first, and has read all files that its settings name.
    #[must_use = "dropping what is returned closes the connections that were kept"]
    pub fn switch_to(&self, other: &Self) -> Self {
        Self { inner: Arc::new(ArcSwap::new(self.inner.swap(other.inner.load_full()))) }
    }

    /// Whether the files of certificates and the roots of the system were the same when `other` was made. Whether the
    /// settings are is another question.
    pub fn has_same_certificates(&self, other: &Self) -> bool {
        self.inner.load().tls.fingerprint == other.inner.load().tls.fingerprint
    }

    /// Makes `request` through the network of `dialer`, follows its redirects there, and gives back the response as
    /// soon as its head is there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection; over HTTP/2 it resets the request's stream, and no further request
    /// goes over the connection. Whether the server got the request is not known then.
    ///
    /// # Errors
    ///
    /// [`HttpError::Network`] if the frame's network is not there or makes no connection. [`HttpError::Redirect`] and
    /// [`HttpError::TooManyRedirects`] where redirects lead nowhere. What the server does wrong is among the others.
    /// An error status such as 404 is a response, and no error.
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
        let secret = secret_of(AttemptKind::Http, dialer, &request)?;
        request.hop.secret.clone_from(&secret);
        request.hop.body.trailers().iter().try_for_each(check_trailer)?;
        let is_upload = request.hop.body.is_streamed();
        // A stream may take as long as it takes, as long as something moves.
        let own = request.time_limit.map(Deadline::after);
        let sending = own.or_else(|| (!is_upload).then(|| Deadline::after(config.time_limit)));
        let peer = peer(dialer, &request.hop);
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
}

/// What a server answers if it is asked to switch to another protocol, and the stream if it has, with what has arrived
/// behind the head.
#[cfg(feature = "websocket")]
pub(super) struct Upgrade {
    pub(super) peer: Peer,
    pub(super) head: http::response::Parts,
    pub(super) switched: Option<(BoxStream, Bytes)>,
    /// What must not come back.
    pub(super) secret: Option<Arc<SecretHeader>>,
}

#[cfg(feature = "websocket")]
impl HttpClient {
    /// Makes `request`, which asks for another protocol, over a connection of its own.
    pub(super) async fn upgrade(&self, dialer: &Dialer, mut request: Request) -> Result<Upgrade, HttpError> {
        let inner = self.inner.load_full();
        let secret = secret_of(AttemptKind::WebSocket, dialer, &request)?;
        request.hop.secret.clone_from(&secret);
        let limit = Deadline::after(request.time_limit.unwrap_or(inner.config.time_limit));
        let peer = peer(dialer, &request.hop);
        let done = limit.timeout(Box::pin(inner.upgrade(dialer, request))).await;
        let timed_out = |_| Err(HttpError::TimedOut { peer: peer.clone(), limit: limit.limit });
        let done = done.unwrap_or_else(timed_out);
        match secret {
            None => done,
            Some(secret) => done.map_err(|error| secret.hidden_from(error, &peer.endpoint)),
        }
    }
}

impl Inner {
    /// What limits the steps of `request`.
    fn steps(&self, request: &Request) -> StepLimits {
        StepLimits {
            connect: request.steps.connect.or(Some(self.config.connect_limit)),
            answer: request.steps.answer.or(self.config.answer_limit),
        }
    }

    fn add_default_headers(&self, dialer: &Dialer, hop: &mut Hop) -> Result<(), HttpError> {
        let is_apart = dialer.isolation().is_some() || dialer.network()?.isolation() == Isolation::ByKey;
        default_headers::add(&self.config.headers, hop, dialer.route(), is_apart);
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
        let manner = Manner {
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
            let stalled = |_| HttpError::Stalled { peer: peer(dialer, &hop), limit: stall };
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
            let (response, lease) = self.exchange(dialer, &hop, manner).await?;
            let reach = lease.connection.reach();
            let (head, incoming) = response.into_parts();
            let peer = peer(dialer, &hop);
            let location = redirect::location(head.status, &head.headers).filter(|_| max_redirects > 0);
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
                    secret.check_coding(&head.headers, &peer.endpoint)?;
                }
                let decoder = coding.map(|coding| Decoder::new(coding, &self.decoder_memory, dialer.unit()));
                let body = ResponseBody::new(incoming, lease, decoder, peer, limits).guarded(hop.secret);
                return Ok(Response { head, url: hop.target.url, redirects: followed, body });
            };
            if followed == max_redirects {
                return Err(HttpError::TooManyRedirects { peer, limit: max_redirects });
            }
            let next = redirect::next(&hop, reach, head.status, location, config.allow_downgrade);
            let redirect::Refused { to, why } = match next {
                Ok(next) => {
                    skip(incoming, lease, peer).await;
                    (hop, followed) = (next, followed + 1);
                    continue;
                }
                Err(refused) => refused,
            };
            return Err(HttpError::Redirect { peer, to, why });
        }
    }

    /// Records `hop`, sends it, again if that is safe, and waits for the head of the response.
    async fn exchange(&self, dialer: &Dialer, hop: &Hop, manner: Manner) -> Result<Answer, HttpError> {
        // Also where a connection waits: it may have been made for a frame that may reach more.
        let recording = record(AttemptKind::Http, dialer, hop).await?;
        let exchanged = self.exchange_recorded(dialer, hop, manner, &recording).await;
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
        manner: Manner,
        recording: &Recording,
    ) -> Result<Answer, HttpError> {
        let pool = &self.pool;
        let is_own = manner.has_own_connection;
        let mut attempts = Attempts::first();
        loop {
            // Asked before any connection is looked for: one that still waits must not outlive its network.
            let registered = dialer.network()?;
            let way = Way { dialer, registered: &registered, recording };
            let place = Place::new(&registered, dialer, &hop.target.origin);
            let mut patience = Patience::new(manner.steps.connect);
            let alone = match &place {
                Some(place) if attempts.are_alone() => {
                    Some(self.permit(way, hop, place, manner.queue, Pool::release_all).await?)
                }
                _ => None,
            };
            let waiting = match (&alone, &place) {
                (None, Some(place)) => self.waiting(place, hop, is_own),
                _ => None,
            };
            // What makes a connection is on the heap: most requests make none, and would carry the room for it.
            let (connection, is_reused, home) = if let Some(waiting) = waiting {
                (waiting, true, place)
            } else if let Some(permit) = alone {
                (Box::pin(self.open(way, hop, permit, &mut patience)).await?, false, None)
            } else {
                let found = self.connection(way, hop, place.as_ref(), &mut patience, manner);
                let (connection, is_reused) = Box::pin(found).await?;
                (connection, is_reused, place)
            };
            let home = home.map(|place| (pool, place));
            let mut lease = Lease::new(connection, home, recording.clone());
            let entering = lease.connection.enter();
            let entered = if hop.body.is_streamed() {
                // Nothing else limits how long the server may be busy with other requests.
                let stalled = |_| HttpError::Stalled { peer: peer(dialer, hop), limit: manner.stall };
                Deadline::after(manner.stall).timeout(entering).await.map_err(stalled)?
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
                None => within(manner.steps.answer, sending).await.map_err(Late::Answer),
                Some(source) => source.watch(manner.stall, manner.steps.answer, sending).await,
            };
            let sent = sent.map_err(|late| match late {
                Late::Answer(limit) => HttpError::AnswerTimedOut { peer: peer(dialer, hop), limit },
                Late::Stalled(limit) => HttpError::Stalled { peer: peer(dialer, hop), limit },
            })?;
            unanswered.disarm();
            let failure = match sent? {
                Ok(response) => {
                    self.check_head(hop, &response, || peer(dialer, hop))?;
                    return Ok((response, lease));
                }
                Err(failure) => failure,
            };
            if let Some(failure) = hop.body.source().and_then(|source| source.take_failure()) {
                return Err(HttpError::RequestBody(failure));
            }
            let again = attempts.again(&failure, is_reused, &hop.method).filter(|_| hop.body.can_be_sent());
            let Some(pause) = again else {
                let peer = peer(dialer, hop);
                return Err(self.failed(&peer, failure, attempts.made(), lease.connection.observed()));
            };
            // An HTTP/1.1 connection is closed before the next is made.
            drop(lease);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// A connection for `hop`, for which none waits, and whether it has been used or shared before. One of its own carries no
    /// other request, unless there may be no further one.
    async fn connection(
        &self,
        way: Way<'_>,
        hop: &Hop,
        place: Option<&Place>,
        patience: &mut Patience,
        manner: Manner,
    ) -> Result<(Connection, bool), HttpError> {
        let Some(place) = place else {
            return Ok((self.open(way, hop, HostPermit::unlimited(), patience).await?, false));
        };
        let is_own = manner.has_own_connection;
        let may_be_shared = self.may_be_shared(hop) && !is_own;
        let mut turn = None;
        if may_be_shared {
            let entering = self.gates.enter(place);
            turn = if self.hosts.max().is_some() {
                // The request before this one may be waiting for a permit.
                entering.await
            } else {
                patience.spend(entering).await.map_err(|limit| way.timed_out(hop, limit))?
            };
            if let Some(waiting) = self.waiting(place, hop, is_own) {
                return Ok((waiting, true));
            }
        }
        let release = |pool: &Pool, place: &Place| {
            if is_own {
                pool.release_all(place);
            } else {
                pool.release_unfit(place, hop.is_from_public);
            }
        };
        let permit = self.permit(way, hop, place, manner.queue, release).await?;
        if self.hosts.max().is_some() {
            // It may have been parked while this waited for the permit.
            if let Some(parked) = self.take(place, hop, is_own) {
                parked.use_with(permit);
                return Ok((parked, true));
            }
            // What is left is not for this request, and would be one too many.
            self.pool.release_unfit(place, hop.is_from_public);
        }
        let opened = match self.open(way, hop, permit, patience).await {
            Ok(opened) => opened,
            Err(error) => {
                if let Some(turn) = turn {
                    turn.failed();
                }
                return Err(error);
            }
        };
        self.pool.watch(place, &opened);
        if may_be_shared {
            if let Some(shared) = opened.share() {
                self.pool.park(place, shared);
            }
            self.gates.learn(place, opened.is_shared());
        }
        Ok((opened, false))
    }

    /// Whether a connection for `hop` may speak HTTP/2.
    fn may_be_shared(&self, hop: &Hop) -> bool {
        self.config.http2 && hop.target.server_name.is_some()
    }

    /// A connection that waits in `place`, if this request need not wait for others.
    fn waiting(&self, place: &Place, hop: &Hop, is_own: bool) -> Option<Connection> {
        let Some(permit) = self.hosts.try_acquire(place) else {
            return self.pool.take_shared(place, hop.is_from_public);
        };
        let waiting = self.take(place, hop, is_own)?;
        waiting.use_with(permit);
        Some(waiting)
    }

    fn take(&self, place: &Place, hop: &Hop, is_own: bool) -> Option<Connection> {
        if is_own {
            self.pool.take_own(place, hop.is_from_public)
        } else {
            self.pool.take(place, hop.is_from_public)
        }
    }

    /// Waits until another connection may be made, for as long as the request may take. If that is not at once, `release` is
    /// called: a connection that is kept for others, and that this request does not take, would never make room for it.
    async fn permit(
        &self,
        way: Way<'_>,
        hop: &Hop,
        place: &Place,
        limit: Deadline,
        release: impl Fn(&Pool, &Place),
    ) -> Result<HostPermit, HttpError> {
        let Some(max) = self.hosts.max() else { return Ok(HostPermit::unlimited()) };
        if let Some(permit) = self.hosts.try_acquire(place) {
            return Ok(permit);
        }
        let waiting = async {
            /// A connection of HTTP/2 can be parked again and again by requests before this one, and is parked while it is
            /// used, so that nothing tells when it could make room.
            const AGAIN: Duration = Duration::from_millis(100);
            let mut acquiring = pin!(self.hosts.acquire(place));
            loop {
                release(&self.pool, place);
                if !self.may_be_shared(hop) {
                    break acquiring.await;
                }
                if let Ok(permit) = tokio::time::timeout(AGAIN, &mut acquiring).await {
                    break permit;
                }
            }
        };
        let permit = limit.timeout(waiting).await;
        permit.map_err(|_| HttpError::HostBusy { peer: peer(way.dialer, hop), limit: max.get() })
    }

    /// Makes a connection.
    async fn open(
        &self,
        way: Way<'_>,
        hop: &Hop,
        permit: HostPermit,
        patience: &mut Patience,
    ) -> Result<Connection, HttpError> {
        let tls = self.tls.of(hop.target.origin.endpoint.host(), way.dialer.route());
        let opened = patience.spend(async {
            let (stream, reach) = self.dial(way, hop).await;
            self.connect(way, hop, stream?, reach, tls, HostSlot::new(permit)).await
        });
        opened.await.map_err(|limit| way.timed_out(hop, limit))?
    }

    /// Makes a connection for `hop`, and says what it led to.
    async fn dial(&self, way: Way<'_>, hop: &Hop) -> (Result<Counted, NetworkError>, Reach) {
        let Way { dialer, registered, recording } = way;
        self.pool.attach(dialer.limits());
        let endpoint = &hop.target.origin.endpoint;
        let dialled = dialer.connect_through(registered, endpoint, recording);
        reach::watch(endpoint, hop.is_from_public, dialled).await
    }

    /// Speaks HTTP over `stream`, with these settings of TLS.
    async fn connect(
        &self,
        way: Way<'_>,
        hop: &Hop,
        stream: Counted,
        reach: Reach,
        tls: &TlsConnector,
        slot: HostSlot,
    ) -> Result<Connection, HttpError> {
        let (name, peer) = (hop.target.server_name.clone(), peer(way.dialer, hop));
        let opened = Connection::open(stream, reach, name, &peer, tls, &self.config, slot).await?;
        Ok(opened.with_peer(way.recording.peer()))
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
        let (peer, steps) = (peer(dialer, &request.hop), self.steps(&request));
        let mut hop = request.hop;
        self.add_default_headers(dialer, &mut hop)?;
        let (hop, registered) = (&hop, dialer.network()?);
        let way = Way { dialer, registered: &registered, recording };
        let tls = tls::without_http2(self.tls.of(peer.endpoint.host(), dialer.route()));
        // It may be open for long, and requests must not wait for that.
        let slot = HostSlot::new(HostPermit::unlimited());
        let connecting = async {
            let (stream, reach) = self.dial(way, hop).await;
            let stream = stream?.recorded_as(recording.clone());
            self.connect(way, hop, stream, reach, &tls, slot).await
        };
        let connected = within(steps.connect, connecting).await;
        let mut connection = connected.map_err(|limit| way.timed_out(hop, limit))??;
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
        let (head, secret) = (response.into_parts().0, hop.secret.clone());
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
            Failure::Unsent(source) => HttpError::Unsent { peer, attempts, source },
            Failure::Unprocessed(source) => HttpError::Unprocessed { peer, attempts, source },
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

/// Reads the body of a redirect, which nobody wants, to have the connection for the next request. Where that takes
/// more than a new connection would, or longer, it is closed.
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

/// Does `step`, unless that takes longer than the limit, which is given back then.
async fn within<T>(limit: Option<Duration>, step: impl Future<Output = T>) -> Result<T, Duration> {
    match limit {
        Some(limit) => Deadline::after(limit).timeout(step).await.map_err(|_| limit),
        None => Ok(step.await),
    }
}

/// The secret that `request` names. One that it may not have is recorded as a refusal.
fn secret_of(
    kind: AttemptKind,
    dialer: &Dialer,
    request: &Request,
) -> Result<Option<Arc<SecretHeader>>, HttpError> {
    let details = || {
        let secret = request.secret.as_ref().map(|id| id.as_str().into());
        details(kind, &request.hop, secret)
    };
    let to = &request.hop.target.origin.endpoint;
    let secret = SecretHeader::of(dialer, request);
    Ok(secret.inspect_err(|error| dialer.record_refusal(kind, to, error, details))?)
}

/// Records that `hop` begins, unless it leads where the frame may not go.
async fn record(kind: AttemptKind, dialer: &Dialer, hop: &Hop) -> Result<Recording, HttpError> {
    let to = &hop.target.origin.endpoint;
    let details = || {
        let secret = hop.secret.as_ref().map(|secret| secret.id().as_str().into());
        details(kind, hop, secret)
    };
    dialer.check(to).inspect_err(|error| dialer.record_refusal(kind, to, error, details))?;
    let recorded = dialer.record_request(kind, to, details).await;
    Ok(recorded.map_err(|error| dialer.not_connected(to, unrecorded(Step::Connect, to, error)))?)
}

fn details(kind: AttemptKind, hop: &Hop, secret: Option<Arc<str>>) -> RequestDetails {
    let scheme = match (kind, hop.target.origin.scheme) {
        (AttemptKind::WebSocket, Scheme::Http) => "ws",
        (AttemptKind::WebSocket, Scheme::Https) => "wss",
        (_, Scheme::Http) => "http",
        (_, Scheme::Https) => "https",
    };
    RequestDetails::new(&hop.method, scheme, secret)
}

/// Records that a request has failed with `error`.
fn failed_as(recording: &Recording, error: &HttpError) {
    match error {
        HttpError::TimedOut { .. }
        | HttpError::ConnectTimedOut { .. }
        | HttpError::AnswerTimedOut { .. }
        | HttpError::HostBusy { .. }
        | HttpError::Stalled { .. } => recording.end_as(End::TimedOut),
        error => recording.failed(error),
    }
}

fn peer(dialer: &Dialer, hop: &Hop) -> Peer {
    Peer { endpoint: hop.target.origin.endpoint.clone(), route: dialer.route().clone() }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("config", &self.config()).finish_non_exhaustive()
    }
}
