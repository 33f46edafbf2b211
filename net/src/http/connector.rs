//! Gets the connection for a request: one that waits in the pool, or a new one.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::admission::{Gates, HostLimit, HostPermit, HostSlot};
use super::config::HttpConfig;
use super::connection::Connection;
use super::error::HttpError;
use super::hop::Hop;
use super::pool::{Lease, Pool, PoolKey};
#[cfg(feature = "websocket")]
use super::tls;
use super::tls::TlsConnectors;
use crate::audit::Recording;
use crate::deadline::Deadline;
use crate::dialer::Dialer;
use crate::error::NetworkError;
use crate::limits::Counted;
use crate::reach::{self, Reach};
use crate::registry::Registered;

/// The connections of a client: those that wait, and how new ones are made.
pub(crate) struct Connector {
    config: Arc<HttpConfig>,
    /// A connection uses one of these by its network and its origin. So no two connections with the same key of the pool,
    /// which belongs to this configuration alone, can have been made under different trust.
    tls: TlsConnectors,
    pool: Arc<Pool>,
    gates: Gates,
    hosts: HostLimit,
}

/// A request that needs a connection.
#[derive(Clone, Copy)]
pub(crate) struct ConnectRequest<'a> {
    pub(crate) dialer: &'a Dialer,
    pub(crate) registered: &'a Arc<Registered>,
    pub(crate) hop: &'a Hop,
    /// The record of the request.
    pub(crate) recording: &'a Recording,
    /// How long making a connection may take. The wait until one may be made does not count.
    pub(crate) limit: Option<Duration>,
    /// How long the request may wait until a connection to its host may be made.
    pub(crate) queue: Deadline,
    pub(crate) has_own_connection: bool,
}

impl ConnectRequest<'_> {
    fn timed_out(self, limit: Duration) -> HttpError {
        HttpError::ConnectTimedOut { peer: self.hop.peer(self.dialer), limit }
    }
}

/// The time that is left for making a connection.
struct ConnectTime {
    limit: Option<Duration>,
    left: Duration,
}

impl ConnectTime {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, left: limit.unwrap_or_default() }
    }

    /// Waits for `step`. Fails with the limit if that takes longer than the time that is left.
    async fn spend<T>(&mut self, step: impl Future<Output = T>) -> Result<T, Duration> {
        let began = Instant::now();
        let done = within(self.limit.map(|_| self.left), step).await;
        self.left = self.left.saturating_sub(began.elapsed());
        done.map_err(|left| self.limit.unwrap_or(left))
    }
}

impl Connector {
    /// Reads the files that the configuration names.
    pub(crate) fn new(config: &Arc<HttpConfig>) -> Result<Self, HttpError> {
        Ok(Self {
            config: Arc::clone(config),
            tls: TlsConnectors::new(config)?,
            pool: Arc::new(Pool::new(config)),
            gates: Gates::default(),
            hosts: HostLimit::new(config.max_connections_per_host),
        })
    }

    /// Returns whether the files of certificates and the roots of the system were the same when `other` was made.
    pub(crate) fn has_same_certificates(&self, other: &Self) -> bool {
        self.tls.fingerprint == other.tls.fingerprint
    }

    /// Returns a connection for `request`, and whether it has been used or shared before. If `is_alone`, the connection is a
    /// new one that no other request uses.
    pub(crate) async fn checkout(
        &self,
        request: ConnectRequest<'_>,
        is_alone: bool,
    ) -> Result<(Lease, bool), HttpError> {
        let ConnectRequest { dialer, registered, hop, .. } = request;
        let key = PoolKey::new(registered, dialer, &hop.target.origin);
        let mut time = ConnectTime::new(request.limit);
        let permit = match &key {
            Some(key) if is_alone => Some(self.permit(request, key, Pool::release_all).await?),
            _ => None,
        };
        let waiting = match (&permit, &key) {
            (None, Some(key)) => self.waiting(request, key),
            _ => None,
        };
        // What makes a connection is on the heap: most requests make none, and would carry the room for it.
        let (connection, is_reused, key) = if let Some(waiting) = waiting {
            (waiting, true, key)
        } else if let Some(permit) = permit {
            (Box::pin(self.open(request, permit, &mut time)).await?, false, None)
        } else {
            let (connection, is_reused) = Box::pin(self.connection(request, key.as_ref(), &mut time)).await?;
            (connection, is_reused, key)
        };
        let home = key.map(|key| (&self.pool, key));
        Ok((Lease::new(connection, home, request.recording.clone()), is_reused))
    }

