//! The errors of requests.

use std::fmt::{self, Display};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde_json::error::Category;

use super::body::BodyError;
use super::events::EventError;
use super::headers::CredentialsError;
use super::retry;
use crate::endpoint::{Endpoint, HostError};
use crate::error::NetworkError;
use crate::network::Route;
use crate::secrets::SecretError;
use crate::settings::SettingPath;
use crate::tls::is_of_rustls;

/// A request failed, or its response could not be read. No error means that another network was tried.
///
/// Messages name hosts and routes. They do not show paths, queries, headers or bodies, where secrets may be.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL is not valid for a request.
    #[error("the URL is not valid for a request")]
    Url(#[from] UrlError),
    /// Requests of this method are not made.
    #[error("a request cannot have the method {method}")]
    Method {
        /// The method.
        method: Method,
    },
    /// The name or value of a header is not valid.
    #[error("a header has an invalid name or value")]
    InvalidHeader,
    /// The client alone decides on this header.
    #[error("a request cannot be given the header `{name}`; the client sets it, or must not send it")]
    ReservedHeader {
        /// The header.
        name: HeaderName,
    },
    /// The body of the request has a trailer of a name that says how to read the body, or is needed before it.
    #[error("a body cannot have the trailer `{name}`; send it as a header")]
    InvalidTrailer {
        /// The name.
        name: HeaderName,
    },
    /// The request has as many headers as it may have.
    #[error("a request cannot have more than {limit} headers")]
    TooManyHeaders {
        /// How many headers it may have.
        limit: usize,
    },
    /// A default header is sensitive, and for all hosts.
    #[error(
        "the default header `{name}` is sensitive; it needs `hosts`, so that no script has it sent to a server of its own"
    )]
    SecretForAll {
        /// The header.
        name: HeaderName,
    },
    /// The request cannot carry the secret that it names, or the server has sent the secret back.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No header can carry the credentials.
    #[error("the credentials cannot be sent")]
    Credentials(#[from] CredentialsError),
    /// The system has no random bytes, of which the boundary of a multipart body and the key of a WebSocket are made.
    #[error("the system has no random bytes, which the request needs")]
    Random(#[source] Arc<io::Error>),
    /// What was to be the body cannot be written as JSON.
    #[error("the body cannot be written as JSON")]
    Encode(#[source] JsonError),
    /// The body of the request is longer than the configuration allows. Nothing was sent.
    #[error("the body of the request has more than {limit} bytes, the limit of `max_request_body`")]
    RequestTooLarge {
        /// How many bytes it may have.
        limit: u64,
    },
    /// The body of the request is a stream and could not be sent to its end. The server may have got a part of it.
    #[error("the body of the request could not be sent")]
    RequestBody(#[source] BodyError),
    /// The configuration allows more than can be.
    #[error("`{setting}` can be at most {max}")]
    Config {
        /// The name of the setting.
        setting: &'static str,
        /// The most that it can be.
        max: u64,
    },
    /// The configuration of TLS is not valid.
    #[error("the configuration of TLS is not valid")]
    TlsConfig(#[source] rustls::Error),
    /// A file that the settings of TLS name cannot be used.
    #[error("`{setting}`: {} cannot be used", path.display())]
    File {
        /// The setting.
        setting: SettingPath,
        /// The file.
        path: PathBuf,
        /// Why. It shows nothing of what is in the file.
        source: Arc<io::Error>,
    },
    /// The operating system has no root certificates, and the configuration asks for them.
    #[error("`{setting}` is \"system\", and the certificates of the system cannot be read")]
    SystemRoots {
        /// The setting.
        setting: SettingPath,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The network is missing, or failed to connect.
    #[error(transparent)]
    Network(Arc<NetworkError>),
    /// The server did not prove its identity.
    #[error("no TLS with {peer}")]
    Tls {
        /// The server.
        peer: Peer,
        /// Why. Where certificates are to blame there is an [`rustls::Error`] in it.
        source: Arc<io::Error>,
    },
    /// A connection was made, and the server shows the certificate of an authority as its own.
    #[error(
        "no TLS with {peer}: it shows the certificate of an authority (`CA:TRUE`) as its own, which no server may have; \
         issue a certificate for the server and keep this one in `ca_files`, or make it again with \
         `basicConstraints = CA:FALSE`"
    )]
    AuthorityAsServer {
        /// The server.
        peer: Peer,
        /// What rustls says.
        error: Arc<io::Error>,
    },
    /// A connection was made, and no trusted authority issued the certificate of the server.
    #[error("no TLS with {peer}: the issuer of the certificate is not trusted; add it to `ca_files`")]
    UntrustedIssuer {
        /// The server.
        peer: Peer,
        /// What rustls says.
        error: Arc<io::Error>,
    },
    /// The connection broke before the response was whole. Whether the server got the request is not known.
    #[error("the connection to {peer} broke before the response was whole")]
    Broken {
        /// The server.
        peer: Peer,
        /// How, the first time that it is reported.
        source: Option<Arc<hyper::Error>>,
    },
    /// Each connection that was made for the request ended, or had something arrive on it, before the request was sent.
    #[error("the request was not sent to {peer}: none of {attempts} connections could carry it")]
    Unsent {
        /// The server.
        peer: Peer,
        /// How many connections were tried.
        attempts: u32,
        /// How the last of them failed.
        source: Arc<hyper::Error>,
    },
    /// The server did not process the request, as it said, however often it was sent.
    #[error("{peer} did not process the request, which was sent {attempts} times")]
    Unprocessed {
        /// The server.
        peer: Peer,
        /// How often the request was sent.
        attempts: u32,
        /// How the last attempt failed.
        source: Arc<hyper::Error>,
    },
    /// No connection to the host became free in time.
    #[error(
        "no connection to {peer} became free in time: there are {limit}, the limit of `max_connections_per_host`"
    )]
    HostBusy {
        /// The server.
        peer: Peer,
        /// How many connections there may be.
        limit: usize,
    },
    /// What the server sent is not HTTP.
    #[error("{peer} breaks the protocol")]
    Protocol {
        /// The server.
        peer: Peer,
        /// How.
        source: Arc<hyper::Error>,
    },
    /// The head of the response is longer than [`HttpConfig::max_response_head`](super::HttpConfig::max_response_head)
    /// allows.
    #[error(
        "the head of the response from {peer} has more than {limit} bytes, the limit of `max_response_head`"
    )]
    HeadTooLarge {
        /// The server.
        peer: Peer,
        /// How many bytes the head may have.
        limit: u32,
    },
    /// The response has more headers than
    /// [`HttpConfig::max_response_headers`](super::HttpConfig::max_response_headers) allows.
    #[error("the response from {peer} has more than {limit} headers, the limit of `max_response_headers`")]
    TooManyResponseHeaders {
        /// The server.
        peer: Peer,
        /// How many headers a response may have.
        limit: usize,
    },
    /// The trailers of the response are longer than
    /// [`HttpConfig::max_response_head`](super::HttpConfig::max_response_head) allows, or more than
    /// [`HttpConfig::max_response_headers`](super::HttpConfig::max_response_headers).
    #[error("the trailers of the response from {peer} exceed {limit}, the limit of `{setting}`")]
    TrailersTooLarge {
        /// The server.
        peer: Peer,
        /// How many bytes or trailers there may be.
        limit: usize,
        /// The setting: `max_response_head` or `max_response_headers`.
        setting: &'static str,
    },
    /// Too many interim responses, such as 103, precede the response.
    #[error("{peer} sends more than {limit} interim responses")]
    TooManyInterim {
        /// The server.
        peer: Peer,
        /// How many interim responses may precede a response.
        limit: usize,
    },
    /// The body of the response is longer than what is allowed.
    #[error("the body of the response from {peer} has more than {limit} bytes, the limit of `{setting}`")]
    BodyTooLarge {
        /// The server.
        peer: Peer,
        /// How many bytes it may have, decoded.
        limit: u64,
        /// The setting of the limit, unless the request sets it: `max_response_body` or `max_streamed_body`.
        setting: &'static str,
    },
    /// The body of the response is not encoded as its `Content-Encoding` says, or ends early, or something follows it.
    #[error("the body of the response from {peer} is not valid {encoding}")]
    Encoding {
        /// The server.
        peer: Peer,
        /// The encoding.
        encoding: &'static str,
        /// What is wrong, the first time that it is reported.
        source: Option<Arc<io::Error>>,
    },
    /// Decoding what the unit receives would take more memory than
    /// [`HttpConfig::max_decoder_memory`](super::HttpConfig::max_decoder_memory) allows.
    #[error(
        "decoding the body of the response from {peer} needs more memory than is left of {limit} bytes, the limit of \
         `max_decoder_memory`"
    )]
    DecoderMemory {
        /// The server.
        peer: Peer,
        /// How many bytes the decoders of a unit may take together.
        limit: u64,
    },
    /// The response is not a stream of events.
    #[error("the response from {peer} is not a stream of events")]
    Events {
        /// The server.
        peer: Peer,
        /// Why not.
        source: EventError,
    },
    /// Of a body that is streamed nothing arrived, or nothing could be sent.
    #[error("nothing moved between here and {peer} for {limit:?}, the limit of `stall_limit`")]
    Stalled {
        /// The server.
        peer: Peer,
        /// How long nothing may move.
        limit: Duration,
    },
    /// The request took longer than allowed.
    #[error("the request to {peer} was not done within {limit:?}")]
    TimedOut {
        /// The server that was asked first, or the one whose body was read.
        peer: Peer,
        /// How long everything may take.
        limit: Duration,
    },
    /// There was no connection within what [`HttpConfig::connect_limit`](super::HttpConfig::connect_limit) allows, or that of
    /// the request.
    #[error("there was no connection to {peer} within {limit:?}")]
    ConnectTimedOut {
        /// The server.
        peer: Peer,
        /// How long the connection may take.
        limit: Duration,
    },
    /// There was no answer within what [`HttpConfig::answer_limit`](super::HttpConfig::answer_limit) allows, or that of the
    /// request.
    #[error("{peer} did not answer within {limit:?}")]
    AnswerTimedOut {
        /// The server.
        peer: Peer,
        /// How long the answer may take.
        limit: Duration,
    },
    /// There were more redirects than are followed.
    #[error("more than {limit} redirects, the limit of `max_redirects`; the last of them is from {peer}")]
    TooManyRedirects {
        /// Who sent the last of them.
        peer: Peer,
        /// How many are followed.
        limit: usize,
    },
    /// A redirect leads where none may lead.
    #[error("redirect from {peer} to {to} refused")]
    Redirect {
        /// Who redirects.
        peer: Peer,
        /// Where to: the scheme and the host, as far as there are any.
        to: String,
        /// Why not.
        source: RedirectError,
    },
    /// The body of the response is not UTF-8, and text was asked for.
    #[error("the body of the response from {peer} is not UTF-8")]
    NotUtf8 {
        /// The server.
        peer: Peer,
    },
    /// The body of the response is not the JSON that was asked for.
    #[error("the body of the response from {peer} is not the JSON that was expected")]
    Decode {
        /// The server.
        peer: Peer,
        /// Why.
        source: JsonError,
    },
}

