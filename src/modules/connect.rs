//! The way out for what scripts and components ask for: every connection that a host module makes is made here.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use frame_dispatch::{CallContext, CallError, ErrorKind};
use frame_net::audit::Unrecorded;
use frame_net::http::websocket::{WebSocket, WebSocketError, WebSocketRequest};
use frame_net::http::{
    BodyError, EventError, EventSource, HttpClient, HttpError, RedirectError, Request, Response,
};
use frame_net::secrets::SecretError;
use frame_net::{
    BoxStream, Cause, Dialer, Endpoint, HostName, IsolationKey, LimitReached, NetworkError, Route,
};
use tracing::Instrument as _;

use super::refusal;
use crate::telemetry::{failed, progress};

/// The way out of a call: the dialer of its frame, and the call, for the log.
#[derive(Clone)]
pub(crate) struct Way {
    dialer: Dialer,
    call: CallContext,
}

impl Way {
    /// The way out of the call that runs. With `isolation` its connections are kept apart further, below the key that the
    /// frame carries.
    ///
    /// # Errors
    ///
    /// If the network of the frame is not registered, or `isolation` is not a valid key.
    pub(crate) fn of(call: &CallContext, isolation: Option<&str>) -> Result<Self, CallError> {
        let dialer = frame_net::dialer(call.frame(), call.app()).map_err(|error| {
            refusal::log(call, &error);
            of_network(error)
        })?;
        let way = Self { dialer, call: call.clone() };
        let Some(isolation) = isolation else { return Ok(way) };
        let invalid =
            |error: frame_net::IsolationKeyError| CallError::invalid(format!("`isolation`: {error}"));
        let key: IsolationKey = isolation.parse().map_err(invalid)?;
        Ok(Self { dialer: way.dialer.isolated_within(&key).map_err(invalid)?, ..way })
    }

    /// The network that it goes through.
    pub(crate) fn route(&self) -> &Route {
        self.dialer.route()
    }

    /// Connects to `to`, within `timeout` if there is one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that was being made.
    ///
    /// # Errors
    ///
    /// As [`of_network`] has them, and of the kind `deadline` if `timeout` passed.
    pub(crate) async fn connect(
        &self,
        to: &Endpoint,
        timeout: Option<Duration>,
    ) -> Result<BoxStream, CallError> {
        let connecting = shown(self.dialer.connect(to), "connecting to", to, &self.dialer);
        let connected = match timeout {
            None => connecting.await,
            Some(timeout) => tokio::time::timeout(timeout, connecting).await.map_err(|_| {
                let message = format!("no connection to {to} through {} within {timeout:?}", self.route());
                CallError::new(ErrorKind::Deadline, message).with_retryable(true)
            })?,
        };
        connected.map_err(|error| self.failed(error))
    }

    /// The addresses of `name`, as the network sees them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the answer.
    ///
    /// # Errors
    ///
    /// As [`of_network`] has them.
    pub(crate) async fn lookup(&self, name: &HostName) -> Result<Vec<IpAddr>, CallError> {
        let looked_up = shown(self.dialer.lookup(name), "looking up", name.as_str(), &self.dialer).await;
        looked_up.map_err(|error| self.failed(error))
    }

    /// Makes a request.
    ///
    /// # Cancel safety
    ///
    /// As [`HttpClient::send`].
    ///
    /// # Errors
    ///
    /// As [`HttpClient::send`], and in the log already; [`of_http`] makes them those of a call.
    pub(crate) async fn send(&self, client: &HttpClient, request: Request) -> Result<Response, HttpError> {
        let endpoint = request.endpoint().clone();
        let sent = shown(client.send(&self.dialer, request), "asking", endpoint, &self.dialer).await;
        sent.inspect_err(|error| refusal::log(&self.call, error))
    }

    /// Connects to a WebSocket.
    ///
    /// # Cancel safety
    ///
    /// As [`HttpClient::websocket`].
    ///
    /// # Errors
    ///
    /// As [`HttpClient::websocket`], and in the log already; [`of_websocket`] makes them those of a call.
    pub(crate) async fn websocket(
        &self,
        client: &HttpClient,
        request: WebSocketRequest,
    ) -> Result<WebSocket, WebSocketError> {
        let endpoint = request.endpoint().clone();
        let connecting = client.websocket(&self.dialer, request);
        let connected = shown(connecting, "connecting to", endpoint, &self.dialer).await;
        connected.inspect_err(|error| refusal::log(&self.call, error))
    }

    /// Events that `request` asks for.
    ///
    /// # Errors
    ///
    /// As [`EventSource::new`].
    pub(crate) fn events(&self, client: &HttpClient, request: Request) -> Result<EventSource, HttpError> {
        EventSource::new(client.clone(), self.dialer.clone(), request)
    }