    /// A connection for `request`, for which none waits, and whether it has been used or shared before. One of its own carries no
    /// other request, unless there may be no further one.
    async fn connection(
        &self,
        request: ConnectRequest<'_>,
        key: Option<&PoolKey>,
        time: &mut ConnectTime,
    ) -> Result<(Connection, bool), HttpError> {
        let Some(key) = key else {
            return Ok((self.open(request, HostPermit::unlimited(), time).await?, false));
        };
        let ConnectRequest { hop, has_own_connection: is_own, .. } = request;
        let may_be_shared = self.may_be_shared(hop) && !is_own;
        let mut pass = None;
        if may_be_shared {
            let entering = self.gates.enter(key);
            pass = if self.hosts.max().is_some() {
                // The request before this one may be waiting for a permit.
                entering.await
            } else {
                time.spend(entering).await.map_err(|limit| request.timed_out(limit))?
            };
            if let Some(waiting) = self.waiting(request, key) {
                return Ok((waiting, true));
            }
        }
        let release = |pool: &Pool, key: &PoolKey| {
            if is_own {
                pool.release_all(key);
            } else {
                pool.release_unfit(key, hop.is_from_public);
            }
        };
        let permit = self.permit(request, key, release).await?;
        if self.hosts.max().is_some() {
            // It may have been parked while this waited for the permit.
            if let Some(parked) = self.take(request, key) {
                parked.use_with(permit);
                return Ok((parked, true));
            }
            // What is left is not for this request, and would be one too many.
            self.pool.release_unfit(key, hop.is_from_public);
        }
        let opened = match self.open(request, permit, time).await {
            Ok(opened) => opened,
            Err(error) => {
                if let Some(pass) = pass {
                    pass.failed();
                }
                return Err(error);
            }
        };
        self.pool.watch(key, &opened);
        if may_be_shared {
            if let Some(shared) = opened.share() {
                self.pool.park(key, shared);
            }
            self.gates.learn(key, opened.is_shared());
        }
        Ok((opened, false))
    }

    /// Whether a connection for `hop` may speak HTTP/2.
    fn may_be_shared(&self, hop: &Hop) -> bool {
        self.config.http2 && hop.target.server_name.is_some()
    }

    /// A connection of `key` that waits, if this request need not wait for others.
    fn waiting(&self, request: ConnectRequest<'_>, key: &PoolKey) -> Option<Connection> {
        let Some(permit) = self.hosts.try_acquire(key) else {
            return self.pool.take_shared(key, request.hop.is_from_public);
        };
        let waiting = self.take(request, key)?;
        waiting.use_with(permit);
        Some(waiting)
    }

    fn take(&self, request: ConnectRequest<'_>, key: &PoolKey) -> Option<Connection> {
        let is_from_public = request.hop.is_from_public;
        if request.has_own_connection {
            self.pool.take_own(key, is_from_public)
        } else {
            self.pool.take(key, is_from_public)
        }
    }