impl HttpError {
    /// Returns whether the same request may succeed later with the same configuration. It may not be safe to send twice:
    /// the server may have received it the first time.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Network(error) => error.is_retryable(),
            Self::Tls { source, .. } => !is_of_rustls(source),
            Self::Broken { .. }
            | Self::Unsent { .. }
            | Self::Unprocessed { .. }
            | Self::HostBusy { .. }
            | Self::TimedOut { .. }
            | Self::ConnectTimedOut { .. }
            | Self::AnswerTimedOut { .. }
            | Self::DecoderMemory { .. }
            | Self::Stalled { .. } => true,
            _ => false,
        }
    }

    /// Returns the setting that the error is about, if the configuration is to blame: `ca_files[0]`, for example, or
    /// `tls[1].client_certificate.key`.
    pub fn setting(&self) -> Option<SettingPath> {
        match self {
            Self::Config { setting, .. } => Some((*setting).into()),
            Self::SecretForAll { name } => Some(SettingPath::from("headers").key(name.as_str())),
            Self::File { setting, .. } | Self::SystemRoots { setting, .. } => Some(setting.clone()),
            _ => None,
        }
    }

    /// What hyper reports of a connection to `peer`.
    pub(crate) fn of_connection(peer: &Peer, source: hyper::Error) -> Self {
        let peer = peer.clone();
        // Over HTTP/2 it is this side that resets what breaks the protocol.
        if source.is_parse() || retry::of_h2(&source).is_some_and(h2::Error::is_library) {
            Self::Protocol { peer, source: Arc::new(source) }
        } else {
            Self::Broken { peer, source: Some(Arc::new(source)) }
        }
    }
}

