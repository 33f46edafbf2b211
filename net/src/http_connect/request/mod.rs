//! The client's side of CONNECT, without I/O.

use std::fmt;

use zeroize::Zeroizing;

use super::config::BasicCredentials;
use crate::endpoint::Endpoint;

/// Asks an HTTP proxy for a tunnel: says what to send, and what to make of what is received, and does neither.
///
/// A response of the class 2xx opens the tunnel with the blank line that ends its head. What follows belongs to the two
/// ends of the tunnel, whatever `Content-Length` or `Transfer-Encoding` say (RFC 9110, section 9.3.6), and is not taken
/// here. It may arrive together with the head: a server such as one of SSH speaks first. Whether the proxy has put it
/// there cannot be told, and need not be: the proxy carries every other byte of the tunnel as well. Who must not believe
/// the proxy speaks TLS with the server.
///
/// The head is read strictly: every line ends in CR and LF, and one that is folded, or longer altogether than
/// [`MAX_HEAD`](Self::MAX_HEAD), is refused. Interim responses (1xx) are skipped, up to
/// [`MAX_INTERIM`](Self::MAX_INTERIM) of them. Nothing that the proxy says is shown but its status.
pub(super) struct ConnectRequest {
    has_credentials: bool,
    /// What is to be sent before anything is received; empty once it was. The password may be in it.
    output: Zeroizing<Vec<u8>>,
    /// What has arrived of the head.
    head: Vec<u8>,
    /// How many interim responses were skipped.
    interim: usize,
    outcome: Option<Result<(), HttpConnectError>>,
}

/// The stages of a connection through an HTTP proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectStage {
    /// The proxy proves who it is, and both agree on keys.
    Tls,
    /// The client says where to connect to, the proxy has done so.
    Request,
}

/// What is to be done next for a [`ConnectRequest`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectAction<'a> {
    /// Send all of these bytes, then say so with [`ConnectRequest::sent`]. They may contain the password.
    Send(&'a [u8]),
    /// Receive something, and hand it over with [`ConnectRequest::receive`].
    Receive,
    /// Nothing: the tunnel is there, and all that follows belongs to its two ends.
    Open,
    /// Close the connection.
    Failed(HttpConnectError),
}

/// How the head of every response begins.
const BEGINNING: &[u8] = b"HTTP/1.";

/// How many header fields a head can have.
const MAX_FIELDS: usize = 64;

impl ConnectRequest {
    /// The longest that the head of a response can be, in bytes.
    const MAX_HEAD: usize = 16 * 1024;

    /// How many interim responses are skipped.
    const MAX_INTERIM: usize = 8;

    /// A request for a tunnel to `to`.
    pub(super) fn new(to: &Endpoint, credentials: Option<&BasicCredentials>) -> Self {
        let target = to.to_string();
        let encoded = credentials.map(BasicCredentials::encoded);
        let mut parts = vec!["CONNECT ", &target, " HTTP/1.1\r\nHost: ", &target, "\r\n"];
        if let Some(encoded) = &encoded {
            parts.extend(["Proxy-Authorization: Basic ", encoded.as_str(), "\r\n"]);
        }
        parts.push("\r\n");
        Self {
            has_credentials: credentials.is_some(),
            // Allocated in full: a buffer that grows leaves copies that are not overwritten.
            output: Zeroizing::new(parts.concat().into_bytes()),
            head: Vec::new(),
            interim: 0,
            outcome: None,
        }
    }

    /// What is to be done next.
    pub(super) fn action(&self) -> ConnectAction<'_> {
        match self.outcome {
            Some(Ok(())) => ConnectAction::Open,
            Some(Err(error)) => ConnectAction::Failed(error),
            None if self.output.is_empty() => ConnectAction::Receive,
            None => ConnectAction::Send(&self.output),
        }
    }

    /// What was to be sent has been.
    pub(super) fn sent(&mut self) {
        self.output = Zeroizing::default();
    }

    /// Takes what was received, up to the end of the head that is due or the first byte that is wrong, and says how many
    /// bytes that was. What comes before the request is sent is not listened to.
    pub(super) fn receive(&mut self, input: &[u8]) -> usize {
        let mut taken = 0;
        while let (ConnectAction::Receive, Some(&byte)) = (self.action(), input.get(taken)) {
            taken += 1;
            match self.take(byte) {
                Ok(false) => {}
                Ok(true) => self.outcome = Some(Ok(())),
                Err(error) => self.outcome = Some(Err(error)),
            }
        }
        taken
    }

    /// Takes the next byte of the head, and says whether the tunnel is open with it.
    fn take(&mut self, byte: u8) -> Result<bool, HttpConnectError> {
        let position = self.head.len();
        if BEGINNING.get(position).is_some_and(|&expected| expected != byte) {
            return Err(HttpConnectError::NotHttp { first: *self.head.first().unwrap_or(&byte) });
        }
        let is_after_cr = self.head.last() == Some(&b'\r');
        if is_after_cr != (byte == b'\n') {
            return Err(HttpConnectError::Malformed("a line does not end in CR and LF"));
        }
        if position == Self::MAX_HEAD {
            return Err(HttpConnectError::HeadTooLong);
        }
        self.head.push(byte);
        if !self.head.ends_with(b"\r\n\r\n") {
            return Ok(false);
        }
        let is_open = self.conclude()?;
        self.head.clear();
        Ok(is_open)
    }

    /// Reads a head that is whole.
    fn conclude(&mut self) -> Result<bool, HttpConnectError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&self.head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => {
                return Err(HttpConnectError::Malformed("the head ends too early"));
            }
            Err(error) => return Err(HttpConnectError::Malformed(problem(error))),
        }
        let status = response.code.ok_or(HttpConnectError::Malformed("there is no status in it"))?;
        match status {
            // The proxy switches protocols without having been asked to.
            101 => Err(HttpConnectError::Refused { status }),
            100..=199 if self.interim == Self::MAX_INTERIM => Err(HttpConnectError::TooManyInterim),
            100..=199 => {
                self.interim += 1;
                Ok(false)
            }
            200..=299 => Ok(true),
            407 if !asks_for_basic(response.headers) => Err(HttpConnectError::OtherAuthentication),
            407 if self.has_credentials => Err(HttpConnectError::CredentialsRefused),
            407 => Err(HttpConnectError::CredentialsRequired),
            status => Err(HttpConnectError::Refused { status }),
        }
    }
}

