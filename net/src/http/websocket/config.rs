//! What a WebSocket may carry, and how its end is noticed.

use std::time::Duration;

use serde::Deserialize;

use crate::deadline;
use crate::http::config;

/// The settings of WebSockets, in [`HttpConfig::websocket`](crate::http::HttpConfig::websocket). All other settings of a
/// client apply to the handshake.
///
/// ```
/// use frame_net::http::HttpConfig;
///
/// let config: HttpConfig =
///     serde_json::from_str(r#"{ "websocket": { "max_message": "64KiB", "ping_interval": "30s" } }"#)?;
/// assert_eq!(config.websocket.max_message, 65_536);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct WebSocketConfig {
    /// The most bytes that a message may have, received or sent: 1 MiB unless set. A connection holds at most about three
    /// messages of this size in each direction.
    #[serde(deserialize_with = "config::size")]
    pub max_message: u64,
    /// The most bytes that a frame may have that is received. A message has one or more frames. Unless set, the limit is
    /// that of the message.
    #[serde(deserialize_with = "optional_size")]
    pub max_frame: Option<u64>,
    /// How long a closing handshake may take: 5 seconds unless set.
    #[serde(deserialize_with = "deadline::from_text")]
    pub close_limit: Duration,
    /// How often the server is pinged. It is not pinged unless this is set. Without pings, the end of a server that has
    /// crashed or become unreachable is noticed only when something is sent.
    #[serde(deserialize_with = "deadline::optional")]
    pub ping_interval: Option<Duration>,
    /// How long the server may take after a ping until anything is received: 20 seconds unless set.
    #[serde(deserialize_with = "deadline::from_text")]
    pub pong_limit: Duration,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            max_message: 1 << 20,
            max_frame: None,
            close_limit: Duration::from_secs(5),
            ping_interval: None,
            pong_limit: Duration::from_secs(20),
        }
    }
}

fn optional_size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    config::size(deserializer).map(Some)
}
