//! A connection that speaks HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

#[cfg(feature = "websocket")]
use bytes::Bytes;
use http::Version;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::admission::{HostPermit, HostSlot};
use super::body::OutgoingBody;
use super::config::HttpConfig;
use super::error::{HttpError, Peer, UrlError};
use super::hop::{self, Hop};
use super::retry::Failure;
use super::tls;
use super::wire::{AnsweredStream, Excess, HeadLimits, Lost, Observed, Reservation, Wire};
use crate::audit::Recording;
use crate::limits::{Counted, Permit};
use crate::network::{BoxFuture, BoxStream};
use crate::reach::Reach;

/// A connection that speaks HTTP. It is closed when the last handle to it is dropped, whatever it is doing then.
pub(crate) struct Connection {
    sender: RequestSender,
    /// Cancelled once no further request is to go over the connection. Those on their way may go on.
    spent: CancellationToken,
    /// Closes it.
    open: Arc<DropGuard>,
    /// What it counts as.
    permit: Permit,
    /// Its place among those to the host.
    slot: HostSlot,
    /// What it leads to.
    reach: Reach,
    /// The address that this host connected to, for the audit log.
    peer: Option<SocketAddr>,
    /// What has arrived on it.
    observed: Arc<Observed>,
    /// The place of the request that this handle is for, over HTTP/2 and until it is sent.
    reservation: Option<Reservation>,
    /// The stream of that request, once it is answered.
    answered: Option<AnsweredStream>,
}

/// Which connection it is. It does not keep the connection open.
pub(crate) struct ConnectionId(Weak<DropGuard>);

enum RequestSender {
    Http1(http1::SendRequest<OutgoingBody>),
    Http2(http2::SendRequest<OutgoingBody>),
}

impl Connection {
    /// Speaks HTTP over `stream`, inside TLS if there is a name to prove.
    pub(crate) async fn open(
        stream: Counted,
        reach: Reach,
        server_name: Option<ServerName<'static>>,
        peer: &Peer,
        tls: &TlsConnector,
        config: &HttpConfig,
        slot: HostSlot,
    ) -> Result<Self, HttpError> {
        let permit = stream.permit().clone();
        let stream = Box::new(stream) as BoxStream;
        let (stream, is_http2) = match server_name {
            None => (stream, false),
            Some(name) => {
                let stream = tls::handshake(tls, name, peer, stream).await?;
                let is_http2 = tls::is_http2(&stream);
                (Box::new(stream) as BoxStream, is_http2)
            }
        };
        let limits = HeadLimits {
            bytes: usize::try_from(config.max_response_head).unwrap_or(usize::MAX),
            fields: config.max_response_headers.saturating_add(1),
        };
        let (wire, observed) = Wire::new(stream, is_http2.then_some(limits), slot.clone());
        let opened = if is_http2 { http2(wire, limits).await } else { http1(wire, config).await };
        let OpenedHttp { sender, spent, open } =
            opened.map_err(|error| HttpError::of_connection(peer, error))?;
        let (reservation, answered) = (None, None);
        Ok(Self { sender, spent, open, permit, slot, reach, peer: None, observed, reservation, answered })
    }

    /// The same, to `peer`.
    pub(crate) fn with_peer(self, peer: Option<SocketAddr>) -> Self {
        Self { peer, ..self }
    }

    /// Another handle to the connection, if it carries several requests at a time.
    pub(crate) fn share(&self) -> Option<Self> {
        match &self.sender {
            RequestSender::Http1(_) => None,
            RequestSender::Http2(sender) => Some(Self {
                sender: RequestSender::Http2(sender.clone()),
                spent: self.spent.clone(),
                open: Arc::clone(&self.open),
                permit: self.permit.clone(),
                slot: self.slot.clone(),
                reach: self.reach,
                peer: self.peer,
                observed: Arc::clone(&self.observed),
                reservation: None,
                answered: None,
            }),
        }
    }

