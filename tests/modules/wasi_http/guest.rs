//! The guest, and what it is asked and gives.
#![allow(dead_code, reason = "it is part of two test binaries, neither of which has a use for all of it")]

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use frame_dispatch::wasm::wasmtime::component::Linker;
use frame_dispatch::wasm::wasmtime::{self, StoreContextMut};
use frame_dispatch::wasm::{GuestState, HostModule, WasmConfig, WasmEngine, WasmEngineBuilder, WasmFunction};
use frame_dispatch::{CallError, Functions, Payload, Task};
use frame_net::NetworkRegistry;
use frame_net::http::HttpClient;
use frame_registry::{App, AppBuilder, FrameResolvers, Key, Options};
use frame_runtime::modules::wasm::HttpModule;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// What the guest waits at, where its frame has one.
pub(crate) static GATE: Key<Arc<Gate>> = Key::new("gate").inherit();

#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) arrived: Semaphore,
    pub(crate) open: Semaphore,
}

impl Gate {
    /// One that nobody has come to, and that lets nobody through.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { arrived: Semaphore::new(0), open: Semaphore::new(0) })
    }

    /// Waits until the guest is there.
    pub(crate) async fn reached(&self) {
        soon(self.arrived.acquire()).await.unwrap().forget();
    }
}

/// `frame:http-guests/host`.
struct TestHost;

impl HostModule for TestHost {
    fn link(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        linker.instance("frame:http-guests/host")?.func_wrap_async(
            "wait",
            |store: StoreContextMut<'_, GuestState>, (): ()| {
                let gate = store.data().ctx().frame().get(&GATE).cloned();
                Box::new(async move {
                    if let Some(gate) = gate {
                        gate.arrived.add_permits(1);
                        gate.open.acquire().await?.forget();
                    }
                    Ok(())
                })
            },
        )
    }
}

/// Waits for what is to happen at once, and gives up long after.
pub(crate) async fn soon<F: Future>(event: F) -> F::Output {
    tokio::time::timeout(Duration::from_mins(1), event).await.expect("it happens")
}

/// An app with networks, and the guest as `app:http`.
pub(crate) struct World {
    pub(crate) functions: Functions,
    pub(crate) networks: NetworkRegistry,
}

impl World {
    /// One whose clearnet may reach this host, with these networks.
    pub(crate) fn new(networks: &Value) -> Self {
        Self::with(&json!({ "clearnet": { "allow": ["127.0.0.0/8"] }, "networks": networks }), json!({}))
    }

    /// The same, whose guest has these limits.
    pub(crate) fn limited(limits: WasmConfig) -> Self {
        let clearnet = json!({ "clearnet": { "allow": ["127.0.0.0/8"] } });
        Self::of(&clearnet, compiled(WasmEngine::builder().instances(4), json!({}), limits))
    }

    /// One of this `frame_net::NetConfig`, whose client has these settings.
    pub(crate) fn with(networks: &Value, client: Value) -> Self {
        Self::of(networks, guest(client))
    }

    fn of(networks: &Value, guest: WasmFunction) -> Self {
        Self::of_app(networks, guest, |_| {})
    }

    /// The same, with what `set` gives the app.
    pub(crate) fn with_app(networks: &Value, client: Value, set: impl FnOnce(&mut AppBuilder)) -> Self {
        Self::of_app(networks, guest(client), set)
    }

    fn of_app(networks: &Value, guest: WasmFunction, set: impl FnOnce(&mut AppBuilder)) -> Self {
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        set(&mut app);
        let networks = frame_net::boot(&mut app, serde_json::from_value(networks.clone()).unwrap()).unwrap();
        let functions = Functions::new(app.build());
        functions.register("app:http".parse().unwrap(), Options::new(), guest).unwrap();
        Self { functions, networks }
    }

    /// The task of a call of the guest.
    pub(crate) fn task(ask: &Ask, options: &Value) -> Task {
        let task = Task::new("app:http".parse().unwrap()).with_payload(ask.payload());
        task.with_options(Options::from_json(options).unwrap())
    }

