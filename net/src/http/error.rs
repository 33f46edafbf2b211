//! Why there is no response.

use std::fmt::{self, Display};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Method};

use super::credentials::CredentialsError;
use super::events::EventError;
use super::json::JsonError;
use super::retry;
use super::upload::BodyError;
use crate::endpoint::{Endpoint, HostError};
use crate::error::NetworkError;
use crate::network::Route;
use crate::secrets::SecretError;
use crate::settings::SettingPath;
use crate::tls::is_of_rustls;

/// A request could not be made, or its response could not be had. None of these ever means that another network was
/// tried.
///
/// What is shown names hosts and routes. It does not show paths, queries, headers or bodies, where secrets may be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No request can go to the URL.
    #[error("the URL is not one that a request can go to")]
    Url(#[from] UrlError),
    /// Requests of this method are not made.
    #[error("a request cannot have the method {method}")]
    Method {
        /// The method.
        method: Method,
    },
    /// A header has a name or a value that none has.
    #[error("a header has a name or a value that no header has")]
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
    Random(#[source] io::Error),
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
    /// The configuration of TLS makes no sense.
    #[error("TLS cannot be configured so")]
    TlsConfig(#[source] rustls::Error),
    /// A file that the settings of TLS name cannot be used.
    #[error("`{setting}`: {} cannot be used", path.display())]
    File {
        /// The setting.
        setting: SettingPath,
        /// The file.
        path: PathBuf,
        /// Why. It shows nothing of what is in the file.
        source: io::Error,
    },
    /// The operating system has no root certificates, and the configuration asks for them.
    #[error("`{setting}` is \"system\", and the certificates of the system cannot be read")]
    SystemRoots {
        /// The setting.
        setting: SettingPath,
        /// Why.
        source: io::Error,
    },
    /// The network is not there, or made no connection.
    #[error(transparent)]
    Network(Box<NetworkError>),
    /// A connection was made, and the server is not proven to be who it is to be.
    #[error("no TLS with {peer}")]
    Tls {
        /// The server.
        peer: Peer,
        /// Why. Where certificates are to blame there is an [`rustls::Error`] in it.
        source: io::Error,
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
        error: io::Error,
    },
    /// A connection was made, and no trusted authority issued the certificate of the server.
    #[error("no TLS with {peer}: the issuer of the certificate is not trusted; add it to `ca_files`")]
    UntrustedIssuer {
        /// The server.
        peer: Peer,
        /// What rustls says.
        error: io::Error,
    },
    /// The connection broke before the response was whole. Whether the server got the request is not known.
    #[error("the connection to {peer} broke before the response was whole")]
    Broken {
        /// The server.
        peer: Peer,
        /// How, the first time that it is reported.
        source: Option<hyper::Error>,
    },
    /// Each connection that was made for the request ended, or had something arrive on it, before the request was sent.
    #[error("the request was not sent to {peer}: none of {attempts} connections could carry it")]
    Unsent {
        /// The server.
        peer: Peer,
        /// How many connections were tried.
        attempts: u32,
        /// How the last of them failed.
        source: hyper::Error,
    },
    /// The server did not process the request, as it said, however often it was sent.
    #[error("{peer} did not process the request, which was sent {attempts} times")]
    Unprocessed {
        /// The server.
        peer: Peer,
        /// How often the request was sent.
        attempts: u32,
        /// How the last attempt failed.
        source: hyper::Error,
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
        source: hyper::Error,
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
        source: Option<io::Error>,
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
    /// The time for everything was over.
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
        #[source]
        why: RedirectError,
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
    /// Whether the same request may succeed later with nobody changing the configuration. Whether it may be made
    /// twice is another question: the server may have got it the first time.
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
    pub(super) fn of_connection(peer: &Peer, source: hyper::Error) -> Self {
        let peer = peer.clone();
        // Over HTTP/2 it is this side that resets what breaks the protocol.
        if source.is_parse() || retry::of_h2(&source).is_some_and(h2::Error::is_library) {
            Self::Protocol { peer, source }
        } else {
            Self::Broken { peer, source: Some(source) }
        }
    }
}

impl From<NetworkError> for HttpError {
    fn from(error: NetworkError) -> Self {
        Self::Network(Box::new(error))
    }
}

/// A server, and what is between it and us.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The server.
    pub endpoint: Endpoint,
    /// What the connection goes through.
    pub route: Route,
}

impl Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} through {}", self.endpoint, self.route)
    }
}

/// No request can go to a URL. The URL itself is not shown, because there may be secrets in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is none.
    #[error(transparent)]
    Invalid(#[from] url::ParseError),
    /// Its scheme is another.
    #[error("the scheme must be `http` or `https`")]
    Scheme,
    /// Its scheme is another, and a WebSocket was asked for.
    #[error("the scheme must be `ws` or `wss`")]
    WebSocketScheme,
    /// There is a user name or a password in it.
    #[error("a URL cannot have a user name or a password in it; use the header `Authorization`")]
    Userinfo,
    /// It has no host.
    #[error("the host is missing")]
    NoHost,
    /// Its host is none.
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
