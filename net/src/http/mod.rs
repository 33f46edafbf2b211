//! An HTTP client whose requests take the network of a frame.
//!
//! [`HttpClient::send`] takes the [`Dialer`](crate::Dialer) of a frame, and there is no way to send without one.
//!
//! # What goes through which connection
//!
//! - Every request, and every redirect of it, goes through the dialer's network. A name goes to the network as it is
//!   and is not looked up here; where a network guards what may be reached, it guards redirects, too. Proxies that the
//!   environment names (`HTTP_PROXY`, `ALL_PROXY` and their like) are not looked at.
//! - A connection serves later requests of the same network, the same [isolation key](crate::IsolationKey) and the
//!   same origin, in the same Tokio runtime, and no others. Through a network that [keeps connections
//!   apart](crate::Isolation::ByKey), requests without a key have a connection each. TLS sessions are never resumed,
//!   since that shows the server that two connections belong together.
//! - When a network is replaced or unregistered the connections that wait are closed at once. Requests that are on
//!   their way are served to their end, and what they went over is not used again.
//! - While the first connection to an origin is made that may speak HTTP/2, further requests that may share it wait for
//!   it. If the server speaks HTTP/1.1 each of them makes its own.
//! - Where an answer over HTTP/2 is not there in time, or nobody waits for it any longer, the connection may be dead.
//!   It serves those requests that are on their way, and no others.
//!
//! # What is sent
//!
//! HTTP/1.1, or HTTP/2 where a TLS server takes it; not HTTP/3. There are no cookies, no cache and no `Referer`.
//!
//! # Encodings
//!
//! Requests have an `Accept-Encoding` with `gzip`, `br` and `zstd`, the same in all of them, and a body that is encoded so
//! is decoded. As in the Fetch standard the headers stay as they were sent, so that `Content-Encoding` and
//! `Content-Length` are those of the encoded body, and a body that is encoded in another way, or several times, is given as
//! it is. A request with an `Accept-Encoding` or a `Range` of its own gets the bytes as the server sends them, see
//! [`Request::decode`]. A body that is cut off, damaged or followed by anything is an error. Limits count decoded bytes.
//! Each response has a decoder of its own.
//!
//! # Streams
//!
//! The body of a request can be a [stream](Body), and that of a response can be [read as one](Request::streamed). Little of
//! either is in memory: what hyper and the connection buffer, one piece, and the window of a decoder. Such a body has no
//! limit of time for all of it, unless the request sets one, but may not [stall](HttpConfig::stall_limit). A response that
//! is read so has a [connection of its own](Request::own_connection), which it holds, and which counts for its unit, until
//! it is read to its end or dropped. So a body that is not read holds up no other.
//!
//! Beside the headers of a request, the [default headers](HttpConfig::headers) of the configuration are sent that are for its
//! server, and that it has not itself. None is sent where connections are kept apart, unless it says so.
//!
//! # Redirects
//!
//! Of 301, 302, 303, 307 and 308 with `Location`, at most [`HttpConfig::max_redirects`] are followed, to `http` and
//! `https` only, and not from `https` to `http`. Where a `POST` is answered with 301 or 302, and anything but a `HEAD`
//! with 303, a `GET` without body follows. A streamed body goes along only while it can be [sent again](Body). Secrets stay within an origin, see [`Request::header`] and [`Request::secret`], and so does a body unless
//! the request says otherwise, see [`Request::forward_body`].
//!
//! # What is tried again
//!
//! A request that the server has not processed is sent again, whatever its method is: the connection was closed before
//! it took the request, or over HTTP/2 the server said so, with `GOAWAY` or `REFUSED_STREAM`. A request of an idempotent
//! method (`GET`, `HEAD`, `OPTIONS`, `TRACE`, `PUT`, `DELETE`) is also sent again if a connection that had been used
//! before closes without one byte of the response. Nothing else is tried again, and no streamed body of which more than
//! 64 KiB were read. A request is sent at most 8 times, within its limits of time.
//!
//! # Limits
//!
//! [`HttpConfig`] limits the time for everything and for single steps, the bodies, the headers, the connections that wait,
//! and those to one host, for which further requests queue. A request has at most 1 000 headers, and a response is preceded by at most 32 interim responses such as 103.

mod body;
mod client;
mod config;
mod connection;
mod credentials;
mod decode;
mod default_headers;
mod error;
mod events;
mod fields;
mod gate;
pub(crate) mod header_names;
mod host_limit;
mod json;
pub mod multipart;
mod pool;
mod redirect;
mod request;
mod response;
mod retry;
mod secret;
mod target;
mod tls;
mod upload;
mod urlencoded;
#[cfg(feature = "websocket")]
pub mod websocket;
mod wire;

pub use bytes::Bytes;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
pub use rustls;
pub use url::Url;

pub use self::client::HttpClient;
pub use self::config::{ClientCertificate, HttpConfig, Roots, TlsRule};
pub use self::credentials::CredentialsError;
pub use self::default_headers::DefaultHeader;
pub use self::error::{HttpError, Peer, RedirectError, UrlError};
pub use self::events::{Event, EventError, EventSource, Events};
pub use self::json::JsonError;
pub use self::request::Request;
pub use self::response::Response;
pub use self::upload::{Body, BodyError};
pub use crate::tls::Trust;
