//! Server-sent events, as the HTML standard has them: section 9.2, `text/event-stream`.

use std::fmt;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{HeaderValue, StatusCode, header};
use tokio::time::{Instant, sleep_until};

use super::client::HttpClient;
use super::error::HttpError;
use super::request::Request;
use super::response::Response;
use crate::dialer::Dialer;

/// How many bytes an event may have, unless the caller says otherwise.
const MAX_EVENT: usize = 1 << 20;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Its type: `message` unless the server says otherwise.
    pub event: String,
    /// Its data, with `\n` between the lines.
    pub data: String,
    /// The id that was last sent with it or before it. It is empty before the first.
    pub id: String,
}

/// Why a response is not, or no longer, a stream of events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Its status is another than 200.
    #[error("its status is {0}, and that of a stream of events is 200")]
    Status(StatusCode),
    /// It has another type.
    #[error("its `Content-Type` is not `text/event-stream`")]
    ContentType,
    /// An event, or a line of one, is too long.
    #[error("an event has more than {limit} bytes")]
    TooLarge {
        /// How many bytes it may have.
        limit: usize,
    },
}

/// The events of one response, from [`Response::events`]. A connection that ends is not made again: see [`EventSource`].
///
/// ```no_run
/// # use frame_net::http::{HttpClient, HttpError, Request};
/// # async fn read(client: HttpClient, dialer: frame_net::Dialer) -> Result<(), HttpError> {
/// let request = Request::get("https://example.com/events")?.streamed();
/// let mut events = client.send(&dialer, request).await?.events()?;
/// while let Some(event) = events.next().await? {
///     println!("{}: {}", event.event, event.data);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Events {
    response: Response,
    parser: EventParser,
    input: Bytes,
}

impl Events {
    pub(crate) fn new(response: Response) -> Result<Self, HttpError> {
        let peer = response.peer().clone();
        let refused = |source| Err(HttpError::Events { peer, source });
        if response.status() != StatusCode::OK {
            return refused(EventError::Status(response.status()));
        }
        let content_type =
            response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if !essence.eq_ignore_ascii_case(b"text/event-stream") {
            return refused(EventError::ContentType);
        }
        Ok(Self { response, parser: EventParser::new(MAX_EVENT), input: Bytes::new() })
    }

    /// With events of at most `bytes` bytes each, their lines included. 1 MiB unless given.
    #[must_use]
    pub fn with_max_event(mut self, bytes: usize) -> Self {
        self.parser.max = bytes;
        self
    }

    /// The response that they come from.
    pub const fn response(&self) -> &Response {
        &self.response
    }

    /// The next event, or nothing at the end of the body. An event that is cut off there is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next call gets the event.
    ///
    /// # Errors
    ///
    /// [`HttpError::Events`] if an event is too long, and those of [`Response::chunk`].
    pub async fn next(&mut self) -> Result<Option<Event>, HttpError> {
        loop {
            match self.parser.next(&mut self.input) {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(source) => {
                    return Err(HttpError::Events { peer: self.response.peer().clone(), source });
                }
            }
            // Comments and events without data are lines without an end.
            tokio::task::consume_budget().await;
            match self.response.chunk().await? {
                Some(input) => self.input = input,
                None => return Ok(None),
            }
        }
    }

    /// The id that the server last sent, which a later request can send back as `Last-Event-ID`. It is empty if there was
    /// none.
    pub fn last_event_id(&self) -> &str {
        &self.parser.last_id
    }

    /// How long the server wants clients to wait before they connect again, if it said so.
    pub const fn retry(&self) -> Option<Duration> {
        self.parser.retry
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("response", &self.response).finish_non_exhaustive()
    }
}

/// Reads lines, and events from them. It does no I/O.
#[derive(Debug)]
struct EventParser {
    max: usize,
    /// The line that is being read.
    line: Vec<u8>,
    /// Whether the last line ended with CR, so that an LF belongs to it.
    is_after_cr: bool,
    is_first_line: bool,
    event: String,
    data: String,
    /// The id buffer, which becomes the last id with the next event.
    id: String,
    last_id: String,
    retry: Option<Duration>,
}

impl EventParser {
    const fn new(max: usize) -> Self {
        Self {
            max,
            line: Vec::new(),
            is_after_cr: false,
            is_first_line: true,
            event: String::new(),
            data: String::new(),
            id: String::new(),
            last_id: String::new(),
            retry: None,
        }
    }

