//! The example `hello`, run on real sockets and files, and looked at from outside.

mod files;
mod origin;
mod steps;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use frame_dispatch::{Pid, Task};
use frame_net::socks5::{Refusal, Relay};
use frame_net::{Endpoint, Host};
use frame_registry::{BoxError, Options};
use serde::Serialize;
use serde_json::Value as Json;
use tokio::time::{Instant, sleep, timeout};

use self::files::Files;
use self::origin::Origin;
use self::steps::{Expected, NAME, Step};
use crate::app::RunningApp;
use crate::explain::{Explain, ExplainedFrame, Maker};
use crate::{manifest, report};

/// Where the relay's connections come from, so that the origin can tell them from direct ones.
const RELAY_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// How long anything may take; all of it is on this machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The process that is killed.
const TICKER: &str = "ticker";

/// What the demonstration showed.
#[derive(Serialize)]
pub(crate) struct Seen {
    pub(crate) origin: SocketAddr,
    pub(crate) relay: SocketAddr,
    pub(crate) relay_source: IpAddr,
    pub(crate) calls: Vec<Call>,
    pub(crate) restart: Restart,
}

/// What one call showed.
#[derive(Serialize)]
pub(crate) struct Call {
    pub(crate) what: &'static str,
    function: &'static str,
    options: Json,
    /// What was decided for the function's frame; none if it did not start.
    frame: Option<String>,
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
pub(crate) struct Restart {
    pub(crate) name: &'static str,
    pub(crate) killed: Pid,
    pub(crate) started: Pid,
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
    pub(crate) fn is_as_expected(&self) -> bool {
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

    pub(crate) fn row(&self) -> Vec<String> {
        let paths = self.paths.iter().map(|path| match path {
            Path::Clearnet => "clearnet".to_owned(),
            Path::Relay => format!("relay, asked for {}", self.relayed.join(" and ")),
        });
        let path =
            if self.paths.is_empty() { "nothing".to_owned() } else { paths.collect::<Vec<_>>().join(", ") };
        let answered = || self.answer.as_ref().map(ToString::to_string).unwrap_or_default();
        let outcome = self.refused.as_ref().map_or_else(answered, |why| format!("refused: {why}"));
        let frame = self.frame.clone().unwrap_or_else(|| "never sealed".to_owned());
        vec![self.what.to_owned(), self.function.to_owned(), self.options.to_string(), frame, path, outcome]
    }
}

/// Starts an origin and a relay, runs the example, and says what was seen.
pub(crate) async fn run() -> Result<Seen, BoxError> {
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
    for step in steps::all(address) {
        calls.push(demo.call(step).await?);
    }
    let restart = demo.kill().await?;
    let stopped = demo.app.stop(Instant::now() + PATIENCE).await;
    relay.abort();
    if !stopped.is_clean() {
        return Err(format!("it did not stop cleanly: {stopped}").into());
    }
    Ok(Seen { origin: address, relay: relay_address, relay_source: RELAY_SOURCE, calls, restart })
}

struct Demo {
    app: RunningApp,
    origin: Origin,
    asked: Arc<Mutex<Vec<Endpoint>>>,
}

impl Demo {
    async fn call(&self, step: Step) -> Result<Call, BoxError> {
        let Step { what, function, payload, options, expected } = step;
        let (called, frame) = match Options::from_json(&options) {
            Ok(options) => {
                let id = function.parse()?;
                let explain = Explain::start(self.app.functions(), &id, &Options::new())?;
                let called =
                    self.app.root().call(Task::new(id).with_payload(payload).with_options(options)).await;
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
        let frame = frame.map(|frame| shown(&frame));
        Ok(Call { what, function, options, frame, paths, relayed, answer, refused, expected })
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

/// The pairs that a frame was sealed with, but for those that every frame has of its unit.
fn shown(frame: &ExplainedFrame) -> String {
    let pairs = frame.pairs.iter().filter(|pair| !pair.outdone && pair.by != Maker::Dispatcher);
    pairs.map(|pair| format!("{}={}", pair.key, pair.value)).collect::<Vec<_>>().join(" ")
}
