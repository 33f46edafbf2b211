//! `frame demo`.

#[allow(dead_code, reason = "the tests of `frame-net` share this file, and use more of it")]
mod relay;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use frame_dispatch::{Pid, Task};
use frame_net::socks5::Refusal;
use frame_net::{Endpoint, Host};
use frame_registry::{BoxError, Options};
use serde::Serialize;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use self::relay::Relay;
use super::Format;
use crate::app::RunningApp;
use crate::explain::{Explain, ExplainedFrame, PairMaker};
use crate::trace::TRACE_KEY;
use crate::{manifest, report, threads};

/// Runs the example `hello`, and shows what frames carried and which way traffic really took.
///
/// Scripts and a component are called over clearnet and through an overlay network, with files and a trace, and a process is
/// killed and started again. Everything is on this machine's loopback and in a temporary directory. Ends with the code 1 if
/// anything was not as promised.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// How to print what was seen.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl DemoArgs {
    pub(super) fn run(self) -> Result<(), BoxError> {
        let runtime = threads::runtime()?;
        let report = runtime.block_on(run_example())?;
        match self.format {
            Format::Json => report::print(&serde_json::to_string_pretty(&report)?)?,
            Format::Table => {
                let columns = report::columns().unwrap_or(COLUMNS).clamp(40, 100);
                report::print(&report.stanzas(columns.into()))?;
            }
        }
        let unexpected: Vec<_> =
            report.calls.iter().filter(|call| !call.is_as_expected()).map(|call| call.what).collect();
        if unexpected.is_empty() {
            return Ok(());
        }
        Err(format!("not as promised: {}", unexpected.join(", ")).into())
    }
}

/// Where the relay's connections come from, so that the origin can tell them from direct ones.
const RELAY_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// How long anything may take; all of it is on this machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The process that is killed.
const TICKER: &str = "ticker";

/// What the demonstration showed.
#[derive(Serialize)]
struct DemoReport {
    origin: SocketAddr,
    relay: SocketAddr,
    relay_source: IpAddr,
    calls: Vec<Call>,
    restart: Restart,
}

impl DemoReport {
    /// A stanza for each call, for people.
    fn stanzas(&self, columns: usize) -> String {
        let Self { origin, relay, relay_source, calls, restart } = self;
        let mut text = format!(
            "The app examples/hello, on this machine's loopback:\n  origin  {origin}\n  relay   {relay} (SOCKS5; it connects from {relay_source})\n"
        );
        for (number, call) in (1..).zip(calls) {
            text += &call.stanza(number, columns);
        }
        let Restart { name, killed, started } = restart;
        let restarted = format!("{killed} was killed, and its supervisor started {started}");
        let result = labelled("result", &restarted, columns);
        let kept = calls.iter().filter(|call| call.is_as_expected()).count();
        format!(
            "{text}\n    the process `{name}` of a supervisor\n{result}\n{kept} of {} as promised",
            calls.len()
        )
    }
}

/// The columns of a stanza where nothing says how many there are.
const COLUMNS: u16 = 80;

/// A line with a label, and what does not fit in lines below, indented.
fn labelled(label: &str, value: &str, columns: usize) -> String {
    let label = format!("    {:<9}", format!("{label}:"));
    let indent = " ".repeat(label.len());
    // Words such as ids and URLs stay whole.
    let options = textwrap::Options::new(columns)
        .initial_indent(&label)
        .subsequent_indent(&indent)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(&report::one_line(value), options) + "\n"
}

/// The words of a command, on as many lines as they need.
fn command(words: &[String], columns: usize) -> String {
    let (mut text, mut line) = (String::new(), "    $ frame call".to_owned());
    for word in words {
        // Room for the backslash that goes on.
        if line.len() + word.len() + " \\".len() < columns {
            line = format!("{line} {word}");
        } else {
            text = text + &line + " \\\n";
            line = format!("        {word}");
        }
    }
    text + &line + "\n"
}