    /// What comes of a call with these options.
    pub(crate) async fn call(&self, ask: &Ask, options: &Value) -> Result<Vec<Outcome>, CallError> {
        soon(self.functions.root().call(Self::task(ask, options)))
            .await
            .map(|payload| outcomes(&payload, ask))
    }

    /// What comes of a single request through this network, or else over clearnet.
    pub(crate) async fn ask(&self, ask: &Ask, network: Option<&str>) -> Outcome {
        let options = network.map_or_else(|| json!({}), |network| json!({ "network": network }));
        let mut outcomes = self.call(ask, &options).await.unwrap();
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0)
    }
}

/// The guest, whose client has these settings. Those that have none share an engine: address space is not endless.
fn guest(client: Value) -> WasmFunction {
    static SHARED: LazyLock<WasmFunction> =
        LazyLock::new(|| compiled(WasmEngine::builder(), json!({}), WasmConfig::default()));

    if client == json!({}) {
        return SHARED.clone();
    }
    compiled(WasmEngine::builder().instances(4), client, WasmConfig::default())
}

fn compiled(engine: WasmEngineBuilder, client: Value, limits: WasmConfig) -> WasmFunction {
    static COMPONENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let guests = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/modules/guests"));
        frame_guests::component_of(&guests.join("wit"), include_str!("../guests/http.wat"))
    });
    let client = HttpClient::new(serde_json::from_value(client).unwrap()).unwrap();
    let engine = engine.module(HttpModule::new(client)).module(TestHost).build().unwrap();
    engine.function(&COMPONENT, limits).unwrap()
}

/// What the guest is to do; `http.wat` says what each of it means.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: (u32, String),
    pub(crate) scheme: u32,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// For connecting, the first byte, and between bytes.
    pub(crate) timeouts: [Option<Duration>; 3],
    pub(crate) count: u32,
    pub(crate) does: u32,
}

pub(crate) const ONLY_COUNTS: u32 = 1;
pub(crate) const WAITS: u32 = 2;
pub(crate) const SENDS_TRAILERS: u32 = 4;
pub(crate) const DROPS_BODY: u32 = 8;
pub(crate) const DROPS_FUTURES: u32 = 16;
pub(crate) const SKIPS_TO_TRAILERS: u32 = 32;
pub(crate) const WAITS_AT_FIRST: u32 = 64;
pub(crate) const EIGHT_TIMES: u32 = 128;
pub(crate) const KEEPS_HANDLES: u32 = 256;

impl Ask {
    /// `GET http://<authority>/`.
    #[expect(clippy::needless_pass_by_value, reason = "callers have less to write")]
    pub(crate) fn get(authority: impl ToString) -> Self {
        Self {
            method: (0, String::new()),
            scheme: 0,
            authority: authority.to_string(),
            path: "/".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            timeouts: [None; 3],
            count: 1,
            does: 0,
        }
    }