/// Whether the proxy takes basic authentication, or does not say what it takes.
fn asks_for_basic(fields: &[httparse::Header<'_>]) -> bool {
    let mut challenges =
        fields.iter().filter(|field| field.name.eq_ignore_ascii_case("proxy-authenticate")).peekable();
    challenges.peek().is_none()
        || challenges.any(|field| {
            // A scheme is a word of its own, at the beginning or after the comma that ends another challenge.
            let mut parts = field.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            parts.any(|part| {
                let scheme = part.split(|&byte| byte == b' ').next();
                scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"))
            })
        })
}

const fn problem(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "the name of a header field is none",
        httparse::Error::HeaderValue => "the value of a header field is none",
        httparse::Error::Status => "the status line is none",
        httparse::Error::TooManyHeaders => "there are more than 64 header fields in it",
        httparse::Error::Version => "it is not of the version 1.0 or 1.1",
        _ => "it cannot be read",
    }
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest").field("action", &self.action()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ConnectAction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(bytes) => write!(f, "Send(<{} bytes>)", bytes.len()),
            Self::Receive => f.write_str("Receive"),
            Self::Open => f.write_str("Open"),
            Self::Failed(error) => write!(f, "Failed({error:?})"),
        }
    }
}

/// An HTTP proxy refused, or does not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpConnectError {
    /// The answer does not begin as one of HTTP/1.
    #[error("the answer does not begin with `HTTP/1.`: this is no HTTP proxy{}", tls(*.first))]
    NotHttp {
        /// The first byte.
        first: u8,
    },
    /// The head of the answer cannot be read.
    #[error("the head of the proxy's answer cannot be read: {0}")]
    Malformed(&'static str),
    /// The head of the answer is longer than 16 KiB.
    #[error("the head of the proxy's answer has more than {} bytes", ConnectRequest::MAX_HEAD)]
    HeadTooLong,
    /// More than 8 interim responses came.
    #[error("the proxy sent more than {} interim responses", ConnectRequest::MAX_INTERIM)]
    TooManyInterim,
    /// The proxy asks who the client is, and no credentials are configured.
    #[error("the proxy asks for a user name and a password (status 407); set `credentials`")]
    CredentialsRequired,
    /// The proxy does not accept the credentials.
    #[error("the proxy refused the user name or the password (status 407)")]
    CredentialsRefused,
    /// The proxy asks for another kind of authentication.
    #[error("the proxy asks for a kind of authentication other than `Basic` (status 407)")]
    OtherAuthentication,
    /// The proxy does not make the connection.
    #[error("{} (status {status})", refused(*.status))]
    Refused {
        /// The status of its answer.
        status: u16,
    },
}

impl HttpConnectError {
    /// Whether the same request may be granted later with nobody changing the configuration. A proxy that breaks the
    /// protocol may be on its way up or down; one that refuses credentials means it.
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::NotHttp { .. } | Self::Malformed(_) | Self::HeadTooLong | Self::TooManyInterim => true,
            Self::CredentialsRequired | Self::CredentialsRefused | Self::OtherAuthentication => false,
            Self::Refused { status } => matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 506..=599),
        }
    }
}

/// What to do about an answer that is an alert of TLS.
const fn tls(first: u8) -> &'static str {
    if first == 0x15 { ", or one that expects TLS; set `tls = true`" } else { "" }
}

const fn refused(status: u16) -> &'static str {
    match status {
        300..=399 => "the proxy answered with a redirect, which is not followed",
        400 => "the proxy does not understand the request",
        401 | 404 | 405 | 501 => "the proxy refused as a web server that does not support CONNECT",
        403 => "the proxy's rules do not allow the connection",
        429 => "the proxy does not allow as many requests",
        500 => "the proxy failed",
        502 => "the proxy could not connect to the host",
        503 => "the proxy cannot connect at the moment",
        504 => "the host did not answer the proxy in time",
        505 => "the proxy does not support HTTP/1.1",
        _ => "the proxy refused",
    }
}

#[cfg(test)]
mod tests;
