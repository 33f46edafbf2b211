//! What is answered.

use std::fmt;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Version};
use serde::de::DeserializeOwned;
use url::Url;

use super::body::ResponseBody;
use super::error::{HttpError, Peer};
use super::events::Events;
use crate::network::Route;

/// A response: its head, and its body, which may be on its way still.
///
/// It holds its connection until the body was read to its end. Dropping it before closes the connection; over HTTP/2 that
/// is the request's stream only, unless the connection is the request's own.
pub struct Response {
    pub(super) head: http::response::Parts,
    pub(super) url: Url,
    pub(super) redirects: usize,
    pub(super) body: ResponseBody,
}

impl Response {
    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The version of HTTP.
    pub const fn version(&self) -> Version {
        self.head.version
    }

    /// The headers, as they were sent: `Content-Encoding` and `Content-Length` are those of the encoded body, also if it
    /// is [decoded](Self::is_decoded).
    pub const fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The URL that was asked for in the end, after all redirects.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// How many redirects were followed.
    pub const fn redirects(&self) -> usize {
        self.redirects
    }

    /// What the request went through.
    pub const fn route(&self) -> &Route {
        &self.body.peer().route
    }

    /// The server.
    pub(super) const fn peer(&self) -> &Peer {
        self.body.peer()
    }

    /// Whether the body is decoded as it is read: see [`Request::decode`](super::Request::decode).
    pub const fn is_decoded(&self) -> bool {
        self.body.is_decoded()
    }

    /// The events of the body, which is `text/event-stream`. The request for it is best [streamed](super::Request::streamed).
    ///
    /// # Errors
    ///
    /// [`HttpError::Events`] if the status is not 200 or the `Content-Type` is another.
    pub fn events(self) -> Result<Events, HttpError> {
        Events::new(self)
    }

    /// The next piece of the body, which is not empty, or nothing at its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next call gets it.
    ///
    /// # Errors
    ///
    /// [`HttpError::BodyTooLarge`] once there are more bytes than allowed, also where only the server says so;
    /// [`HttpError::TimedOut`], [`HttpError::Stalled`], [`HttpError::Broken`] and [`HttpError::Protocol`];
    /// [`HttpError::Encoding`] and [`HttpError::DecoderMemory`] where it is decoded. The connection is closed then, and every
    /// further call fails.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        self.body.chunk().await
    }

    /// The fields that came behind the body, if any did: there are none before the body is read to its end.
    pub const fn trailers(&self) -> Option<&HeaderMap> {
        self.body.trailers()
    }

    /// All of the body that was not read yet.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the response.
    ///
    /// # Errors
    ///
    /// As [`chunk`](Response::chunk).
    pub async fn bytes(mut self) -> Result<Bytes, HttpError> {
        self.collect().await
    }

    /// [`bytes`](Self::bytes), and the [trailers](Self::trailers).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the response.
    ///
    /// # Errors
    ///
    /// As [`chunk`](Response::chunk).
    pub async fn bytes_and_trailers(mut self) -> Result<(Bytes, Option<HeaderMap>), HttpError> {
        let bytes = self.collect().await?;
        Ok((bytes, self.body.take_trailers()))
    }

    async fn collect(&mut self) -> Result<Bytes, HttpError> {
        /// What a server says that it will send is no reason to have that much ready.
        const MOST_AT_ONCE: u64 = 64 << 10;

        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let further = self.body.at_least().min(MOST_AT_ONCE);
        let further = usize::try_from(further).unwrap_or(0);
        let mut bytes = BytesMut::with_capacity(first.len() + second.len() + further);
        bytes.extend_from_slice(&first);
        bytes.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// All of the body that was not read yet, which must be UTF-8, whatever `Content-Type` says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the response.
    ///
    /// # Errors
    ///
    /// [`HttpError::NotUtf8`], and those of [`chunk`](Response::chunk).
    pub async fn text(self) -> Result<String, HttpError> {
        let peer = self.body.peer().clone();
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.into()).map_err(|_| HttpError::NotUtf8 { peer })
    }

    /// All of the body that was not read yet, which must be JSON, whatever `Content-Type` says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the response.
    ///
    /// # Errors
    ///
    /// [`HttpError::Decode`], and those of [`chunk`](Response::chunk).
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, HttpError> {
        let peer = self.body.peer().clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| HttpError::Decode { peer, source: error.into() })
    }
}

/// Without the path, the query, the values of headers and the body, where secrets may be.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.head.headers.keys().collect();
        f.debug_struct("Response")
            .field("peer", &format_args!("{}", self.body.peer()))
            .field("status", &self.head.status)
            .field("version", &self.head.version)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}