    /// Writes to the log why the body of a response failed.
    pub(crate) fn log(&self, error: &HttpError) {
        refusal::log(&self.call, error);
    }

    fn failed(&self, error: NetworkError) -> CallError {
        refusal::log(&self.call, &error);
        of_network(error)
    }
}

/// How long something takes before somebody would ask what is going on: an overlay network may have tunnels to build first,
/// or wait for a session.
const LONG: Duration = Duration::from_secs(2);

/// Waits for what goes on through a network, which is shown once it takes long.
async fn shown<T, E>(
    doing: impl Future<Output = Result<T, E>>,
    what: &str,
    whom: impl Display,
    dialer: &Dialer,
) -> Result<T, E> {
    let mut doing = pin!(doing);
    if let Ok(done) = tokio::time::timeout(LONG, &mut doing).await {
        return done;
    }
    let span = progress(format!("{what} {whom} through {}", dialer.route()));
    let done = doing.instrument(span.clone()).await;
    if done.is_err() {
        failed(&span);
    }
    done
}

/// A failure of a network as that of a call. The message is what a guest may know: what it asked for, and not how names
/// are resolved, which rules there are, or what proxies say. The rest is the source.
pub(crate) fn of_network(error: NetworkError) -> CallError {
    let (kind, is_retryable) = (network_kind(&error), error.is_retryable());
    CallError::new(kind, network_message(&error, kind)).with_retryable(is_retryable).with_source(error)
}

fn network_message(error: &NetworkError, kind: ErrorKind) -> String {
    match (error, kind) {
        // The option is the caller's, and no rule of the network would let it.
        (NetworkError::Connect { to, source, .. }, _) if matches!(source.cause(), Cause::Egress(_)) => {
            format!("connecting to {to} is not allowed by `egress`")
        }
        (NetworkError::Lookup { name, source, .. }, _) if matches!(source.cause(), Cause::Egress(_)) => {
            format!("looking up {name} is not allowed by `egress`")
        }
        (NetworkError::Connect { to, route, .. }, ErrorKind::Denied) => {
            format!("connecting to {to} through {route} is not allowed")
        }
        (NetworkError::Lookup { name, route, .. }, ErrorKind::Denied) => {
            format!("looking up {name} through {route} is not allowed")
        }
        (
            NetworkError::Connect { .. }
            | NetworkError::Lookup { .. }
            | NetworkError::Listen { .. }
            | NetworkError::Bind { .. },
            _,
        ) => match limit_reached(error) {
            Some(limit) => format!("{error}: {limit}"),
            None if is_unrecorded(error) => {
                format!("{error}: it cannot be recorded in the audit log at the moment")
            }
            None if kind == ErrorKind::Exhausted => {
                format!("{error}: this program has as many files and connections open as it may have")
            }
            None => error.to_string(),
        },
        _ => "the network of this call is not available".to_owned(),
    }
}

/// A failure of a request as that of a call.
pub(crate) fn of_http(error: HttpError) -> CallError {
    let kind = match &error {
        HttpError::Network(error) => network_kind(error),
        HttpError::Url(_)
        | HttpError::Method { .. }
        | HttpError::InvalidHeader
        | HttpError::Credentials(_)
        | HttpError::ReservedHeader { .. }
        | HttpError::InvalidTrailer { .. }
        | HttpError::TooManyHeaders { .. }
        | HttpError::Encode(_)
        | HttpError::Secret(SecretError::HeaderGiven { .. } | SecretError::Trace { .. }) => {
            ErrorKind::Invalid
        }
        HttpError::RequestBody(error) => match error {
            BodyError::Read(_) => ErrorKind::Unavailable,
            BodyError::TooLarge { .. } => ErrorKind::Exhausted,
            _ => ErrorKind::Invalid,
        },
        HttpError::Secret(SecretError::NotFound { .. }) => ErrorKind::Unavailable,
        HttpError::Redirect { .. } | HttpError::Secret(_) => ErrorKind::Denied,
        HttpError::RequestTooLarge { .. }
        | HttpError::HostBusy { .. }
        | HttpError::HeadTooLarge { .. }
        | HttpError::TooManyResponseHeaders { .. }
        | HttpError::TrailersTooLarge { .. }
        | HttpError::BodyTooLarge { .. }
        | HttpError::DecoderMemory { .. }
        | HttpError::Events { source: EventError::TooLarge { .. }, .. }
        | HttpError::TooManyRedirects { .. } => ErrorKind::Exhausted,
        HttpError::TimedOut { .. }
        | HttpError::ConnectTimedOut { .. }
        | HttpError::AnswerTimedOut { .. }
        | HttpError::Stalled { .. } => ErrorKind::Deadline,
        _ => ErrorKind::Unavailable,
    };
    let message = match &error {
        HttpError::Network(error) => network_message(error, kind),
        // Where servers lead is not the guest's to change.
        HttpError::Redirect { to, source: RedirectError::Special, .. } => {
            format!("a redirect to {to} is not allowed")
        }
        HttpError::RequestBody(_) | HttpError::Events { .. } => with_causes(&error),
        // It is about what the guest gave, or about what an origin answered.
        error if matches!(kind, ErrorKind::Invalid | ErrorKind::Denied) => with_causes(error),
        error => error.to_string(),
    };
    let is_retryable = error.is_retryable();
    CallError::new(kind, message).with_retryable(is_retryable).with_source(error)
}