    /// `POST http://<authority>/`.
    pub(crate) fn post(authority: impl ToString, body: impl Into<Vec<u8>>) -> Self {
        Self { method: (2, String::new()), body: body.into(), ..Self::get(authority) }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn does(self, does: u32) -> Self {
        Self { does, ..self }
    }

    fn payload(&self) -> Payload {
        const HEAD: usize = 80;
        let mut behind = vec![0; self.headers.len() * 16];
        let mut add = |bytes: &[u8]| {
            let at = number(HEAD + behind.len());
            behind.extend_from_slice(bytes);
            [at, number(bytes.len())]
        };
        let texts = [self.method.1.as_bytes(), self.authority.as_bytes(), self.path.as_bytes(), &self.body];
        let [name, authority, path, body] = texts.map(&mut add);
        let fields = self.headers.iter().map(|(name, value)| [add(name.as_bytes()), add(value.as_bytes())]);
        let fields: Vec<_> = fields.flatten().flatten().flat_map(u32::to_le_bytes).collect();
        behind[..fields.len()].copy_from_slice(&fields);

        let headers = [number(HEAD), number(self.headers.len())];
        let (method, scheme) = ([self.method.0], [self.scheme]);
        let numbers = [method.as_slice(), &name, &scheme, &authority, &path, &headers, &body];
        let mut payload: Vec<_> = numbers.concat().into_iter().flat_map(u32::to_le_bytes).collect();
        for timeout in self.timeouts {
            let nanos = timeout.map_or(u64::MAX, |timeout| u64::try_from(timeout.as_nanos()).unwrap());
            payload.extend(nanos.to_le_bytes());
        }
        payload.extend([self.count, self.does].into_iter().flat_map(u32::to_le_bytes));
        assert_eq!(payload.len(), HEAD);
        payload.extend(behind);
        payload.into()
    }
}

fn number(length: usize) -> u32 {
    length.try_into().unwrap()
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Response(Answer),
    /// There is an `error-code` and no response.
    Failed(&'static str),
    /// The headers are refused, with this case of `header-error`.
    Headers(u8),
    /// Something else is.
    Refused(u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u32,
    pub(crate) headers: String,
    /// How long the body is, as far as it came.
    pub(crate) length: usize,
    /// Nothing, if it was only counted.
    pub(crate) body: Vec<u8>,
    /// The `error-code` with which the body ended early.
    pub(crate) ended: Result<(), Option<&'static str>>,
    pub(crate) trailers: String,
}

impl Outcome {
    /// The response.
    #[track_caller]
    pub(crate) fn response(self) -> Answer {
        match self {
            Self::Response(answer) => answer,
            outcome => panic!("{outcome:?}"),
        }
    }
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

/// The cases of `error-code`, in their order.
const CODES: [&str; 39] = [
    "DNS-timeout",
    "DNS-error",
    "destination-not-found",
    "destination-unavailable",
    "destination-IP-prohibited",
    "destination-IP-unroutable",
    "connection-refused",
    "connection-terminated",
    "connection-timeout",
    "connection-read-timeout",
    "connection-write-timeout",
    "connection-limit-reached",
    "TLS-protocol-error",
    "TLS-certificate-error",
    "TLS-alert-received",
    "HTTP-request-denied",
    "HTTP-request-length-required",
    "HTTP-request-body-size",
    "HTTP-request-method-invalid",
    "HTTP-request-URI-invalid",
    "HTTP-request-URI-too-long",
    "HTTP-request-header-section-size",
    "HTTP-request-header-size",
    "HTTP-request-trailer-section-size",
    "HTTP-request-trailer-size",
    "HTTP-response-incomplete",
    "HTTP-response-header-section-size",
    "HTTP-response-header-size",
    "HTTP-response-body-size",
    "HTTP-response-trailer-section-size",
    "HTTP-response-trailer-size",
    "HTTP-response-transfer-coding",
    "HTTP-response-content-coding",
    "HTTP-response-timeout",
    "HTTP-upgrade-failed",
    "HTTP-protocol-error",
    "loop-detected",
    "configuration-error",
    "internal-error",
];

/// What the guest gives where it was asked this.
pub(crate) fn outcomes(payload: &Payload, ask: &Ask) -> Vec<Outcome> {
    let Payload::Bytes(bytes) = payload else { panic!("{payload:?}") };
    let mut rest = Rest { bytes, has_bodies: ask.does & ONLY_COUNTS == 0 };
    let mut outcomes = Vec::new();
    while !rest.bytes.is_empty() {
        outcomes.push(match rest.byte() {
            0 => Outcome::Response(rest.answer()),
            1 => Outcome::Failed(CODES[usize::from(rest.byte())]),
            2 => Outcome::Headers(rest.byte()),
            _ => Outcome::Refused(rest.byte()),
        });
    }
    outcomes
}

struct Rest<'a> {
    bytes: &'a [u8],
    has_bodies: bool,
}

impl Rest<'_> {
    fn take(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        taken.to_vec()
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let length = self.number() as usize;
        String::from_utf8(self.take(length)).unwrap()
    }

    fn answer(&mut self) -> Answer {
        let (status, headers, length) = (self.number(), self.text(), self.number() as usize);
        let body = if self.has_bodies { self.take(length) } else { Vec::new() };
        let ended = match self.byte() {
            1 => Ok(()),
            _ => Err(usize::from(self.byte()).checked_sub(1).map(|code| CODES[code])),
        };
        let trailers = self.text();
        Answer { status, headers, length, body, ended, trailers }
    }
}