    /// Whether it carries several requests at a time.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self.sender, RequestSender::Http2(_))
    }

    /// Whether nothing is sent over it, and nothing else holds it.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.open) == 1
    }

    /// A request uses it from now on. One that carries several has a permit of its own.
    pub(crate) fn use_with(&self, permit: HostPermit) {
        if !self.is_shared() {
            self.slot.hold(permit);
        }
    }

    /// Its place among those to the host.
    pub(crate) const fn slot(&self) -> &HostSlot {
        &self.slot
    }

    /// Which connection it is, for as long as that is open.
    pub(crate) fn identity(&self) -> ConnectionId {
        ConnectionId(Arc::downgrade(&self.open))
    }

    pub(crate) fn is(&self, identity: &ConnectionId) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.open), identity.0.as_ptr())
    }

    /// Closes it, if nothing else holds it. It does not count any more then, though its task may take a moment to end.
    pub(crate) fn close(self) {
        if self.is_idle() {
            self.permit.release();
        }
    }

    /// Whether a request can be sent now.
    pub(crate) fn is_ready(&self) -> bool {
        let is_ready = match &self.sender {
            RequestSender::Http1(sender) => sender.is_ready(),
            RequestSender::Http2(sender) => sender.is_ready(),
        };
        is_ready && !self.spent.is_cancelled()
    }

    /// Waits until a request can be sent, and says whether that will ever be.
    pub(crate) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            RequestSender::Http1(sender) => sender.ready().await.is_ok(),
            RequestSender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Cancelled once no further request is to go over the connection: the server takes none, or it is closed, or
    /// it may be dead.
    pub(crate) const fn spent(&self) -> &CancellationToken {
        &self.spent
    }

    /// What it leads to.
    pub(crate) const fn reach(&self) -> Reach {
        self.reach
    }

    /// What has arrived on it.
    pub(crate) fn observed(&self) -> &Observed {
        &self.observed
    }

    /// What is too much in the trailers of the response, over HTTP/2.
    pub(crate) fn excess_of_trailers(&self) -> Option<Excess> {
        self.answered.and_then(|answered| self.observed.take_excess(answered))
    }

    /// Waits until the server takes the request of this handle. Returns whether it ever will.
    pub(crate) async fn enter(&mut self) -> bool {
        if self.is_shared() {
            self.reservation = self.observed.reserve(&self.spent).await;
            return self.reservation.is_some();
        }
        true
    }

    /// Sends `hop`, and waits for the head of the response. The request must have [entered](Self::enter). `recording` counts
    /// what is sent of it, and the head.
    pub(crate) async fn send(
        &mut self,
        hop: &Hop,
        recording: &Recording,
    ) -> Result<Result<http::Response<Incoming>, Failure>, UrlError> {
        recording.set_peer(self.peer);
        let received = self.observed.begin();
        let sent = match &mut self.sender {
            RequestSender::Http1(sender) => {
                let sent = sender.try_send_request(hop.message(Version::HTTP_11, recording)?).await;
                sent.map_err(|error| {
                    let is_unanswered = self.observed.received() == received;
                    let lost = Lost { is_unanswered, is_unsent: false, is_unprocessed: false, excess: None };
                    (error, lost)
                })
            }
            RequestSender::Http2(sender) => {
                let message = hop.message(Version::HTTP_2, recording)?;
                let reservation = self.reservation.take().expect("the request has entered");
                let (sending, handed) = reservation.hand(|| sender.try_send_request(message));
                match sending.await {
                    Ok(response) => {
                        self.answered = Some(handed.answered());
                        Ok(response)
                    }
                    Err(error) => Err((error, handed.failed())),
                }
            }
        };
        if let Ok(response) = &sent
            && recording.is_on()
        {
            recording.add_received(hop::response_head_len(response.headers()));
        }
        Ok(sent.map_err(|(error, lost)| {
            let is_unsent = lost.is_unsent || error.message().is_some();
            Failure::new(TrySendError::into_error(error), Lost { is_unsent, ..lost })
        }))
    }
}

/// What a handshake of HTTP makes.
struct OpenedHttp {
    sender: RequestSender,
    spent: CancellationToken,
    open: Arc<DropGuard>,
}

/// The stream of a connection that a server has switched to another protocol with `response`, and what has arrived on it
/// after the head.
#[cfg(feature = "websocket")]
pub(crate) async fn switched(response: &mut http::Response<Incoming>) -> hyper::Result<(BoxStream, Bytes)> {
    let upgraded = hyper::upgrade::on(response).await?;
    Ok(match upgraded.downcast::<TokioIo<Wire>>() {
        Ok(parts) => (parts.io.into_inner().into_inner(), parts.read_buf),
        Err(upgraded) => (Box::new(TokioIo::new(upgraded)), Bytes::new()),
    })
}