/// A failure of a WebSocket as that of a call.
pub(crate) fn of_websocket(error: WebSocketError) -> CallError {
    let error = match error {
        WebSocketError::Http(error) => return of_http(error),
        error => error,
    };
    let kind = match &error {
        WebSocketError::InvalidSubprotocol | WebSocketError::InvalidClose { .. } => ErrorKind::Invalid,
        WebSocketError::MessageTooLarge { .. }
        | WebSocketError::ReceivedTooLarge { .. }
        | WebSocketError::Flooded { .. } => ErrorKind::Exhausted,
        WebSocketError::PongTimedOut { .. } | WebSocketError::CloseTimedOut { .. } => ErrorKind::Deadline,
        _ => ErrorKind::Unavailable,
    };
    let message = match &error {
        // What an origin answered is the guest's to know.
        WebSocketError::Handshake { .. } | WebSocketError::Protocol { .. } => with_causes(&error),
        error => error.to_string(),
    };
    let is_retryable = error.is_retryable();
    CallError::new(kind, message).with_retryable(is_retryable).with_source(error)
}

fn network_kind(error: &NetworkError) -> ErrorKind {
    let cause = match error {
        NetworkError::NotSelectable { .. } => return ErrorKind::Denied,
        NetworkError::Connect { source, .. }
        | NetworkError::Listen { source, .. }
        | NetworkError::Bind { source, .. }
        | NetworkError::Lookup { source, .. } => source.cause(),
        _ => return ErrorKind::Unavailable,
    };
    match cause {
        Cause::Denied(_) | Cause::Egress(_) => ErrorKind::Denied,
        Cause::Limit(_) | Cause::Unrecorded(Unrecorded::Full | Unrecorded::TooFast { .. }) => {
            ErrorKind::Exhausted
        }
        Cause::Io(error) if is_out_of_descriptors(error) => ErrorKind::Exhausted,
        Cause::TimedOut { .. } => ErrorKind::Deadline,
        Cause::Via(error) => network_kind(error),
        _ => ErrorKind::Unavailable,
    }
}

/// Returns whether this process, or this host, has as many descriptors as it may have.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    #[cfg(unix)]
    let codes = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(rustix::io::Errno::raw_os_error);
    // `WSAEMFILE`.
    #[cfg(windows)]
    let codes = [10_024];
    #[cfg(not(any(unix, windows)))]
    let codes: [i32; 0] = [];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// The limit that an error is about, if it is about one.
fn limit_reached<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a LimitReached> {
    causes(error).find_map(|cause| match cause {
        Cause::Limit(limit) => Some(limit),
        _ => None,
    })
}

/// Whether something was refused because it cannot be recorded.
fn is_unrecorded(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| matches!(cause, Cause::Unrecorded(_)))
}

/// The causes of an error that are those of networks.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a Cause> {
    std::iter::successors(Some(error), |&error| error.source()).filter_map(|error| error.downcast_ref())
}

/// An error with its causes. A transparent one says what its cause says.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    let mut texts: Vec<String> = chain.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use frame_net::{DriverError, DriverStep};

    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_program_that_is_out_of_descriptors_is_exhausted() {
        let of = |error: io::Error| {
            let source = DriverError::new(DriverStep::Connect, "192.0.2.1:80", Cause::Io(error));
            of_network(NetworkError::Connect {
                to: "192.0.2.1:80".parse().unwrap(),
                route: Route::Clearnet,
                source,
            })
        };
        for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE] {
            let error = of(errno.into());
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Exhausted, true));
            assert_eq!(
                error.message(),
                "no connection to 192.0.2.1:80 through clearnet: this program has as many files and connections open as \
                 it may have"
            );
        }
        assert_eq!(of(io::ErrorKind::ConnectionRefused.into()).kind(), ErrorKind::Unavailable);
    }
}
