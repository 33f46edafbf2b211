//! An HTTP client whose requests take the network of a frame.
//!
//! [`HttpClient::send`] takes the [`Dialer`](crate::Dialer) of a frame. There is no way to send without one.
//!
//! # What goes through which connection
//!
//! - Every request, and every redirect of it, goes through the dialer's network. Names are passed to the network and are not
//!   looked up here. A network that guards what may be reached guards redirects, too. Proxies from the environment
//!   (`HTTP_PROXY`, `ALL_PROXY` and similar variables) are ignored.
//! - A connection is reused only for the same network, the same [isolation key](crate::IsolationKey) and the same origin, in
//!   the same Tokio runtime. Through a network that [keeps connections apart](crate::Isolation::ByKey), each request without
//!   a key has a connection of its own. TLS sessions are never resumed: that would show the server that two connections
//!   belong together.
//! - If a network is replaced or unregistered, its idle connections are closed at once. Requests that are in flight are
//!   finished, and their connections are not used again.
//! - While the first connection to an origin is made that may speak HTTP/2, further requests that may share it wait for
//!   it. If the server speaks HTTP/1.1, each of them makes its own.
//! - If a response over HTTP/2 is late, or its caller stops waiting, the connection may be dead. It then finishes the
//!   requests that are in flight, and takes no others.
//!
//! # What is sent
//!
//! HTTP/1.1, or HTTP/2 if a TLS server accepts it; not HTTP/3. There are no cookies, no cache and no `Referer`.
//!
//! # Encodings
//!
//! Requests have an `Accept-Encoding` with `gzip`, `br` and `zstd`, the same in all of them. A body with one of these
//! encodings is decoded. As in the Fetch standard, the headers stay as they were sent: `Content-Encoding` and
//! `Content-Length` are those of the encoded body. A body with another encoding, or with several, is returned as it is. A
//! request with an `Accept-Encoding` or a `Range` of its own returns the bytes as the server sends them, see
//! [`Request::decode`]. A body that is cut off, damaged or followed by other bytes is an error. Limits count decoded bytes.
//! Each response has its own decoder.
//!
//! # Streams
//!
//! The body of a request can be a [stream](Body), and that of a response can be [read as one](Request::streamed). Little of
//! either is in memory: the buffers of hyper and of the connection, one piece, and the window of a decoder. Such a body has
//! no time limit as a whole, unless the request sets one, but it may not [stall](HttpConfig::stall_limit). A streamed
//! response has a [connection of its own](Request::own_connection) until it is read to its end or dropped, so that it does
//! not block others. That connection counts for its unit.
//!
//! # Default headers
//!
//! Beside the headers of a request, those [default headers](HttpConfig::headers) of the configuration are sent that apply to
//! its server and that the request does not have. None is sent where connections are kept apart, unless the header allows it.
//!
//! # Redirects
//!
//! Of 301, 302, 303, 307 and 308 with `Location`, at most [`HttpConfig::max_redirects`] are followed, to `http` and
//! `https` only, and not from `https` to `http`. A `GET` without body follows a `POST` that is answered with 301 or 302, and
//! any method but `HEAD` that is answered with 303. A streamed body is sent to the next server only while it can be [sent
//! again](Body). Secrets stay within an origin, see [`Request::header`] and [`Request::secret`]. So does a body, unless the
//! request [allows it](Request::forward_body).
//!
//! # Retries
//!
//! A request that the server has not processed is sent again, whatever its method is: the connection was closed before
//! it took the request, or over HTTP/2 the server said so, with `GOAWAY` or `REFUSED_STREAM`. A request of an idempotent
//! method (`GET`, `HEAD`, `OPTIONS`, `TRACE`, `PUT`, `DELETE`) is also sent again if a reused connection closes before one
//! byte of the response. Nothing else is sent again, and no streamed body of which more than 64 KiB were read. A request is
//! sent at most 8 times, within its time limits.
//!
//! # Limits
//!
//! [`HttpConfig`] limits the time for a request and for its steps, bodies, headers, idle connections, and connections to one
//! host, for which further requests queue. A request has at most 1 000 headers. At most 32 interim responses, such as 103,
//! may precede a response.

mod admission;
mod body;
mod client;
mod config;
mod connection;
mod connector;
mod decode;
mod error;
mod events;
pub(crate) mod headers;
mod hop;
pub mod multipart;
mod pool;
mod request;
mod response;
mod retry;
mod secret;
mod target;
mod tls;
#[cfg(feature = "websocket")]
pub mod websocket;
mod wire;

pub use bytes::Bytes;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
pub use rustls;
pub use url::Url;

pub use self::body::{Body, BodyError};
pub use self::client::HttpClient;
pub use self::config::{ClientCertificate, HttpConfig, Roots, TlsRule};
pub use self::error::{HttpError, JsonError, Peer, RedirectError, UrlError};
pub use self::events::{Event, EventError, EventSource, Events};
pub use self::headers::{CredentialsError, DefaultHeader};
pub use self::request::Request;
pub use self::response::Response;
pub use crate::tls::Trust;
