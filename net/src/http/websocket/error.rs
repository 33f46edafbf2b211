//! Why there is no WebSocket, or none any longer.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tungstenite::error::{CapacityError, ProtocolError};

use super::message::CloseFrame;
use super::transport::Flooded;
use crate::http::error::{HttpError, Peer};
use crate::secrets::SecretId;

/// A connection could not be made, has failed, or is closed. None of these ever means that another network was tried.
///
/// What is shown names hosts and routes, and what servers say when they close. It does not show paths, queries, headers or
/// messages, where secrets may be.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// The request could not be made, or was not answered.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server answered the request as it would another one. Redirects are not followed.
    #[error("{peer} refused a WebSocket with status {status}{}", if status.is_redirection() { "; redirects are not followed" } else { "" })]
    Refused {
        /// The server.
        peer: Peer,
        /// The status of its response.
        status: StatusCode,
    },
    /// The server switched protocols, and not to the one that was asked for.
    #[error("{peer} does not complete the handshake of a WebSocket")]
    Handshake {
        /// The server.
        peer: Peer,
        /// What is wrong with its response.
        source: HandshakeError,
    },
    /// A subprotocol cannot be offered.
    #[error(
        "a subprotocol is a token of at most 255 letters, digits and !#$%&'*+-.^_`|~, each is offered once, and at most 32 are"
    )]
    InvalidSubprotocol,
    /// A connection cannot be closed with this code or reason.
    #[error(
        "a connection cannot be closed with {code} and this reason; use a code from 1000 to 1003, 1007 to 1013 or 3000 to \
         4999, and a reason of at most 123 bytes"
    )]
    InvalidClose {
        /// The code.
        code: u16,
    },
    /// The message that was to be sent has more bytes than are allowed. The connection is as it was.
    #[error("the message for {peer} has more than {limit} bytes, the limit of `max_message`")]
    MessageTooLarge {
        /// The server.
        peer: Peer,
        /// How many bytes it may have.
        limit: u64,
    },
    /// The server sent a message or a frame that has more bytes than are allowed. The connection is closed with 1009.
    #[error("{peer} sent more than {limit} bytes at once, the limit of `{setting}`")]
    ReceivedTooLarge {
        /// The server.
        peer: Peer,
        /// How many bytes there may be.
        limit: u64,
        /// The setting: `max_message` or `max_frame`.
        setting: &'static str,
    },
    /// The server sent more control frames or tiny fragments than the program has messages for: more than a thousand at once,
    /// or a hundred per second. The connection is closed with 1008.
    #[error("{peer} sent too many control frames or tiny fragments")]
    Flooded {
        /// The server.
        peer: Peer,
    },
    /// What the server sent is not as RFC 6455 has it. The connection is closed with 1002.
    #[error("{peer} breaks the protocol")]
    Protocol {
        /// The server.
        peer: Peer,
        /// How.
        source: Violation,
    },
    /// The server sent text, or a reason to close, that is not UTF-8. The connection is closed with 1007.
    #[error("{peer} sent text that is not UTF-8")]
    NotUtf8 {
        /// The server.
        peer: Peer,
    },
    /// The connection ended without a closing handshake.
    #[error("the connection to {peer} broke")]
    Broken {
        /// The server.
        peer: Peer,
        /// How.
        source: Arc<io::Error>,
    },
    /// Nothing was received within [`WebSocketConfig::pong_limit`](super::WebSocketConfig::pong_limit) of a ping. The
    /// connection is closed.
    #[error("{peer} did not answer a ping within {limit:?}")]
    PongTimedOut {
        /// The server.
        peer: Peer,
        /// How long it may take.
        limit: Duration,
    },
    /// The server did not answer within [`WebSocketConfig::close_limit`](super::WebSocketConfig::close_limit) that the
    /// connection is closed. It is closed now.
    #[error("{peer} did not confirm within {limit:?} that the connection is closed")]
    CloseTimedOut {
        /// The server.
        peer: Peer,
        /// How long it may take.
        limit: Duration,
    },
    /// The connection is closed, or being closed.
    #[error("the connection to {peer} is closed{}", frame.as_ref().map(|frame| format!(": {frame}")).unwrap_or_default())]
    Closed {
        /// The server.
        peer: Peer,
        /// What the server said to close it.
        frame: Option<CloseFrame>,
    },
}

impl WebSocketError {
    /// Whether a new connection may succeed later with the same configuration.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Refused { status, .. } => matches!(status.as_u16(), 408 | 425 | 429 | 502..=504),
            Self::Broken { .. } | Self::PongTimedOut { .. } | Self::CloseTimedOut { .. } => true,
            Self::Closed { frame, .. } => frame.as_ref().is_some_and(CloseFrame::is_temporary),
            _ => false,
        }
    }
}

