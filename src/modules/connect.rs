//! The way out for what scripts and components ask for: every connection that a host module makes is made here.

use std::error::Error;
use std::fmt::Display;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use frame_dispatch::{CallError, Ctx, ErrorKind};
use frame_net::http::{HttpClient, HttpError, Request, Response};
use frame_net::{BoxStream, Cause, Dialer, Endpoint, HostName, IsolationKey, LimitReached, NetworkError};
use tracing::Instrument as _;

use crate::telemetry::progress;

/// The dialer of the frame of the call that runs. With `isolation` its connections are kept apart further, below the key
/// that the frame carries.
///
/// # Errors
///
/// If the network of the frame is not there, or `isolation` is no key.
pub(crate) fn dialer(ctx: &Ctx, isolation: Option<&str>) -> Result<Dialer, CallError> {
    let dialer = frame_net::dialer(ctx.frame(), ctx.app()).map_err(of_network)?;
    let Some(isolation) = isolation else { return Ok(dialer) };
    let invalid = |error: frame_net::IsolationKeyError| CallError::invalid(format!("`isolation`: {error}"));
    let key: IsolationKey = isolation.parse().map_err(invalid)?;
    dialer.isolated_within(&key).map_err(invalid)
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
    dialer: &Dialer,
    to: &Endpoint,
    timeout: Option<Duration>,
) -> Result<BoxStream, CallError> {
    let connecting = shown(dialer.connect(to), "connecting to", to, dialer);
    let connected = match timeout {
        None => connecting.await,
        Some(timeout) => tokio::time::timeout(timeout, connecting).await.map_err(|_| {
            let message = format!("no connection to {to} through {} within {timeout:?}", dialer.route());
            CallError::new(ErrorKind::Deadline, message).with_retryable(true)
        })?,
    };
    connected.map_err(of_network)
}

/// The addresses of `name`, as the network of the dialer sees them.
///
/// # Cancel safety
///
/// Dropping the future abandons the answer.
///
/// # Errors
///
/// As [`of_network`] has them.
pub(crate) async fn lookup(dialer: &Dialer, name: &HostName) -> Result<Vec<IpAddr>, CallError> {
    shown(dialer.lookup(name), "looking up", name.as_str(), dialer).await.map_err(of_network)
}

/// Makes a request.
///
/// # Cancel safety
///
/// As [`HttpClient::send`].
///
/// # Errors
///
/// As [`HttpClient::send`]; [`of_http`] makes them those of a call.
pub(crate) async fn send(
    client: &HttpClient,
    dialer: &Dialer,
    request: Request,
) -> Result<Response, HttpError> {
    let endpoint = request.endpoint().clone();
    shown(client.send(dialer, request), "asking", endpoint, dialer).await
}

/// How long something takes before somebody would ask what is going on: an overlay network may have tunnels to build first,
/// or wait for a session.
const LONG: Duration = Duration::from_secs(2);

/// Waits for what goes on through a network, which is shown once it takes long.
async fn shown<F: Future>(doing: F, what: &str, whom: impl Display, dialer: &Dialer) -> F::Output {
    let mut doing = pin!(doing);
    if let Ok(done) = tokio::time::timeout(LONG, &mut doing).await {
        return done;
    }
    let span = progress(format!("{what} {whom} through {}", dialer.route()));
    doing.instrument(span).await
}

/// A failure of a network as that of a call.
pub(crate) fn of_network(error: NetworkError) -> CallError {
    let (kind, is_retryable) = (network_kind(&error), error.is_retryable());
    failed(kind, is_retryable, error)
}

/// A failure of a request as that of a call.
pub(crate) fn of_http(error: HttpError) -> CallError {
    let kind = match &error {
        HttpError::Network(error) => network_kind(error),
        HttpError::Url(_)
        | HttpError::Method { .. }
        | HttpError::InvalidHeader
        | HttpError::ReservedHeader { .. }
        | HttpError::TooManyHeaders { .. }
        | HttpError::Encode(_) => ErrorKind::Invalid,
        HttpError::Redirect { .. } => ErrorKind::Denied,
        HttpError::RequestTooLarge { .. }
        | HttpError::BodyTooLarge { .. }
        | HttpError::TooManyRedirects { .. } => ErrorKind::Exhausted,
        HttpError::TimedOut { .. } => ErrorKind::Deadline,
        _ => ErrorKind::Unavailable,
    };
    let is_retryable = error.is_retryable();
    failed(kind, is_retryable, error)
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
        Cause::Denied(_) => ErrorKind::Denied,
        Cause::Limit(_) => ErrorKind::Exhausted,
        Cause::TimedOut { .. } => ErrorKind::Deadline,
        Cause::Via(error) => network_kind(error),
        _ => ErrorKind::Unavailable,
    }
}

/// What a caller can do something about is told with its causes; of all else the causes are for the log.
fn failed(kind: ErrorKind, is_retryable: bool, error: impl Error + Send + Sync + 'static) -> CallError {
    let message = match kind {
        ErrorKind::Denied | ErrorKind::Invalid => {
            let mut texts: Vec<String> = Vec::new();
            let mut next: Option<&(dyn Error + 'static)> = Some(&error);
            while let Some(error) = next {
                let text = error.to_string();
                // A transparent error says what its cause says.
                if texts.last() != Some(&text) {
                    texts.push(text);
                }
                next = error.source();
            }
            texts.join(": ")
        }
        ErrorKind::Exhausted => match limit_reached(&error) {
            Some(limit) => format!("{error}: {limit}"),
            None => error.to_string(),
        },
        _ => error.to_string(),
    };
    CallError::new(kind, message).with_retryable(is_retryable).with_source(error)
}

/// The limit that an error is about, if it is about one.
fn limit_reached<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a LimitReached> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Cause::Limit(limit)) = error.downcast_ref() {
            return Some(limit);
        }
        next = error.source();
    }
    None
}