async fn http1(wire: Wire, config: &HttpConfig) -> hyper::Result<OpenedHttp> {
    let mut builder = http1::Builder::new();
    builder.max_headers(config.max_response_headers);
    builder.max_header_size(usize::try_from(config.max_response_head).unwrap_or(usize::MAX));
    let (sender, driver) = builder.handshake(TokioIo::new(wire)).await?;
    let tasks = ConnectionTasks::new();
    let open = tasks.closer();
    // A server that switches to another protocol unasked finds that nothing takes the stream.
    let spent = tasks.spawn_main(driver.with_upgrades());
    Ok(OpenedHttp { sender: RequestSender::Http1(sender), spent, open })
}

async fn http2(wire: Wire, limits: HeadLimits) -> hyper::Result<OpenedHttp> {
    let tasks = ConnectionTasks::new();
    let open = tasks.closer();
    let mut builder = http2::Builder::new(tasks.clone());
    // A head that exceeds this fails without a reason, so it has to exceed the limits, too.
    builder.max_header_list_size(u32::try_from(limits.decoded()).unwrap_or(u32::MAX));
    // Nothing that a server pushes is asked for.
    let (sender, driver) = builder.handshake(TokioIo::new(wire)).await?;
    Ok(OpenedHttp { sender: RequestSender::Http2(sender), spent: tasks.spawn_main(driver), open })
}

/// Runs what drives a connection, until we close that.
#[derive(Clone)]
struct ConnectionTasks {
    closed: CancellationToken,
    frames: Arc<Mutex<FrameTask>>,
}

/// The first future that hyper executes for a connection of HTTP/2, which reads and writes its frames.
enum FrameTask {
    Awaited,
    Executed(BoxFuture<'static, ()>),
    /// The task of the connection has it, if there was one.
    Taken,
}

impl ConnectionTasks {
    fn new() -> Self {
        Self { closed: CancellationToken::new(), frames: Arc::new(Mutex::new(FrameTask::Awaited)) }
    }

    /// Ends all of them when it is dropped.
    fn closer(&self) -> Arc<DropGuard> {
        Arc::new(self.closed.clone().drop_guard())
    }

    fn frames(&self) -> MutexGuard<'_, FrameTask> {
        // Nothing in here panics in the middle of a change.
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs what takes requests, and says when it takes no more. How it ended is reported to whom it concerns. The
    /// other tasks go on: a server of HTTP/2 that goes away answers first what it has taken.
    ///
    /// What takes requests is polled each time after the frames were. In a task of their own, these could open a stream, and
    /// receive the response and the server's GOAWAY, before hyper noticed that the stream was open. hyper would then drop the
    /// response, or return the GOAWAY as if it refused the request.
    fn spawn_main<T: Send + 'static>(
        self,
        driver: impl Future<Output = T> + Send + 'static,
    ) -> CancellationToken {
        let spent = CancellationToken::new();
        // In the task it is dropped with the runtime, too.
        let takes_requests = spent.clone().drop_guard();
        let frames = std::mem::replace(&mut *self.frames(), FrameTask::Taken);
        tokio::spawn(async move {
            let frames = async {
                if let FrameTask::Executed(frames) = frames {
                    frames.await;
                }
            };
            let driver = async {
                let _ = driver.await;
                drop(takes_requests);
            };
            let both = async { tokio::join!(biased; frames, driver) };
            self.closed.run_until_cancelled(both).await;
        });
        spent
    }
}

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for ConnectionTasks {
    fn execute(&self, task: F) {
        let mut frames = self.frames();
        if matches!(*frames, FrameTask::Awaited) {
            *frames = FrameTask::Executed(Box::pin(async {
                task.await;
            }));
            return;
        }
        drop(frames);
        // On the heap, because hyper's future for a request is as large as that for the frames, and would be moved several
        // times.
        let (closed, task) = (self.closed.clone(), Box::pin(task));
        tokio::spawn(async move {
            let _ = closed.run_until_cancelled(task).await;
        });
    }
}
