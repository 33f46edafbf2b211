//! The clients that are compared within one program: through a frame's dialer, and reqwest, with the same limits.

use std::net::SocketAddr;
use std::sync::Arc;

use frame_net::Dialer;
use frame_net::http::{Bytes, HttpClient, HttpConfig, Request, Trust, rustls};
use frame_registry::{App, FrameBuilder, FrameResolvers, Options, ResolveContext};
use serde_json::json;

use crate::server::{BULK, Server};

pub(crate) const NAMES: [&str; 2] = ["frame-net", "reqwest"];

/// As many connections are kept as requests are made at once.
const MAX_IDLE: usize = 100;

#[derive(Clone)]
pub(crate) enum Contender {
    Frame { client: HttpClient, dialer: Dialer },
    Reqwest(reqwest::Client),
}

impl Contender {
    /// All of them, through the server's proxy if they are to, in the order of [`NAMES`].
    pub(crate) fn all(server: &Server, is_proxied: bool) -> [Self; 2] {
        let proxy = is_proxied.then_some(server.socks5);
        [Self::frame(server, proxy), Self::reqwest(server, proxy)]
    }

    fn frame(server: &Server, proxy: Option<SocketAddr>) -> Self {
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        let mut config = json!({ "clearnet": { "allow": ["127.0.0.1"] } });
        let mut options = json!({});
        if let Some(proxy) = proxy {
            let network = json!({ "kind": "socks5", "proxy": proxy.to_string(), "allow": ["127.0.0.1"] });
            config["networks"] = json!({ "bench:socks5": network });
            options = json!({ "network": "bench:socks5" });
        }
        frame_net::boot(&mut app, serde_json::from_value(config).unwrap()).unwrap();
        let app = app.build();
        let mut frame = FrameBuilder::new();
        let options = Options::from_json(&options).unwrap();
        app.resolvers().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut()).unwrap();
        let dialer = frame_net::dialer(&frame.seal(), &app).unwrap();
        let mut config = HttpConfig::default();
        config.trust = Trust::Only(vec![server.certificate.clone()]);
        config.max_idle_per_host = MAX_IDLE;
        config.max_request_body = u64::MAX;
        config.max_response_body = u64::MAX;
        Self::Frame { client: HttpClient::new(config).unwrap(), dialer }
    }

    fn reqwest(server: &Server, proxy: Option<SocketAddr>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(server.certificate.clone()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let mut tls = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let limits = HttpConfig::default();
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(limits.time_limit)
            .connect_timeout(limits.connect_limit)
            .pool_idle_timeout(limits.idle_timeout)
            .pool_max_idle_per_host(MAX_IDLE);
        let builder = match proxy {
            Some(proxy) => builder.proxy(reqwest::Proxy::all(format!("socks5h://{proxy}")).unwrap()),
            None => builder.no_proxy(),
        };
        Self::Reqwest(builder.build().unwrap())
    }

    /// Gets what is at `url`, and returns how many bytes that has.
    pub(crate) async fn get(&self, url: &str) -> usize {
        match self {
            Self::Frame { client, dialer } => {
                let response = client.send(dialer, Request::get(url).unwrap()).await.unwrap();
                response.bytes().await.unwrap().len()
            }
            Self::Reqwest(client) => {
                let response = client.get(url).send().await.unwrap();
                response.bytes().await.unwrap().len()
            }
        }
    }

    /// Reads the large body at `url` in pieces, as they come.
    pub(crate) async fn download(&self, url: &str) {
        let mut len = 0;
        match self {
            Self::Frame { client, dialer } => {
                let mut response = client.send(dialer, Request::get(url).unwrap()).await.unwrap();
                while let Some(piece) = response.chunk().await.unwrap() {
                    len += piece.len();
                }
            }
            Self::Reqwest(client) => {
                let mut response = client.get(url).send().await.unwrap();
                while let Some(piece) = response.chunk().await.unwrap() {
                    len += piece.len();
                }
            }
        }
        assert_eq!(len, BULK);
    }

    /// Sends `body`, which is in memory.
    pub(crate) async fn upload(&self, url: &str, body: Bytes) {
        match self {
            Self::Frame { client, dialer } => {
                let request = Request::post(url).unwrap().body(body);
                client.send(dialer, request).await.unwrap().bytes().await.unwrap();
            }
            Self::Reqwest(client) => {
                client.post(url).body(body).send().await.unwrap().bytes().await.unwrap();
            }
        }
    }

    /// Makes `count` requests, `together` at a time.
    pub(crate) async fn get_all(&self, url: &str, count: u32, together: u32) {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..together {
            let (contender, url) = (self.clone(), url.to_owned());
            tasks.spawn(async move {
                for _ in 0..count / together {
                    assert_eq!(contender.get(&url).await, 13);
                }
            });
        }
        tasks.join_all().await;
    }
}
