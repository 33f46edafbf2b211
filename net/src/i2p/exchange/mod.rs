//! What is said on a socket of a bridge, without I/O.

use frame_registry::text;
use zeroize::Zeroizing;

use crate::i2p::config::SessionOptions;
use crate::i2p::destination::{Destination, PrivateKey};
use crate::i2p::error::{SamError, SamRefusal};
use crate::i2p::message::{self, Line, Message, Version};
use crate::i2p::{LocalDestination, SamCredentials};

/// The greeting, a request, and the answers to both: says what to send and what to make of what is received, and does
/// neither.
///
/// It never takes a byte that comes behind the last answer, which belongs to the other end of the connection, nor one
/// that comes before something is sent that it should answer. It does not matter in which pieces the answers arrive.
pub(super) struct Exchange<'a> {
    request: Request<'a>,
    /// Whether the greeting says who this is.
    has_credentials: bool,
    stage: Stage,
    version: Version,
    line: Line,
    /// What is to be sent before anything is received; empty once it was. There may be secrets in it.
    output: Zeroizing<Vec<u8>>,
    outcome: Option<Result<SamReply, SamError>>,
}

/// What is asked of a bridge on a socket of its own. Nothing in it can end a line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    /// A session, for as long as the socket is open.
    Session { id: &'a str, destination: &'a LocalDestination, options: &'a SessionOptions },
    /// A connection to `to`, a name or a destination.
    Connect { id: &'a str, to: &'a str, port: u16 },
    /// The next connection that somebody else makes.
    Accept { id: &'a str },
}

/// The stages of what is said on a socket of a SAM bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Both agree on a version.
    Greeting,
    /// A session is created.
    Session,
    /// A name is looked up.
    Lookup,
    /// A connection is made.
    Connect,
    /// The bridge is told to wait for a connection.
    Accept,
    /// A connection is waited for.
    Incoming,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action<'e> {
    /// Send all of this, then say so with [`Exchange::sent`].
    Send(&'e [u8]),
    /// Receive something, and hand it over with [`Exchange::receive`].
    Receive,
    /// Nothing: there is an [outcome](Exchange::into_outcome).
    Finish,
}

/// What a bridge answered.
#[derive(Debug, PartialEq)]
pub(super) enum SamReply {
    /// The session is there, with these keys.
    Session(PrivateKey),
    /// What follows is from the destination that was asked for.
    Connected,
    /// What follows is from this destination.
    Incoming(Incoming),
}

/// Who has connected, and to which port.
#[derive(Debug, PartialEq)]
pub(super) struct Incoming {
    pub(super) from: Destination,
    /// 0 if it says nothing about that.
    pub(super) from_port: u16,
    /// 0 for any, and if it says nothing about that.
    pub(super) to_port: u16,
}

/// What a request has at most beside the names, keys and options in it, in bytes.
const USUAL_LEN: usize = 256;

/// The longest message that is shown whole.
const MAX_MESSAGE: usize = 200;

impl<'a> Exchange<'a> {
    pub(super) fn new(request: Request<'a>, credentials: Option<&SamCredentials>) -> Self {
        let pairs = credentials.map(SamCredentials::pairs).unwrap_or_default();
        // What grows leaves copies behind that are not overwritten.
        let mut greeting = Zeroizing::new(String::with_capacity(USUAL_LEN + pairs.len()));
        let (min, max) = (Version::MIN.to_string(), Version::MAX.to_string());
        greeting.extend(["HELLO VERSION MIN=", &min, " MAX=", &max, &pairs, "\n"]);
        Self {
            request,
            has_credentials: credentials.is_some(),
            stage: Stage::Greeting,
            version: Version::MIN,
            line: Line::default(),
            output: Zeroizing::new(std::mem::take(&mut *greeting).into_bytes()),
            outcome: None,
        }
    }

    /// Where it stands, or where it failed.
    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    /// What is to be done next.
    pub(super) fn action(&self) -> Action<'_> {
        if self.outcome.is_some() {
            Action::Finish
        } else if self.output.is_empty() {
            Action::Receive
        } else {
            Action::Send(&self.output)
        }
    }

    /// What was to be sent has been.
    pub(super) fn sent(&mut self) {
        self.output = Zeroizing::default();
    }

    /// Takes what was received, up to the end of the last answer, and says how many bytes that was.
    pub(super) fn receive(&mut self, input: &[u8]) -> usize {
        let mut taken = 0;
        while self.action() == Action::Receive && taken < input.len() {
            let heard = match self.line.take(&input[taken..]) {
                Ok((len, line)) => {
                    taken += len;
                    line.map_or(Ok(()), |line| self.hear(&line))
                }
                Err(message::TooLong) => Err(SamError::LineTooLong { max: message::MAX_LEN }),
            };
            if let Err(error) = heard {
                self.outcome = Some(Err(error));
            }
        }
        taken
    }

    /// The same, where the request was made and is not needed any more.
    pub(super) fn detached(self) -> Exchange<'static> {
        let Self { has_credentials, stage, version, line, output, outcome, .. } = self;
        let request = Request::Accept { id: "" };
        Exchange { request, has_credentials, stage, version, line, output, outcome }
    }

    /// What came of it; none if it is not over.
    pub(super) fn into_outcome(self) -> Option<Result<SamReply, SamError>> {
        self.outcome
    }

    fn hear(&mut self, line: &[u8]) -> Result<(), SamError> {
        if let Some(pong) = pong(line) {
            self.output.extend(pong);
            return Ok(());
        }
        if self.stage == Stage::Incoming {
            return self.hear_incoming(line);
        }
        let answer = Message::parse(line)?;
        let expected = match self.stage {
            Stage::Greeting => "HELLO REPLY",
            Stage::Session => "SESSION STATUS",
            Stage::Lookup | Stage::Connect | Stage::Accept | Stage::Incoming => "STREAM STATUS",
        };
        match check(&answer, expected) {
            // There is no code of its own for credentials. Without any it is what it says: the router failed.
            Err(SamError::Refused { refusal: SamRefusal::I2pError, message })
                if self.stage == Stage::Greeting && self.has_credentials =>
            {
                return Err(SamError::GreetingRefused { message });
            }
            // Elsewhere the code has other meanings.
            Err(SamError::Refused { refusal: SamRefusal::InvalidKey, message })
                if self.stage == Stage::Session =>
            {
                return Err(SamError::PrivateKeyRefused { message });
            }
            checked => checked?,
        }
        match self.stage {
            Stage::Greeting => self.ask(&answer)?,
            Stage::Session => {
                let key = answer.get("DESTINATION")?;
                let key = key.ok_or(SamError::Malformed("there is no destination in it"))?;
                let key = PrivateKey::new(crate::Secret::new(key))?;
                let key = match self.request {
                    Request::Session { destination: LocalDestination::PrivateKey(asked), .. } => {
                        if asked.destination() != key.destination() {
                            return Err(SamError::OtherDestination);
                        }
                        asked.clone()
                    }
                    _ => key,
                };
                self.finish(SamReply::Session(key));
            }
            Stage::Accept => self.stage = Stage::Incoming,
            Stage::Lookup | Stage::Connect | Stage::Incoming => self.finish(SamReply::Connected),
        }
        Ok(())
    }

    /// The version is known, so the request can be made.
    fn ask(&mut self, greeting: &Message<'_>) -> Result<(), SamError> {
        let version = greeting.get("VERSION")?.unwrap_or_default();
        self.version = Version::parse(version)
            .ok_or_else(|| SamError::Version { version: text::excerpt(version, MAX_MESSAGE).into() })?;
        let mut request = Zeroizing::new(String::new());
        self.stage = match self.request {
            Request::Session { id, destination, options } => {
                let options = options.pairs();
                let (key, of_type) = match destination {
                    LocalDestination::Transient { signature_type } => {
                        ("TRANSIENT", format!(" SIGNATURE_TYPE={signature_type}"))
                    }
                    LocalDestination::PrivateKey(key) => (key.expose(), String::new()),
                };
                // What grows leaves copies behind that are not overwritten.
                request.reserve(USUAL_LEN + id.len() + key.len() + options.len());
                request.extend(["SESSION CREATE STYLE=STREAM ID=", id, " DESTINATION=", key, &of_type]);
                request.push_str(&options);
                Stage::Session
            }
            Request::Connect { id, to, port } => {
                request.extend(["STREAM CONNECT ID=", id, " DESTINATION=", to, " SILENT=false"]);
                if self.version >= Version::WITH_PORTS {
                    request.extend([" TO_PORT=", &port.to_string()]);
                }
                Stage::Connect
            }
            Request::Accept { id } => {
                request.extend(["STREAM ACCEPT ID=", id, " SILENT=false"]);
                Stage::Accept
            }
        };
        request.push('\n');
        self.output.extend(request.as_bytes());
        Ok(())
    }

    /// `$destination FROM_PORT=… TO_PORT=…`, or that there will be none.
    fn hear_incoming(&mut self, line: &[u8]) -> Result<(), SamError> {
        let line = std::str::from_utf8(line).map_err(|_| SamError::Malformed("it is not UTF-8"))?;
        let (first, rest) = message::word(line);
        if first == "STREAM" {
            let answer = Message::parse(line.as_bytes())?;
            check(&answer, "STREAM STATUS")?;
            return Err(SamError::Malformed("there is no destination in it"));
        }
        let pairs = Message::parse_pairs(rest)?;
        let port = |key: &str| match pairs.get(key)? {
            None => Ok(0),
            Some(port) => port.parse().map_err(|_| SamError::Malformed("a port is none")),
        };
        let (from_port, to_port) = (port("FROM_PORT")?, port("TO_PORT")?);
        self.finish(SamReply::Incoming(Incoming { from: first.parse()?, from_port, to_port }));
        Ok(())
    }

    fn finish(&mut self, answer: SamReply) {
        self.outcome = Some(Ok(answer));
    }
}

/// Refuses an answer to something else, and one of failure.
pub(super) fn check(answer: &Message<'_>, expected: &'static str) -> Result<(), SamError> {
    if answer.topic() != expected {
        return Err(SamError::unexpected(expected, answer.topic()));
    }
    let result = answer.get("RESULT")?.ok_or(SamError::Malformed("there is no result in it"))?;
    let Some(refusal) = SamRefusal::from_result(result) else { return Ok(()) };
    let message = answer.get("MESSAGE")?.filter(|message| !message.is_empty());
    Err(SamError::Refused {
        refusal,
        message: message.map(|message| text::excerpt(message, MAX_MESSAGE).into()),
    })
}

/// The answer to `line` if the bridge asks in it whether anybody is there.
pub(super) fn pong(line: &[u8]) -> Option<Vec<u8>> {
    let text = line.strip_prefix(b"PING")?;
    let is_ping = text.is_empty() || text.starts_with(b" ");
    is_ping.then(|| [b"PONG", text, b"\n"].concat())
}

#[cfg(test)]
mod tests;
