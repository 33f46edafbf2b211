//! What is answered.

use std::fmt;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Version};
use serde::de::DeserializeOwned;
use url::Url;

use super::body::Body;
use super::error::HttpError;
use crate::dialer::Route;

/// A response: its head, and its body, which may be on its way still.
///
/// Dropping it before the body was read to its end closes the connection; over HTTP/2 that is the request's stream
/// only, unless the connection is the request's own.
pub struct Response {
    pub(super) head: http::response::Parts,
    pub(super) url: Url,
    pub(super) redirects: usize,
    pub(super) body: Body,
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

    /// The headers.
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

    /// The next piece of the body, which is not empty, or nothing at its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next call gets it.
    ///
    /// # Errors
    ///
    /// [`HttpError::BodyTooLarge`] once there are more bytes than allowed, also where only the server says so;
    /// [`HttpError::TimedOut`], [`HttpError::Broken`] and [`HttpError::Protocol`]. The connection is closed then, and
    /// every further call fails.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        self.body.chunk().await
    }

    /// The fields that came behind the body, if any did: there are none before the body is read to its end.
    pub const fn trailers(&self) -> Option<&HeaderMap> {
        self.body.trailers()
    }

    /// All of the body that was not read yet, as it was sent: if it is compressed it stays so.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the response.
    ///
    /// # Errors
    ///
    /// As [`chunk`](Response::chunk).
    pub async fn bytes(mut self) -> Result<Bytes, HttpError> {
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
