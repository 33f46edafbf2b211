//! The opening handshake: RFC 6455, section 4.

use data_encoding::BASE64;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Version, response};
use sha1::{Digest as _, Sha1};

use super::driver::Bounds;
use super::error::{HandshakeError, WebSocketError};
use super::request::WebSocketRequest;
use super::socket::WebSocket;
use crate::dialer::Dialer;
use crate::http::client::{HttpClient, Upgrade};
use crate::http::error::HttpError;

impl HttpClient {
    /// Connects to a WebSocket through the network of `dialer`.
    ///
    /// The connection is made for it alone, speaks HTTP/1.1, and counts for the dialer's unit as long as it is open. What
    /// the client's settings say of TLS, limits and certificates applies to it. Redirects are not followed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// [`WebSocketError::Http`] if there is no connection or no response, [`WebSocketError::Refused`] if the response is
    /// another than 101, and [`WebSocketError::Handshake`] if it is not the one of a WebSocket.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub async fn websocket(
        &self,
        dialer: &Dialer,
        request: WebSocketRequest,
    ) -> Result<WebSocket, WebSocketError> {
        let WebSocketRequest { mut request, subprotocols, limits } = request;
        let config = self.config().websocket;
        let key = Key::random()?;
        key.write(&mut request.hop.headers, &subprotocols)?;

        let Upgrade { peer, head, switched, secret } = self.upgrade(dialer, request).await?;
        let Some((stream, received)) = switched else {
            return Err(WebSocketError::Refused { peer, status: head.status });
        };
        let subprotocol = match key.check(&head, &subprotocols) {
            Ok(subprotocol) => subprotocol,
            Err(why) => return Err(WebSocketError::Handshake { peer, why }),
        };
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let max_message = size(limits.max_message.unwrap_or(config.max_message));
        let max_frame = limits.max_frame.or(config.max_frame).map_or(max_message, size);
        let bounds = Bounds {
            max_message,
            max_frame: max_frame.min(max_message),
            close_limit: config.close_limit,
            ping_interval: limits
                .ping_interval
                .or(config.ping_interval)
                .filter(|interval| !interval.is_zero()),
            pong_limit: limits.pong_limit.unwrap_or(config.pong_limit),
        };
        Ok(WebSocket::new(stream, &received, peer, bounds, head.headers, subprotocol, secret))
    }
}

/// What the server has to prove that it has read.
struct Key(String);

impl Key {
    fn random() -> Result<Self, HttpError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| HttpError::Random(error.into()))?;
        Ok(Self(BASE64.encode(&bytes)))
    }

    /// What follows from it.
    fn accept(&self) -> String {
        const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
        let hash = Sha1::new().chain_update(&self.0).chain_update(GUID);
        BASE64.encode(&hash.finalize())
    }

    /// Asks for a WebSocket, and offers these subprotocols.
    fn write(&self, headers: &mut HeaderMap, subprotocols: &[HeaderValue]) -> Result<(), HttpError> {
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).map_err(|_| HttpError::InvalidHeader);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(header::SEC_WEBSOCKET_KEY, value(self.0.as_bytes())?);
        if !subprotocols.is_empty() {
            // In one line: not all servers read several.
            let names: Vec<_> = subprotocols.iter().map(HeaderValue::as_bytes).collect();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value(&names.join(&b", "[..]))?);
        }
        Ok(())
    }

    /// Checks a response that switches protocols. Returns the subprotocol that the server selected.
    fn check(
        &self,
        head: &response::Parts,
        offered: &[HeaderValue],
    ) -> Result<Option<String>, HandshakeError> {
        let headers = &head.headers;
        let is = |name, expected: &str| {
            only(headers, &name).is_some_and(|value| value.eq_ignore_ascii_case(expected))
        };
        if head.version != Version::HTTP_11 {
            return Err(HandshakeError::Version);
        }
        if !is(header::UPGRADE, "websocket") {
            return Err(HandshakeError::Upgrade);
        }
        let mut connection =
            headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        if !connection.any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")))
        {
            return Err(HandshakeError::Connection);
        }
        if only(headers, &header::SEC_WEBSOCKET_ACCEPT) != Some(&self.accept()) {
            return Err(HandshakeError::Accept);
        }
        if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
            return Err(HandshakeError::Extension);
        }
        if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
            return Ok(None);
        }
        let selected = only(headers, &header::SEC_WEBSOCKET_PROTOCOL);
        let selected = selected.filter(|selected| offered.iter().any(|offered| offered == selected));
        selected.map(|selected| Some(selected.to_owned())).ok_or(HandshakeError::Subprotocol)
    }
}

/// The value of a header, of which there is one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    first.filter(|_| second.is_none())?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_follows_from_the_key_as_in_the_example_of_the_rfc() {
        let key = Key("dGhlIHNhbXBsZSBub25jZQ==".to_owned());
        assert_eq!(key.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