/// What one call showed.
#[derive(Serialize)]
struct Call {
    what: &'static str,
    function: &'static str,
    #[serde(skip)]
    payload: Json,
    options: Json,
    /// What was decided for the function's frame; none if it did not start.
    frame: Option<String>,
    /// The same without the trace, unless the call is about that.
    #[serde(skip)]
    shown_frame: Option<String>,
    /// The ways on which the origin was reached: one a connection.
    paths: Vec<Path>,
    /// What the relay was asked for.
    relayed: Vec<String>,
    answer: Option<Json>,
    refused: Option<String>,
    #[serde(skip)]
    expected: Expected,
}

/// A process that was killed, and the one that its supervisor started in its place.
#[derive(Serialize)]
struct Restart {
    name: &'static str,
    killed: Pid,
    started: Pid,
}

/// The way that traffic took, as the origin saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Path {
    Clearnet,
    Relay,
}

impl Call {
    /// Whether what came of it is what should have, and nothing else.
    fn is_as_expected(&self) -> bool {
        let is_answered = self.answer.is_some();
        match self.expected {
            Expected::Clearnet => is_answered && self.paths == [Path::Clearnet] && self.relayed.is_empty(),
            Expected::Relay => is_answered && self.paths == [Path::Relay] && self.relayed.len() == 1,
            Expected::Answer(at, text) => {
                let part = self.answer.as_ref().and_then(|answer| answer.pointer(at)).and_then(Json::as_str);
                self.is_quiet() && part.is_some_and(|part| part.contains(text))
            }
            Expected::Refused(why) => {
                self.is_quiet() && self.refused.as_ref().is_some_and(|refused| refused.contains(why))
            }
        }
    }

    /// Whether nothing was reached.
    fn is_quiet(&self) -> bool {
        self.paths.is_empty() && self.relayed.is_empty()
    }

    /// What it shows, the command for it, which way the traffic went, and the result.
    fn stanza(&self, number: usize, columns: usize) -> String {
        let paths = self.paths.iter().map(|path| match path {
            Path::Clearnet => "clearnet".to_owned(),
            Path::Relay => format!("relay, asked for {}", self.relayed.join(" and ")),
        });
        let path =
            if self.paths.is_empty() { "nothing".to_owned() } else { paths.collect::<Vec<_>>().join(", ") };
        let answered = || self.answer.as_ref().map(ToString::to_string).unwrap_or_default();
        let outcome = self.refused.as_ref().map_or_else(answered, |why| format!("refused: {why}"));
        let mut words = vec![self.function.to_owned()];
        if !self.payload.is_null() {
            words.push(format!("'{}'", self.payload));
        }
        let options = self.options.as_object().into_iter().flatten();
        words.extend(options.map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("-o {name}={value}")
        }));
        let mut stanza = format!("\n{number:>2}. {}\n{}", self.what, command(&words, columns));
        if let Some(frame) = self.shown_frame.as_ref().filter(|frame| !frame.is_empty()) {
            stanza += &labelled("frame", frame, columns);
        }
        stanza += &labelled("reached", &path, columns);
        stanza += &labelled("result", &outcome, columns);
        if !self.is_as_expected() {
            stanza += "    NOT AS PROMISED\n";
        }
        stanza
    }
}

/// Starts an origin and a relay, runs the example, and says what was seen.
async fn run_example() -> Result<DemoReport, BoxError> {
    let origin = Origin::start().await?;
    let address = origin.address();
    let relay = Relay::bind((Ipv4Addr::LOCALHOST, 0)).await?.with_source(RELAY_SOURCE);
    let relay_address = relay.local_addr()?;
    let asked: Arc<Mutex<Vec<Endpoint>>> = Arc::default();
    let asked_of_relay = Arc::clone(&asked);
    let relay = tokio::spawn(relay.serve(move |request| {
        asked_of_relay.lock().unwrap_or_else(PoisonError::into_inner).push(request.to.clone());
        match request.to.host() {
            Host::Name(name) if request.to.port() == 80 && name.as_str() == NAME => Ok(address),
            Host::Address(ip) if SocketAddr::new(*ip, request.to.port()) == address => Ok(address),
            _ => Err(Refusal::HostUnreachable),
        }
    }));

    let files = Files::with_relay(relay_address)?;
    let app = RunningApp::boot(manifest::read(&files.manifest())?).await?;
    app.supervise().await?;
    let demo = Demo { app, origin, asked };
    let mut calls = Vec::new();
    for call in all_calls(address) {
        calls.push(demo.call(call).await?);
    }
    let restart = demo.kill().await?;
    let stopped = demo.app.stop(Instant::now() + PATIENCE).await;
    relay.abort();
    if !stopped.is_clean() {
        return Err(format!("it did not stop cleanly: {stopped}").into());
    }
    Ok(DemoReport { origin: address, relay: relay_address, relay_source: RELAY_SOURCE, calls, restart })
}

