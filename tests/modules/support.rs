//! An app with one script, servers on loopback, and what they saw.
#![allow(dead_code)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use frame_dispatch::lua::{LuaConfig, LuaEngine};
use frame_dispatch::{CallContext, CallError, Functions, Payload, Task};
use frame_net::NetworkRegistry;
use frame_net::http::{HttpClient, HttpConfig};
use frame_registry::{App, AppBuilder, FrameResolvers, Options};
use frame_runtime::modules::lua::{HttpModule, JsonModule, NetModule, WebSocketModule};
use serde_json::{Value as Json, json};

/// Far more than anything takes here.
pub(crate) const GENEROUS: Duration = Duration::from_mins(1);

/// A script that is registered as `app:script`, in an app with these networks.
pub(crate) struct Script {
    pub(crate) functions: Functions,
    pub(crate) networks: NetworkRegistry,
    engine: LuaEngine,
}

impl Script {
    /// With clearnet that leads to loopback, too.
    pub(crate) fn new(source: &str) -> Self {
        Self::with_networks(source, json!({ "clearnet": { "allow": ["127.0.0.0/8"] } }))
    }

    pub(crate) fn with_networks(source: &str, networks: Json) -> Self {
        Self::with_config(source, networks, HttpConfig::default(), LuaConfig::default())
    }

    pub(crate) fn with_config(source: &str, networks: Json, http: HttpConfig, config: LuaConfig) -> Self {
        Self::with_app(source, networks, http, config, |_| {})
    }

    /// The same, with what `set` gives the app.
    pub(crate) fn with_app(
        source: &str,
        networks: Json,
        http: HttpConfig,
        config: LuaConfig,
        set: impl FnOnce(&mut AppBuilder),
    ) -> Self {
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        set(&mut app);
        let networks = frame_net::boot(&mut app, serde_json::from_value(networks).unwrap()).unwrap();
        let functions = Functions::new(app.build());
        let client = HttpClient::new(http).unwrap();
        let engine = LuaEngine::builder()
            .module(HttpModule::new(client.clone()))
            .module(NetModule::new().with_connections(2))
            .module(JsonModule::new())
            .module(WebSocketModule::new(client).with_connections(2))
            .build()
            .unwrap();
        let script = Self { functions, networks, engine };
        script.add("app:script", source, config);
        script
    }

    /// A further function with options that are preset for it.
    pub(crate) fn add_with(&self, id: &str, source: &str, options: Options) {
        let function = self.engine.function(id, source, LuaConfig::default()).unwrap();
        self.functions.register(id.parse().unwrap(), options, function).unwrap();
    }

    /// A further function.
    pub(crate) fn add(&self, id: &str, source: &str, config: LuaConfig) {
        let function = self.engine.function(id, source, config).unwrap();
        self.functions.register(id.parse().unwrap(), Options::new(), function).unwrap();
    }

    pub(crate) async fn call(&self, payload: Json) -> Result<Json, CallError> {
        self.call_with(&self.functions.root(), payload, json!({})).await
    }

    /// With options, which are trusted.
    #[allow(clippy::needless_pass_by_value, reason = "what is given is made on the spot")]
    pub(crate) async fn call_with(
        &self,
        ctx: &CallContext,
        payload: Json,
        options: Json,
    ) -> Result<Json, CallError> {
        Self::call_in(ctx, "app:script", payload, options).await
    }

    /// A call of a further function, with options, which are trusted.
    #[allow(clippy::needless_pass_by_value, reason = "what is given is made on the spot")]
    pub(crate) async fn call_function(
        &self,
        id: &str,
        payload: Json,
        options: Json,
    ) -> Result<Json, CallError> {
        Self::call_in(&self.functions.root(), id, payload, options).await
    }

    #[allow(clippy::needless_pass_by_value, reason = "what is given is made on the spot")]
    async fn call_in(ctx: &CallContext, id: &str, payload: Json, options: Json) -> Result<Json, CallError> {
        let options = Options::from_json(&options).unwrap();
        let task = Task::new(id.parse().unwrap()).with_payload(payload).with_options(options);
        match soon(ctx.call(task)).await? {
            Payload::Json(json) => Ok(json),
            other => panic!("{other:?} is no JSON"),
        }
    }
}

pub(crate) async fn soon<F: Future>(event: F) -> F::Output {
    tokio::time::timeout(GENEROUS, event).await.expect("it happens")
}

/// A server that has something to do with one connection, in a thread.
pub(crate) fn server<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(GENEROUS)).unwrap();
        serve(stream)
    });
    (address, served)
}

/// A server that answers one request with these bytes, and gives the request: its head, and as much as is said of a body.
pub(crate) fn answers(response: impl Into<Vec<u8>>) -> (SocketAddr, JoinHandle<(String, Vec<u8>)>) {
    let response = response.into();
    server(move |mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).unwrap();
        // Who has enough of it hangs up.
        let _ = stream.write_all(&response);
        (head, body)
    })
}
