//! What is said on the socket: one line of JSON each way, without any I/O.
//!
//! ```json
//! {"version":1,"command":"ps"}
//! {"version":1,"running":{"app":"hello","manifest":"/srv/hello/app.toml","pid":4711,"uptime":3.5,"processes":[],"omitted":0,"down":[],"down_omitted":0,"quarantined":[],"degraded":null}}
//! ```
//!
//! An answer may have a member `error`, a text, in the place of what was asked for.

use serde::{Deserialize, Serialize};

use super::family::Supervised;
use crate::app::Quarantined;

/// The version that this program speaks. Members may be added to an answer without another version.
pub(crate) const VERSION: u32 = 1;
/// The longest request, in bytes, with the end of its line.
pub(crate) const MAX_REQUEST: usize = 4 << 10;
/// The longest answer, in bytes, with the end of its line.
pub(crate) const MAX_ANSWER: usize = 16 << 20;
/// How much of an answer is left for what is not processes.
const ENVELOPE: usize = 64 << 10;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// What runs.
    Ps,
}

/// Of a request or an answer what is looked at first: the rest may be other than here, in another version.
#[derive(Debug, Deserialize)]
struct Version {
    version: u32,
}

/// A request, as it is sent.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    version: u32,
    command: Command,
}

/// An answer, as it is sent.
#[derive(Debug, Serialize, Deserialize)]
struct ResponseMessage<P> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<RunInfo<P>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What `frame run` runs, with its processes as `P`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunInfo<P> {
    /// The name of the app.
    pub(crate) app: String,
    /// Its manifest.
    pub(crate) manifest: String,
    /// The PID of the run, as the operating system counts.
    pub(crate) pid: u32,
    /// How long it runs, in seconds.
    pub(crate) uptime: f64,
    /// The processes that live, the oldest first.
    pub(crate) processes: Vec<P>,
    /// How many processes are left out, because there are too many for an answer.
    pub(crate) omitted: usize,
    /// The children of supervisors that have no process: one that waits for its restart, was done, or is quarantined. A run of an
    /// earlier version does not tell.
    #[serde(default)]
    pub(crate) down: Vec<Supervised>,
    /// How many of these are left out.
    #[serde(default)]
    pub(crate) down_omitted: usize,
    /// The functions and processes whose calls are refused. A run of an earlier version has none.
    #[serde(default)]
    pub(crate) quarantined: Vec<Quarantined>,
    /// How the app is not what its manifest says, if so: a reload failed and was not undone. A run of an earlier version does
    /// not tell.
    #[serde(default)]
    pub(crate) degraded: Option<String>,
}

/// A process, as it is read from an answer: of `frame_dispatch::process::ProcessInfo` what a table shows.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub(crate) struct Process {
    pub(crate) pid: String,
    pub(crate) names: Vec<String>,
    pub(crate) entry: String,
    pub(crate) host: String,
    pub(crate) engine: String,
    pub(crate) state: String,
    pub(crate) mailbox: u64,
    pub(crate) frame: Vec<String>,
    pub(crate) parent: Option<String>,
    /// The process that ends this one with its own end. A run of an earlier version does not tell.
    #[serde(default)]
    pub(crate) owner: Option<String>,
    pub(crate) links: Vec<String>,
    pub(crate) monitors: Vec<String>,
    /// In seconds.
    pub(crate) uptime: f64,
    /// What its supervisor tells, if it is a child of one that answered in time.
    #[serde(default)]
    pub(crate) supervised: Option<Supervised>,
}

/// A request that is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("a request is at most {MAX_REQUEST} bytes long")]
    TooLong,
    #[error("a request is one line of JSON, such as {{\"version\":{VERSION},\"command\":\"ps\"}}: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(
        "this run speaks version {VERSION} of the protocol, and not version {0}; use the `frame` that it runs from"
    )]
    Version(u32),
}

/// An answer that says nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("its answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("it said nothing")]
    Nothing,
    #[error("its answer is not one of this protocol")]
    Malformed(#[from] serde_json::Error),
    #[error(
        "it speaks version {0} of the protocol, and this program version {VERSION}; use the `frame` that it runs from"
    )]
    Version(u32),
    #[error("it answers: {0}")]
    Refused(String),
}

/// The line that asks.
pub(crate) fn request(command: Command) -> Vec<u8> {
    line(&Request { version: VERSION, command })
}

/// Reads a request, of what came up to the end of the line or of the stream.
pub(crate) fn parse_request(text: &[u8]) -> Result<Command, RequestError> {
    if text.len() > MAX_REQUEST {
        return Err(RequestError::TooLong);
    }
    let Version { version } = serde_json::from_slice(text)?;
    if version != VERSION {
        return Err(RequestError::Version(version));
    }
    Ok(serde_json::from_slice::<Request>(text)?.command)
}

/// The line that answers with what runs, and with as many of its processes as there is room for.
pub(crate) fn answer<P: Serialize>(mut running: RunInfo<P>) -> Vec<u8> {
    let room = MAX_ANSWER.saturating_sub(ENVELOPE + length(&running.quarantined));
    running.down_omitted += cut(&mut running.down, room / 4);
    let room = room.saturating_sub(length(&running.down));
    running.omitted += cut(&mut running.processes, room);
    line(&ResponseMessage { version: VERSION, running: Some(running), error: None })
}

/// Keeps as many as there is room for, and returns how many that leaves out.
fn cut(parts: &mut Vec<impl Serialize>, room: usize) -> usize {
    let lengths = parts.iter().map(length);
    let ends = lengths.scan(0, |end, length| {
        *end += length + ",".len();
        Some(*end)
    });
    let kept = ends.take_while(|&end| end <= room).count();
    let omitted = parts.len() - kept;
    parts.truncate(kept);
    omitted
}