    /// Waits until another connection may be made, for as long as the request may take. If that is not at once, `release` is
    /// called: a connection that is kept for others, and that this request does not take, would never make room for it.
    async fn permit(
        &self,
        request: ConnectRequest<'_>,
        key: &PoolKey,
        release: impl Fn(&Pool, &PoolKey),
    ) -> Result<HostPermit, HttpError> {
        let Some(max) = self.hosts.max() else { return Ok(HostPermit::unlimited()) };
        if let Some(permit) = self.hosts.try_acquire(key) {
            return Ok(permit);
        }
        let waiting = async {
            /// A connection of HTTP/2 can be parked again and again by requests before this one, and is parked while it is
            /// used, so that nothing tells when it could make room.
            const AGAIN: Duration = Duration::from_millis(100);
            let mut acquiring = pin!(self.hosts.acquire(key));
            loop {
                release(&self.pool, key);
                if !self.may_be_shared(request.hop) {
                    break acquiring.await;
                }
                if let Ok(permit) = tokio::time::timeout(AGAIN, &mut acquiring).await {
                    break permit;
                }
            }
        };
        let permit = request.queue.timeout(waiting).await;
        permit.map_err(|_| HttpError::HostBusy { peer: request.hop.peer(request.dialer), limit: max.get() })
    }

    /// Makes a connection.
    async fn open(
        &self,
        request: ConnectRequest<'_>,
        permit: HostPermit,
        time: &mut ConnectTime,
    ) -> Result<Connection, HttpError> {
        let tls = self.tls_for(request);
        let opened = time.spend(async {
            let (stream, reach) = self.dial(request).await;
            self.handshake(request, stream?, reach, tls, HostSlot::new(permit)).await
        });
        opened.await.map_err(|limit| request.timed_out(limit))?
    }

    /// Makes a connection that speaks HTTP/1.1, is in no pool, and does not count as one to its host. All that it carries is
    /// counted by the recording of `request`.
    #[cfg(feature = "websocket")]
    pub(crate) async fn open_apart(&self, request: ConnectRequest<'_>) -> Result<Connection, HttpError> {
        let tls = tls::without_http2(self.tls_for(request));
        // It may be open for long, and requests must not wait for that.
        let slot = HostSlot::new(HostPermit::unlimited());
        let opened = within(request.limit, async {
            let (stream, reach) = self.dial(request).await;
            let stream = stream?.recorded_as(request.recording.clone());
            self.handshake(request, stream, reach, &tls, slot).await
        });
        opened.await.map_err(|limit| request.timed_out(limit))?
    }

    fn tls_for(&self, request: ConnectRequest<'_>) -> &TlsConnector {
        self.tls.of(request.hop.target.origin.endpoint.host(), request.dialer.route())
    }

    /// Dials the server. Returns what the connection led to as well.
    async fn dial(&self, request: ConnectRequest<'_>) -> (Result<Counted, NetworkError>, Reach) {
        let ConnectRequest { dialer, registered, hop, recording, .. } = request;
        self.pool.attach(dialer.limits());
        let endpoint = &hop.target.origin.endpoint;
        let dialled = dialer.connect_through(registered, endpoint, recording);
        reach::watch(endpoint, hop.is_from_public, dialled).await
    }

    /// Speaks HTTP over `stream`, with these settings of TLS.
    async fn handshake(
        &self,
        request: ConnectRequest<'_>,
        stream: Counted,
        reach: Reach,
        tls: &TlsConnector,
        slot: HostSlot,
    ) -> Result<Connection, HttpError> {
        let ConnectRequest { hop, dialer, recording, .. } = request;
        let (name, peer) = (hop.target.server_name.clone(), hop.peer(dialer));
        let opened = Connection::open(stream, reach, name, &peer, tls, &self.config, slot).await?;
        Ok(opened.with_peer(recording.peer()))
    }
}

/// Waits for `step`. Fails with the limit if that takes longer.
pub(crate) async fn within<T>(limit: Option<Duration>, step: impl Future<Output = T>) -> Result<T, Duration> {
    match limit {
        Some(limit) => Deadline::after(limit).timeout(step).await.map_err(|_| limit),
        None => Ok(step.await),
    }
}
