//! The HTTP client, through frames and their dialers, as a program uses it.

mod default_headers;
mod encodings;
mod environment;
mod events;
mod forms;
mod host_limit;
mod http2;
mod isolation;
mod limits;
mod origin;
mod overlay;
mod pooling;
mod real;
mod redirects;
mod requests;
mod scripted;
mod secrets;
#[path = "../servers/mod.rs"]
mod servers;
mod stage;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod trust;
mod websocket;

use std::net::SocketAddr;

use frame_net::http::{HttpClient, HttpConfig, HttpError, Request, Response};
use frame_net::{Dialer, NetworkRegistry, dialer};
use frame_registry::App;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use support::relay::Relay;
use support::{app, frame, soon};

/// An app whose clearnet may reach this host.
fn world(networks: &Value) -> World {
    world_with(networks, HttpConfig::default())
}

/// Through proxies everything may be reached.
fn world_with(networks: &Value, config: HttpConfig) -> World {
    let mut networks = networks.clone();
    for network in
        networks.as_object_mut().unwrap().values_mut().filter(|network| network["kind"] == "socks5")
    {
        network["allow"] = support::everything();
    }
    let (app, networks) = app(json!({ "clearnet": { "allow": ["127.0.0.0/8"] }, "networks": networks }));
    World { app, networks, client: HttpClient::new(config).unwrap() }
}

struct World {
    app: App,
    networks: NetworkRegistry,
    client: HttpClient,
}

impl World {
    /// The dialer of a call with these options.
    fn dialer(&self, options: &Value) -> Dialer {
        dialer(&frame(&self.app, options), &self.app).unwrap()
    }

    /// The response to a request over clearnet.
    async fn send(&self, request: Request) -> Result<Response, HttpError> {
        soon(self.client.send(&self.dialer(&json!({})), request)).await
    }

    async fn get(&self, url: &str) -> Result<Response, HttpError> {
        self.send(Request::get(url).unwrap()).await
    }

    /// The body of what is at `url`.
    async fn text(&self, url: &str) -> String {
        soon(self.get(url).await.unwrap().text()).await.unwrap()
    }
}

/// A request that a relay got.
type Asked = UnboundedReceiver<support::relay::Request>;

/// A relay that leads everyone to `to`.
async fn relay(to: SocketAddr) -> (String, Asked) {
    serve(Relay::bind("127.0.0.1:0").await.unwrap(), to)
}

/// The same, for clients with any credentials.
async fn isolating_relay(to: SocketAddr) -> (String, Asked) {
    serve(Relay::bind("127.0.0.1:0").await.unwrap().with_any_credentials(), to)
}

fn serve(relay: Relay, to: SocketAddr) -> (String, Asked) {
    let address = relay.local_addr().unwrap().to_string();
    let (sender, asked) = unbounded_channel();
    tokio::spawn(relay.serve(move |request| {
        let _ = sender.send(request.clone());
        Ok(to)
    }));
    (address, asked)
}

/// The error and all its causes.
fn causes(error: &HttpError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