struct Demo {
    app: RunningApp,
    origin: Origin,
    asked: Arc<Mutex<Vec<Endpoint>>>,
}

impl Demo {
    async fn call(&self, call: DemoCall) -> Result<Call, BoxError> {
        let DemoCall { what, function, payload, options, expected } = call;
        let (called, frame) = match Options::from_json(&options) {
            Ok(options) => {
                let id = function.parse()?;
                let explain = Explain::start(self.app.functions(), &id, &Options::new())?;
                let called = self
                    .app
                    .root()
                    .call(Task::new(id).with_payload(payload.clone()).with_options(options))
                    .await;
                let frame = explain.finish().frames.into_iter().next().filter(ExplainedFrame::is_built);
                (called.map_err(|error| report::chain(&error)), frame)
            }
            Err(error) => (Err(report::chain(&error)), None),
        };
        let path_of = |ip| if ip == RELAY_SOURCE { Path::Relay } else { Path::Clearnet };
        let paths = self.origin.take_peers().into_iter().map(path_of).collect();
        let asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        let relayed = asked.iter().map(ToString::to_string).collect();
        let (answer, refused) = match called {
            Ok(answer) => (Some(answer.as_json().cloned().unwrap_or_default()), None),
            Err(refused) => (None, Some(refused)),
        };
        let is_of_trace = options.get("trace").is_some();
        let shown_frame =
            frame.as_ref().map(|frame| shown(frame, |key| is_of_trace || key != TRACE_KEY.name()));
        let frame = frame.map(|frame| shown(&frame, |_| true));
        Ok(Call {
            what,
            function,
            payload,
            options,
            frame,
            shown_frame,
            paths,
            relayed,
            answer,
            refused,
            expected,
        })
    }