/// What is wrong with the response of a server that switches protocols: RFC 6455, section 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It is not a response of HTTP/1.1.
    #[error("the response is not one of HTTP/1.1")]
    Version,
    /// `Upgrade` does not say `websocket`.
    #[error("the header `Upgrade` of the response is not `websocket`")]
    Upgrade,
    /// `Connection` does not say `Upgrade`.
    #[error("the header `Connection` of the response has no `Upgrade`")]
    Connection,
    /// `Sec-WebSocket-Accept` does not follow from the key, as if something else than this request were answered.
    #[error("the header `Sec-WebSocket-Accept` of the response does not follow from the request")]
    Accept,
    /// An extension was selected, and none was offered.
    #[error("the response has an extension, and none was offered")]
    Extension,
    /// A subprotocol was selected that was not offered.
    #[error("the response has a subprotocol that was not offered")]
    Subprotocol,
}

/// How a server breaks the protocol: RFC 6455, sections 5 and 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A reserved bit is set, and no extension was agreed on.
    #[error("a frame has a reserved bit set")]
    ReservedBit,
    /// A frame is masked, which only those of clients are.
    #[error("a frame is masked")]
    Masked,
    /// There is no such kind of frame.
    #[error("a frame has the unknown opcode {0}")]
    Opcode(u8),
    /// A frame that controls the connection is one of several.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A frame that controls the connection has more than 125 bytes.
    #[error("a control frame has more than 125 bytes")]
    LargeControl,
    /// A frame continues a message, but no message was begun.
    #[error("a frame continues a message that was not begun")]
    NoMessage,
    /// A message begins before the last one has ended.
    #[error("a message begins before the last one has ended")]
    UnfinishedMessage,
    /// A frame that closes the connection is not as it has to be.
    #[error("the close frame is not valid")]
    Close,
    /// A frame follows the one that closes the connection.
    #[error("a frame follows the close frame")]
    AfterClose,
}

/// Why a connection has failed.
#[derive(Debug, Clone)]
pub(crate) enum SocketFault {
    Broken(Arc<io::Error>),
    Violation(Violation),
    NotUtf8,
    TooLarge { limit: usize },
    Flooded,
    Echoed { id: SecretId },
    PongTimedOut { limit: Duration },
    CloseTimedOut { limit: Duration },
}

impl SocketFault {
    pub(crate) fn broken(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Broken(Arc::new(io::Error::new(io::ErrorKind::UnexpectedEof, error)))
    }

    /// The close code for the server: RFC 6455, section 7.4.1.
    pub(crate) const fn code(&self) -> Option<u16> {
        match self {
            Self::Violation(_) => Some(1002),
            Self::NotUtf8 => Some(1007),
            Self::Flooded | Self::Echoed { .. } => Some(1008),
            Self::TooLarge { .. } => Some(1009),
            // Nothing arrives there.
            Self::Broken(_) | Self::PongTimedOut { .. } | Self::CloseTimedOut { .. } => None,
        }
    }

    /// Converts an error of the protocol. An operation that has to wait is not an error, and does not come here.
    pub(crate) fn of(error: tungstenite::Error) -> Self {
        use tungstenite::Error as Reported;
        match error {
            Reported::Io(error) if error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<Flooded>) => {
                Self::Flooded
            }
            Reported::Io(error) => Self::Broken(Arc::new(error)),
            Reported::Utf8(_) => Self::NotUtf8,
            Reported::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
                Self::TooLarge { limit: max_size }
            }
            Reported::Protocol(error) => Self::of_protocol(&error),
            other => Self::broken(other.to_string()),
        }
    }

    fn of_protocol(error: &ProtocolError) -> Self {
        Self::Violation(match error {
            ProtocolError::NonZeroReservedBits => Violation::ReservedBit,
            ProtocolError::MaskedFrameFromServer => Violation::Masked,
            ProtocolError::InvalidOpcode(code)
            | ProtocolError::UnknownControlFrameType(code)
            | ProtocolError::UnknownDataFrameType(code) => Violation::Opcode(*code),
            ProtocolError::FragmentedControlFrame => Violation::FragmentedControl,
            ProtocolError::ControlFrameTooBig => Violation::LargeControl,
            ProtocolError::UnexpectedContinueFrame => Violation::NoMessage,
            ProtocolError::ExpectedFragment(_) => Violation::UnfinishedMessage,
            ProtocolError::InvalidCloseSequence => Violation::Close,
            ProtocolError::ReceivedAfterClosing => Violation::AfterClose,
            ProtocolError::ResetWithoutClosingHandshake => {
                return Self::broken("it ended without a close frame");
            }
            other => return Self::broken(other.to_string()),
        })
    }
}
