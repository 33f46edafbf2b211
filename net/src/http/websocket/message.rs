//! What WebSockets carry.

use std::fmt;

use bytes::Bytes;
use frame_registry::text;
use tungstenite::protocol::frame;

use super::error::WebSocketError;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl Message {
    /// Returns how many bytes it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Returns whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message of the protocol.
    pub(crate) fn into_protocol(self) -> tungstenite::Message {
        match self {
            Self::Text(text) => tungstenite::Message::Text(text.into()),
            Self::Binary(bytes) => tungstenite::Message::Binary(bytes),
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

/// Why a connection is closed: RFC 6455, section 7.4.
///
/// ```
/// use frame_net::http::websocket::CloseFrame;
///
/// let close = CloseFrame::new(4001, "logged out")?;
/// assert_eq!(close.to_string(), "4001 logged out");
/// assert!(CloseFrame::new(1005, "").is_err());
/// # Ok::<(), frame_net::http::websocket::WebSocketError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    code: u16,
    reason: String,
}

impl CloseFrame {
    /// A control frame has at most 125 bytes, of which the code takes two.
    const MAX_REASON: usize = 123;

    /// Creates a close frame with a code and a reason.
    ///
    /// # Errors
    ///
    /// [`WebSocketError::InvalidClose`] if the code is not one that may be sent (1000 to 1003, 1007 to 1013 and 3000 to 4999
    /// are), or if the reason has more than 123 bytes.
    pub fn new(code: u16, reason: impl Into<String>) -> Result<Self, WebSocketError> {
        let reason = reason.into();
        if !frame::coding::CloseCode::from(code).is_allowed() || reason.len() > Self::MAX_REASON {
            return Err(WebSocketError::InvalidClose { code });
        }
        Ok(Self { code, reason })
    }

    /// 1000: what the connection was for is done.
    pub const fn normal() -> Self {
        Self::of_code(1000)
    }

    pub(crate) const fn going_away() -> Self {
        Self::of_code(1001)
    }

    pub(crate) const fn of_code(code: u16) -> Self {
        Self { code, reason: String::new() }
    }

    /// The frame that the protocol received.
    pub(crate) fn of_protocol(close: &frame::CloseFrame) -> Self {
        Self { code: close.code.into(), reason: close.reason.as_str().to_owned() }
    }

    /// The frame of the protocol.
    pub(crate) fn into_protocol(self) -> frame::CloseFrame {
        frame::CloseFrame { code: self.code.into(), reason: self.reason.into() }
    }

    /// Returns the code.
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// Returns the reason, which may be empty.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the code says that a new connection may succeed later: 1001 (going away), 1012 (restart) and 1013 (try
    /// again later).
    pub(crate) const fn is_temporary(&self) -> bool {
        matches!(self.code, 1001 | 1012 | 1013)
    }
}

impl fmt::Display for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code.fmt(f)?;
        if !self.reason.is_empty() {
            write!(f, " {}", text::escape(&self.reason))?;
        }
        Ok(())
    }
}