    /// Kills the process that the example supervises, and waits for the one that comes in its place.
    async fn kill(&self) -> Result<Restart, BoxError> {
        let processes = self.app.processes();
        let killed = processes.whereis(TICKER).ok_or("the example's process does not run")?;
        processes.terminate(killed)?;
        let again = async {
            loop {
                match processes.whereis(TICKER) {
                    Some(pid) if pid != killed => return pid,
                    _ => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let started = timeout(PATIENCE, again).await.map_err(|_| "the process was not started again")?;
        Ok(Restart { name: TICKER, killed, started })
    }
}

/// The pairs of some keys that a frame was sealed with, but for those that every frame has of its unit.
fn shown(frame: &ExplainedFrame, is_shown: impl Fn(&str) -> bool) -> String {
    let pairs = frame.pairs.iter().filter(|pair| !pair.outdone && pair.by != PairMaker::Dispatcher);
    let pairs = pairs.filter(|pair| is_shown(pair.key));
    pairs.map(|pair| format!("{}={}", pair.key, pair.value)).collect::<Vec<_>>().join(" ")
}

/// A name that only the relay knows.
const NAME: &str = "origin.demo";

/// A trace that somebody else has begun.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A call, and what should come of it.
struct DemoCall {
    what: &'static str,
    function: &'static str,
    payload: Json,
    options: Json,
    expected: Expected,
}

/// What should come of a call.
#[derive(Clone, Copy)]
enum Expected {
    /// The origin was reached, and not through the relay.
    Clearnet,
    /// The origin was reached through the relay, and no other way.
    Relay,
    /// This part of the answer, by its JSON pointer, contains the text. The origin was not asked for.
    Answer(&'static str, &'static str),
    /// An error that says this, and nothing was reached.
    Refused(&'static str),
}

/// All of them, with the origin at this address.
fn all_calls(origin: SocketAddr) -> Vec<DemoCall> {
    let url = json!(format!("http://{origin}/"));
    let relay = json!({ "network": "hello:relay" });
    let step = |what, function, payload: &Json, options: &Json, expected| DemoCall {
        what,
        function,
        payload: payload.clone(),
        options: options.clone(),
        expected,
    };
    let none = json!({});
    let trace = json!({ "trace": format!("00-{TRACE}-00f067aa0ba902b7-01") });
    let by_name = json!(format!("http://{NAME}/"));
    let nowhere = json!({ "network": "hello:tor" });
    let misspelt = json!({ "netwrok": "hello:relay" });
    vec![
        step(
            "a script that calls a component",
            "hello:greet",
            &json!({ "name": "Ada" }),
            &none,
            Expected::Answer("/text", "HELLO, ADA"),
        ),
        step("no option", "hello:fetch-anyhow", &url, &none, Expected::Clearnet),
        step("overlay by call option", "hello:fetch-anyhow", &url, &relay, Expected::Relay),
        step("overlay preset for the function", "hello:fetch", &url, &none, Expected::Relay),
        step("overlay inherited by a nested call", "hello:ask", &url, &relay, Expected::Relay),
        step("a name that only the proxy knows", "hello:fetch", &by_name, &none, Expected::Relay),
        step("unknown overlay", "hello:fetch-anyhow", &url, &nowhere, Expected::Refused("hello:tor")),
        step("misspelt option", "hello:fetch-anyhow", &url, &misspelt, Expected::Refused("`network`")),
        step("a script that leaves its overlay", "hello:stray", &url, &relay, Expected::Refused("hello:lan")),
        step("a file below its root", "hello:report", &json!("seen"), &none, Expected::Answer("", "seen")),
        step(
            "the same file, read only",
            "hello:read",
            &json!("log.txt"),
            &none,
            Expected::Answer("", "seen"),
        ),
        step(
            "a file above its root",
            "hello:read",
            &json!("../../app.toml"),
            &none,
            Expected::Refused("app.toml"),
        ),
        step(
            "a trace that goes on",
            "hello:whoami",
            &Json::Null,
            &trace,
            Expected::Answer("/traceparent", TRACE),
        ),
    ]
}

/// A server on loopback that remembers who connected, and answers a request with it.
struct Origin {
    address: SocketAddr,
    peers: Arc<Mutex<Vec<IpAddr>>>,
    server: JoinHandle<io::Result<()>>,
}

impl Origin {
    async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let peers: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
        let seen = Arc::clone(&peers);
        let server = tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await?;
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(peer.ip());
                // Who went away does not want the answer.
                let _ = answer(stream, peer.ip()).await;
            }
        });
        Ok(Self { address, peers, server })
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who connected since this was last asked.
    fn take_peers(&self) -> Vec<IpAddr> {
        std::mem::take(&mut *self.peers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers one request, of HTTP/1.1 and without a body.
async fn answer(stream: TcpStream, peer: IpAddr) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let body = format!("hello, {peer}");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../examples/hello/", $name)))),*]
    };
}

/// What is beside the manifest.
const FILES: &[(&str, &[u8])] = files![
    "ask.lua",
    "fetch.lua",
    "greet.lua",
    "read.lua",
    "report.lua",
    "shout.wasm",
    "stray.lua",
    "ticker.lua",
    "whoami.lua",
];

const MANIFEST: &str = include_str!("../../../examples/hello/app.toml");

/// Where the manifest says that its relay is.
const RELAY: &str = "127.0.0.1:1080";

/// A copy of the example that is gone when this is dropped.
struct Files {
    directory: TempDir,
}

impl Files {
    /// A copy of the example, with the relay that there is.
    fn with_relay(relay: SocketAddr) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        for (name, bytes) in FILES {
            fs::write(directory.path().join(name), bytes)?;
        }
        fs::create_dir_all(directory.path().join("data/reports"))?;
        fs::write(directory.path().join("app.toml"), MANIFEST.replace(RELAY, &relay.to_string()))?;
        Ok(Self { directory })
    }

    fn manifest(&self) -> PathBuf {
        self.directory.path().join("app.toml")
    }
}