fn length(part: &impl Serialize) -> usize {
    serde_json::to_vec(part).map_or(MAX_ANSWER, |text| text.len())
}

/// The line that answers why there is nothing else.
pub(crate) fn refusal(error: &RequestError) -> Vec<u8> {
    line(&ResponseMessage::<()> { version: VERSION, running: None, error: Some(error.to_string()) })
}

/// Reads an answer, of what came up to the end of the line or of the stream.
pub(crate) fn parse_answer(text: &[u8]) -> Result<RunInfo<Process>, AnswerError> {
    match text.len() {
        0 => return Err(AnswerError::Nothing),
        length if length > MAX_ANSWER => return Err(AnswerError::TooLong),
        _ => (),
    }
    let Version { version } = serde_json::from_slice(text)?;
    if version != VERSION {
        return Err(AnswerError::Version(version));
    }
    match serde_json::from_slice(text)? {
        ResponseMessage { error: Some(error), .. } => Err(AnswerError::Refused(error)),
        ResponseMessage { running: Some(running), .. } => Ok(running),
        ResponseMessage { .. } => Err(AnswerError::Nothing),
    }
}

fn line(message: &impl Serialize) -> Vec<u8> {
    // Neither has a map whose keys are no text, nor a part that refuses to be text.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn process(number: usize) -> Process {
        Process {
            pid: format!("{{local@app:workers|{number:#07x}}}"),
            names: vec!["ticker".to_owned()],
            entry: "app:ticker".to_owned(),
            host: "app:workers".to_owned(),
            engine: "lua".to_owned(),
            state: "receiving".to_owned(),
            mailbox: 3,
            frame: vec!["net.overlay".to_owned()],
            parent: None,
            owner: None,
            supervised: None,
            links: Vec::new(),
            monitors: Vec::new(),
            uptime: 1.5,
        }
    }

    fn running(processes: Vec<Process>) -> RunInfo<Process> {
        let (app, manifest) = ("hello".to_owned(), "/srv/app.toml".to_owned());
        let (omitted, quarantined) = (0, Vec::new());
        let (down, down_omitted, degraded) = (Vec::new(), 0, None);
        RunInfo {
            app,
            manifest,
            pid: 4711,
            uptime: 2.5,
            processes,
            omitted,
            down,
            down_omitted,
            quarantined,
            degraded,
        }
    }

    #[test]
    fn what_is_asked_and_answered_is_what_arrives() {
        assert_eq!(parse_request(&request(Command::Ps)).unwrap(), Command::Ps);
        let arrived = parse_answer(&answer(running(vec![process(1), process(2)]))).unwrap();
        assert_eq!((arrived.app.as_str(), arrived.pid, arrived.omitted), ("hello", 4711, 0));
        assert_eq!(arrived.processes, [process(1), process(2)]);
    }

    #[test]
    fn each_side_says_which_version_it_speaks() {
        let error = parse_request(br#"{"version":2,"command":"restart"}"#).unwrap_err();
        assert!(matches!(error, RequestError::Version(2)), "{error}");
        let AnswerError::Refused(said) = parse_answer(&refusal(&error)).unwrap_err() else {
            panic!("no refusal")
        };
        assert!(said.contains("speaks version 1"), "{said}");
        assert!(matches!(parse_answer(br#"{"version":7}"#), Err(AnswerError::Version(7))));
    }

    #[test]
    fn an_unknown_command_is_refused_with_those_there_are() {
        let error = parse_request(br#"{"version":1,"command":"stop"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown variant `stop`") && error.contains("`ps`"), "{error}");
    }

    #[test]
    fn an_answer_leaves_out_what_there_is_no_room_for_and_says_how_much() {
        let mut large = process(1);
        large.names = vec!["n".repeat(1 << 20)];
        let text = answer(running(vec![large; 20]));
        assert!(text.len() <= MAX_ANSWER);
        let arrived = parse_answer(&text).unwrap();
        assert_eq!((arrived.processes.len(), arrived.omitted), (15, 5));
    }

    #[test]
    fn children_that_are_down_leave_room_for_processes() {
        let child = Supervised {
            supervisor: "app:main".to_owned(),
            id: "i".repeat(1 << 20),
            restart: "permanent".to_owned(),
            state: "waiting".to_owned(),
            restarts: 3,
            last_exit: None,
        };
        let mut large = process(1);
        large.names = vec!["n".repeat(1 << 20)];
        let mut running = running(vec![large; 20]);
        running.down = vec![child; 20];
        let arrived = parse_answer(&answer(running)).unwrap();
        assert_eq!((arrived.down.len(), arrived.down_omitted), (3, 17));
        assert_eq!((arrived.processes.len(), arrived.omitted), (12, 8));
    }

    proptest! {
        #[test]
        fn no_bytes_are_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse_request(&bytes);
            let _ = parse_answer(&bytes);
        }

        #[test]
        fn no_json_is_more_than_an_error(
            version in any::<u32>(),
            member in "[a-z]{0,8}",
            value in r#"(null|[0-9]{1,30}|"[^"\\\x00-\x1f]{0,20}"|\[{0,300})"#,
        ) {
            let text = format!(r#"{{"version":{version},"{member}":{value}}}"#);
            prop_assert_eq!(parse_request(text.as_bytes()).is_ok(), version == VERSION && text.contains(r#""command":"ps""#));
            prop_assert!(parse_answer(text.as_bytes()).is_err());
        }

        #[test]
        fn what_is_too_long_is_not_read(length in MAX_REQUEST + 1..2 * MAX_REQUEST) {
            prop_assert!(matches!(parse_request(&vec![b' '; length]), Err(RequestError::TooLong)));
        }
    }
}