    /// The next event, or nothing if that needs further input. It uses up no more than it needs.
    fn next(&mut self, input: &mut Bytes) -> Result<Option<Event>, EventError> {
        while !input.is_empty() {
            if std::mem::take(&mut self.is_after_cr) && input[0] == b'\n' {
                input.advance(1);
                continue;
            }
            let end = input.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let part = &input[..end.unwrap_or(input.len())];
            if self.line.len() + part.len() + self.data.len() + self.event.len() > self.max {
                return Err(EventError::TooLarge { limit: self.max });
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else {
                input.clear();
                return Ok(None);
            };
            self.is_after_cr = input[end] == b'\r';
            input.advance(end + 1);
            if let Some(event) = self.end_line() {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn end_line(&mut self) -> Option<Event> {
        const BOM: &[u8] = "\u{feff}".as_bytes();
        let mut line = std::mem::take(&mut self.line);
        let mut text = &line[..];
        if std::mem::take(&mut self.is_first_line) {
            text = text.strip_prefix(BOM).unwrap_or(text);
        }
        let event = if text.is_empty() {
            self.dispatch()
        } else {
            let (field, value) = match text.iter().position(|byte| *byte == b':') {
                None => (text, &[][..]),
                Some(colon) => {
                    let value = &text[colon + 1..];
                    (&text[..colon], value.strip_prefix(b" ").unwrap_or(value))
                }
            };
            self.field(field, value);
            None
        };
        // The room of a long line is not kept for the short ones that follow it.
        if line.capacity() <= 4096 {
            line.clear();
            self.line = line;
        }
        event
    }

    fn field(&mut self, field: &[u8], value: &[u8]) {
        match field {
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                self.data.push_str(&String::from_utf8_lossy(value));
                self.data.push('\n');
            }
            b"id" if !value.contains(&0) => self.id = String::from_utf8_lossy(value).into_owned(),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                // So many digits that they do not fit are as good as for ever.
                let millis = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                self.retry = Some(Duration::from_millis(millis.unwrap_or(u64::MAX)));
            }
            // A comment has an empty name. Other fields are for clients that know them.
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.last_id.clone_from(&self.id);
        let mut data = std::mem::take(&mut self.data);
        let event = std::mem::take(&mut self.event);
        // Each line of data ends with a line feed. Without data there is no event.
        data.pop()?;
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(Event { event, data, id: self.last_id.clone() })
    }
}

/// Events of a URL, over as many connections as that takes. When one ends, another is made, whose `Last-Event-ID` tells the
/// server where to go on.
///
/// It ends when the server answers 204 or with something other than a stream of events, or after
/// [`max_failures`](Self::max_failures) in a row. It has no deadline of its own: [`next`](Self::next) is to be called within that of the frame.
///
/// ```no_run
/// # use frame_net::http::{EventSource, HttpClient, HttpError, Request};
/// # async fn read(client: HttpClient, dialer: frame_net::Dialer) -> Result<(), HttpError> {
/// let request = Request::get("https://example.com/events")?;
/// let mut source = EventSource::new(client, dialer, request)?.max_failures(5);
/// while let Some(event) = source.next().await? {
///     println!("{}: {}", event.event, event.data);
/// }
/// # Ok(())
/// # }
/// ```
pub struct EventSource {
    client: HttpClient,
    dialer: Dialer,
    request: Request,
    max_failures: u32,
    max_event: usize,
    connection: EventConnection,
    last_id: String,
    /// How long to wait before the next connection, unless that fails repeatedly.
    delay: Duration,
    /// How many connections in a row have brought no event.
    failures: u32,
}

enum EventConnection {
    /// To be made, and not before.
    Waiting(Instant),
    Open(Box<Events>),
    Ended,
}

impl EventSource {
    /// Events that `request` asks for through the network of `dialer`. It is given `Accept: text/event-stream` and
    /// `Cache-Control: no-store` unless it has its own, and it is [streamed](Request::streamed). A body of its own has to be
    /// bytes.
    ///
    /// # Errors
    ///
    /// [`HttpError::TooManyHeaders`] if there is no room for the headers.
    pub fn new(client: HttpClient, dialer: Dialer, request: Request) -> Result<Self, HttpError> {
        /// What browsers wait.
        const DELAY: Duration = Duration::from_secs(3);
        Ok(Self {
            client,
            dialer,
            request: request.for_events()?,
            max_failures: 3,
            max_event: MAX_EVENT,
            connection: EventConnection::Waiting(Instant::now()),
            last_id: String::new(),
            delay: DELAY,
            failures: 0,
        })
    }

    /// How many connections in a row may bring no event, before that is an error: 3 unless given. With 0 nothing is tried
    /// again, also after events.
    #[must_use]
    pub fn max_failures(self, times: u32) -> Self {
        Self { max_failures: times, ..self }
    }

    /// As [`Events::with_max_event`].
    #[must_use]
    pub fn max_event(self, bytes: usize) -> Self {
        Self { max_event: bytes, ..self }
    }

    /// The id that the server last sent.
    pub fn last_event_id(&self) -> &str {
        &self.last_id
    }

    /// Resumes after the event with this id, such as the last one of an earlier source.
    #[must_use]
    pub fn resume_after(self, id: impl Into<String>) -> Self {
        Self { last_id: id.into(), ..self }
    }

    /// The next event, or nothing if the server says that there are no more.
    ///
    /// Between connections it waits for the time that the server sets with `retry`, or 3 seconds: at least 100 milliseconds and at
    /// most 5 minutes. The wait doubles after each connection in a row that brought no event.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event. A connection that was being made is closed, and made anew.
    ///
    /// # Errors
    ///
    /// Those of [`HttpClient::send`], [`Response::events`] and [`Events::next`] that another attempt cannot help with, or
    /// after [`max_failures`](Self::max_failures). Further calls return nothing then.
    pub async fn next(&mut self) -> Result<Option<Event>, HttpError> {
        loop {
            let failed = match &mut self.connection {
                EventConnection::Ended => return Ok(None),
                EventConnection::Waiting(at) => {
                    sleep_until(*at).await;
                    match self.connect().await {
                        Ok(connection) => {
                            self.connection = connection;
                            continue;
                        }
                        Err(error) => Some(error),
                    }
                }
                EventConnection::Open(events) => {
                    let next = events.next().await;
                    self.last_id.clear();
                    self.last_id.push_str(events.last_event_id());
                    self.delay = events.retry().unwrap_or(self.delay);
                    match next {
                        Ok(Some(event)) => {
                            self.failures = 0;
                            return Ok(Some(event));
                        }
                        Ok(None) => None,
                        Err(error) => Some(error),
                    }
                }
            };
            self.wait_or_end(failed)?;
        }
    }

    async fn connect(&self) -> Result<EventConnection, HttpError> {
        const LAST_EVENT_ID: &str = "last-event-id";
        /// What servers take in a header.
        const MAX_ID: usize = 4096;
        let mut request = self.request.clone();
        if !self.last_id.is_empty()
            && self.last_id.len() <= MAX_ID
            && let Ok(id) = HeaderValue::from_bytes(self.last_id.as_bytes())
        {
            request = request.header(LAST_EVENT_ID, id)?;
        }
        let response = self.client.send(&self.dialer, request).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(EventConnection::Ended);
        }
        let mut events = response.events()?.with_max_event(self.max_event);
        // A server that sends no further id means the same.
        events.parser.id.clone_from(&self.last_id);
        events.parser.last_id.clone_from(&self.last_id);
        Ok(EventConnection::Open(Box::new(events)))
    }

    /// After the end of a connection, or an attempt at one.
    fn wait_or_end(&mut self, failed: Option<HttpError>) -> Result<(), HttpError> {
        const SHORTEST: Duration = Duration::from_millis(100);
        const LONGEST: Duration = Duration::from_mins(5);
        self.connection = EventConnection::Ended;
        let is_hopeless = failed.as_ref().is_some_and(|error| !error.is_retryable());
        if is_hopeless || self.failures >= self.max_failures {
            return failed.map_or(Ok(()), Err);
        }
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures += 1;
        let delay = self.delay.max(SHORTEST).saturating_mul(factor).min(LONGEST);
        self.connection = EventConnection::Waiting(Instant::now() + delay);
        Ok(())
    }
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource").field("request", &self.request).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