impl From<NetworkError> for HttpError {
    fn from(error: NetworkError) -> Self {
        Self::Network(Arc::new(error))
    }
}

/// A server, and the route to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The server.
    pub endpoint: Endpoint,
    /// The route of the connection.
    pub route: Route,
}

impl Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} through {}", self.endpoint, self.route)
    }
}

/// A URL is not valid for a request. The URL itself is not shown, because there may be secrets in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is not a valid URL.
    #[error(transparent)]
    Invalid(#[from] url::ParseError),
    /// Its scheme is not `http` or `https`.
    #[error("the scheme must be `http` or `https`")]
    Scheme,
    /// Its scheme is not `ws` or `wss`.
    #[error("the scheme must be `ws` or `wss`")]
    WebSocketScheme,
    /// There is a user name or a password in it.
    #[error("a URL cannot have a user name or a password in it; use the header `Authorization`")]
    Userinfo,
    /// It has no host.
    #[error("the host is missing")]
    NoHost,
    /// Its host is not valid.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Its port is zero.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// Its scheme is `https`, and its host has a name that no certificate can have.
    #[error("no certificate can have the name of the host, so that it can never be proven")]
    Certificate,
    /// It is longer than the URL of a request can be.
    #[error("the URL has more than {limit} bytes, the most that a request can carry")]
    TooLong {
        /// How many bytes it may have.
        limit: usize,
    },
    /// There is something in its path or query that no request line has room for.
    #[error("the path or the query cannot be sent")]
    Path,
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// No request can go there.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// It leads to a special address, such as a private one, or to `localhost`, and from neither. No rule of a network
    /// allows that.
    #[error("a public host may not redirect to a special address or `localhost`")]
    Special,
    /// It leads from `https` to `http`.
    #[error("`https` may not redirect to `http`; set `allow_downgrade` to follow such redirects")]
    Downgrade,
    /// It would send the body of the request to another origin.
    #[error("the body of a request goes to another origin only if the request allows it; set `forward_body`")]
    Body,
    /// It would send the body of the request again, which is a stream of which more was read than is kept.
    #[error("the body of the request is a stream, and was sent already; send it to where the redirect leads")]
    Streamed,
}

