//! A function called over clearnet and through an overlay network, on real sockets.

mod origin;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use frame_dispatch::{CallError, Ctx, ErrorKind, FunctionId, Functions, Payload, Task};
use frame_net::socks5::{Refusal, Relay, Socks5, Socks5Config};
use frame_net::{DirectConfig, Endpoint, Host, NetConfig, dialer};
use frame_registry::{BoxError, Options};
use serde::Serialize;
use serde_json::{Value as Json, json};
use tokio::io::AsyncReadExt;

use self::origin::Origin;
use crate::app::{Booted, boot};
use crate::report;

/// Where the relay's connections come from, so that the origin can tell them from direct ones.
const RELAY_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// A name that only the relay knows.
const NAME: &str = "origin.demo:80";
/// How long a call may take; everything is on this machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the demonstration showed.
#[derive(Serialize)]
pub(crate) struct Seen {
    pub(crate) origin: SocketAddr,
    pub(crate) relay: SocketAddr,
    pub(crate) relay_source: IpAddr,
    pub(crate) calls: Vec<Call>,
}

/// What one call showed.
#[derive(Serialize)]
pub(crate) struct Call {
    pub(crate) what: &'static str,
    options: Json,
    /// The pairs of the function's frame; none if it did not start.
    frame: Option<String>,
    /// The ways on which the origin was reached: one a connection.
    paths: Vec<Path>,
    /// What the relay was asked for.
    relayed: Vec<String>,
    refused: Option<String>,
    #[serde(skip)]
    expected: Expected,
}

/// The way that traffic took, as the origin saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Path {
    Clearnet,
    Relay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Clearnet,
    Relay,
    Refused,
}

impl Call {
    /// Whether it took the way that was asked for, and no other.
    pub(crate) fn is_as_expected(&self) -> bool {
        let is_refused = self.refused.is_some();
        match self.expected {
            Expected::Clearnet => !is_refused && self.paths == [Path::Clearnet] && self.relayed.is_empty(),
            Expected::Relay => !is_refused && self.paths == [Path::Relay] && self.relayed.len() == 1,
            Expected::Refused => is_refused && self.paths.is_empty() && self.relayed.is_empty(),
        }
    }

    pub(crate) fn row(&self) -> Vec<String> {
        let paths = self.paths.iter().map(|path| match path {
            Path::Clearnet => "clearnet".to_owned(),
            Path::Relay => format!("relay, asked for {}", self.relayed.join(" and ")),
        });
        let path =
            if self.paths.is_empty() { "nothing".to_owned() } else { paths.collect::<Vec<_>>().join(", ") };
        let outcome =
            self.refused.as_ref().map_or_else(|| "answered".to_owned(), |why| format!("refused: {why}"));
        let frame = self.frame.clone().unwrap_or_else(|| "never sealed".to_owned());
        vec![self.what.to_owned(), self.options.to_string(), frame, path, outcome]
    }
}

/// Starts an origin and a relay, makes the calls, and says what was seen.
pub(crate) async fn run() -> Result<Seen, BoxError> {
    let origin = Origin::start().await?;
    let address = origin.address();
    let relay = Relay::bind((Ipv4Addr::LOCALHOST, 0)).await?.with_source(RELAY_SOURCE);
    let relay_address = relay.local_addr()?;

    // Everything here is on loopback, which is not for every call to reach.
    let clearnet = DirectConfig::default().with_allow(["127.0.0.1".parse()?]);
    let Booted { functions, networks } = boot(NetConfig::default().with_clearnet(clearnet))?;
    let config = Socks5Config::new(relay_address.try_into()?).with_deadline(PATIENCE);
    networks.register("demo:relay".parse()?, Arc::new(Socks5::new(config, &networks)))?;

    let asked: Arc<Mutex<Vec<Endpoint>>> = Arc::default();
    let asked_of_relay = Arc::clone(&asked);
    let relay = tokio::spawn(relay.serve(move |request| {
        asked_of_relay.lock().unwrap_or_else(PoisonError::into_inner).push(request.to.clone());
        match request.to.host() {
            Host::Name(name) if request.to.port() == 80 && name.as_str() == "origin.demo" => Ok(address),
            Host::Address(ip) if SocketAddr::new(*ip, request.to.port()) == address => Ok(address),
            _ => Err(Refusal::HostUnreachable),
        }
    }));

    let demo = Demo { functions, origin, asked };
    demo.register()?;
    let calls = demo.calls(address).await?;
    relay.abort();
    Ok(Seen { origin: address, relay: relay_address, relay_source: RELAY_SOURCE, calls })
}

