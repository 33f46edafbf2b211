//! What a client may do, and how much of it.

use std::fmt::Display;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::error::HttpError;
use crate::deadline;
use crate::tls::Trust;

/// The settings of an [`HttpClient`](super::HttpClient). In text they have the names of the fields, and durations
/// their units; whom to [`trust`](HttpConfig::trust) is set in code only.
///
/// ```
/// use frame_net::http::HttpConfig;
///
/// let config: HttpConfig = serde_json::from_str(r#"{ "time_limit": "500ms", "max_redirects": 3 }"#)?;
/// assert_eq!((config.time_limit.as_millis(), config.max_redirects), (500, 3));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HttpConfig {
    /// How long a request may take with everything that belongs to it: connections, redirects and the whole body of
    /// the response. 30 seconds unless given. What the network allows for a connection holds beside it.
    #[serde(deserialize_with = "deadline::from_text")]
    pub time_limit: Duration,
    /// How long each connection may take, TLS included: 15 seconds unless given. What the network allows for a connection
    /// holds beside it.
    #[serde(deserialize_with = "deadline::from_text")]
    pub connect_limit: Duration,
    /// How long each server may take from when there is a connection until the head of its response is there. There is no
    /// such limit unless given.
    #[serde(deserialize_with = "deadline::optional")]
    pub answer_limit: Option<Duration>,
    /// How many redirects are followed: 10 unless given. Where it is 0 a redirect is a response as any other.
    pub max_redirects: usize,
    /// Whether a redirect may lead from `https` to `http`. It may not unless given.
    pub allow_downgrade: bool,
    /// How many bytes the body of a request may have: 16 MiB unless given.
    pub max_request_body: u64,
    /// How many bytes the body of a response may have: 16 MiB unless given.
    pub max_response_body: u64,
    /// How many bytes the status line and the headers of a response may have: 64 KiB unless given, and at most
    /// 400 KiB.
    #[serde(deserialize_with = "max_response_head")]
    pub max_response_head: u32,
    /// How many headers a response may have over HTTP/1.1: 100 unless given, and at most 10 000.
    #[serde(deserialize_with = "max_response_headers")]
    pub max_response_headers: usize,
    /// How many connections are kept for later requests, those of all units, networks and isolation keys together. Unless
    /// given, a quarter of the [connections](crate::LimitsConfig::connections) that there may be. Beyond that one is
    /// closed that was used longest ago, of a unit that has more than its even share. Those that are kept count as
    /// connections, and are closed where there is no room for new ones. Where it is 0 none is kept.
    pub max_idle: Option<usize>,
    /// How many connections are kept for one host, of one unit, one network and one isolation key: 8 unless given.
    pub max_idle_per_host: usize,
    /// How long a connection is kept that nobody uses: 90 seconds unless given.
    #[serde(deserialize_with = "deadline::from_text")]
    pub idle_timeout: Duration,
    /// Whether HTTP/2 is offered to servers that speak TLS. It is unless given.
    pub http2: bool,
    /// Who may say which server is which.
    #[serde(skip)]
    pub trust: Trust,
}

/// Over HTTP/1.1 hyper reads little more than this before it gives up.
const MAX_RESPONSE_HEAD: u32 = 400 << 10;

/// For as many there is room before the first is read.
const MAX_RESPONSE_HEADERS: usize = 10_000;

impl HttpConfig {
    /// Code can set what text cannot.
    pub(super) fn check(&self) -> Result<(), HttpError> {
        if self.max_response_head > MAX_RESPONSE_HEAD {
            return Err(HttpError::Config { setting: "max_response_head", max: MAX_RESPONSE_HEAD.into() });
        }
        if self.max_response_headers > MAX_RESPONSE_HEADERS {
            let max = u64::try_from(MAX_RESPONSE_HEADERS).unwrap_or(u64::MAX);
            return Err(HttpError::Config { setting: "max_response_headers", max });
        }
        Ok(())
    }
}

fn max_response_head<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    at_most(MAX_RESPONSE_HEAD, u32::deserialize(deserializer)?)
}

fn max_response_headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    at_most(MAX_RESPONSE_HEADERS, usize::deserialize(deserializer)?)
}

fn at_most<T: Copy + Ord + Display, E: serde::de::Error>(max: T, value: T) -> Result<T, E> {
    if value > max {
        return Err(E::custom(format_args!("it can be at most {max}, and is {value}")));
    }
    Ok(value)
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            time_limit: Duration::from_secs(30),
            connect_limit: Duration::from_secs(15),
            answer_limit: None,
            max_redirects: 10,
            allow_downgrade: false,
            max_request_body: 16 << 20,
            max_response_body: 16 << 20,
            max_response_head: 64 << 10,
            max_response_headers: 100,
            max_idle: None,
            max_idle_per_host: 8,
            idle_timeout: Duration::from_secs(90),
            http2: true,
            trust: Trust::default(),
        }
    }
}