/// JSON could not be read or written. What was read or written is not shown, because there may be secrets in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    category: Category,
    line: usize,
    column: usize,
}

impl JsonError {
    /// What kind of error it is.
    pub const fn category(&self) -> Category {
        self.category
    }

    /// The line, counted from 1, or 0 where there is none.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The column, counted from 1, or 0 where there is none.
    pub const fn column(&self) -> usize {
        self.column
    }
}

/// Without the message, which quotes values.
impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self { category: error.classify(), line: error.line(), column: error.column() }
    }
}

impl Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.category {
            Category::Io => "it could not be read or written",
            Category::Syntax => "it is not valid JSON",
            Category::Data => "a value is not what it should be",
            Category::Eof => "it ends too early",
        })?;
        if self.line > 0 {
            write!(f, ", at line {} column {}", self.line, self.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for JsonError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_and_where_and_shows_no_value() {
        let error = |text: &str| JsonError::from(serde_json::from_str::<[u8; 2]>(text).unwrap_err());
        let cases = [
            ("[1,\n \"31337\"]", "a value is not what it should be, at line 2 column 8"),
            ("[1,", "it ends too early, at line 1 column 3"),
            ("[31337 31337]", "a value is not what it should be, at line 1 column 6"),
            ("31337x", "a value is not what it should be, at line 1 column 5"),
            ("[1, x]", "it is not valid JSON, at line 1 column 5"),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text).to_string(), expected, "{text}");
            assert!(!format!("{:?}", error(text)).contains("31337"), "{text}");
        }
        let error = serde_json::to_string(&std::collections::HashMap::from([([1], 1)])).unwrap_err();
        assert_eq!(JsonError::from(error).to_string(), "it is not valid JSON", "and has no place");
    }
}