struct Demo {
    functions: Functions,
    origin: Origin,
    asked: Arc<Mutex<Vec<Endpoint>>>,
}

impl Demo {
    fn register(&self) -> Result<(), BoxError> {
        self.functions.register("demo:fetch".parse()?, Options::new(), fetch)?;
        let fetch_of_another: FunctionId = "demo:fetch".parse()?;
        self.functions.register(
            "demo:outer".parse()?,
            Options::new(),
            move |ctx: Ctx, payload: Payload| {
                let task = Task::new(fetch_of_another.clone()).with_payload(payload);
                async move { ctx.call(task).await }
            },
        )?;
        Ok(())
    }

    async fn calls(&self, origin: SocketAddr) -> Result<Vec<Call>, BoxError> {
        let (fetch, outer) = ("demo:fetch", "demo:outer");
        let address = origin.to_string();
        let relay = || json!({ "network": "demo:relay" });
        Ok(vec![
            self.call("no option", fetch, &address, json!({}), Expected::Clearnet).await?,
            self.call("overlay by call option", fetch, &address, relay(), Expected::Relay).await?,
            self.call("overlay inherited by a nested call", outer, &address, relay(), Expected::Relay)
                .await?,
            self.call("a name that only the proxy knows", fetch, NAME, relay(), Expected::Relay).await?,
            self.call(
                "unknown overlay",
                fetch,
                &address,
                json!({ "network": "demo:tor" }),
                Expected::Refused,
            )
            .await?,
            self.call(
                "misspelt option",
                fetch,
                &address,
                json!({ "netwrok": "demo:relay" }),
                Expected::Refused,
            )
            .await?,
        ])
    }

    async fn call(
        &self,
        what: &'static str,
        function: &str,
        to: &str,
        options: Json,
        expected: Expected,
    ) -> Result<Call, BoxError> {
        let task = Task::new(function.parse()?).with_payload(json!(to));
        let called = match Options::from_json(&options) {
            Ok(options) => self
                .functions
                .root()
                .call(task.with_options(options))
                .await
                .map_err(|error| report::chain(&error)),
            Err(error) => Err(report::chain(&error)),
        };
        let path_of = |ip| if ip == RELAY_SOURCE { Path::Relay } else { Path::Clearnet };
        let paths = self.origin.take_peers().into_iter().map(path_of).collect();
        let asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        let relayed = asked.iter().map(ToString::to_string).collect();
        let frame = called.as_ref().ok().and_then(Payload::as_json).and_then(Json::as_str).map(str::to_owned);
        Ok(Call { what, options, frame, paths, relayed, refused: called.err(), expected })
    }
}

/// Connects to where its payload says, through the network of its frame, waits for the origin's answer, and gives
/// what the frame carried.
async fn fetch(ctx: Ctx, payload: Payload) -> Result<Payload, CallError> {
    let to: Endpoint = payload
        .as_json()
        .and_then(Json::as_str)
        .ok_or_else(|| CallError::invalid("the payload is where to connect to: write \"host:port\""))?
        .parse()
        .map_err(|error| CallError::invalid("the payload is not \"host:port\"").with_source(error))?;
    let unavailable = |error: BoxError| {
        CallError::new(ErrorKind::Unavailable, format!("no answer from {to}")).with_source(error)
    };
    let dialer = dialer(ctx.frame(), ctx.app()).map_err(|error| unavailable(error.into()))?;
    let mut stream = dialer.connect(&to).await.map_err(|error| unavailable(error.into()))?;
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.map_err(BoxError::from).and_then(|read| Ok(read?)).map_err(unavailable)?;
    let pairs: Vec<_> =
        ctx.frame().iter().map(|pair| format!("{}={:?}", pair.name(), pair.shown())).collect();
    Ok(Payload::from(json!(pairs.join(" "))))
}
