//! Real servers that close connections after a number of requests: no request is lost, and none is repeated.

use std::num::NonZeroUsize;
use std::sync::Arc;

use frame_net::http::{HttpConfig, HttpError, Method, Request, Version};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::servers::web::{Identity, Web};
use crate::servers::{file, folder};
use crate::tls::Authority;
use crate::{World, world_with};

/// A certificate for 127.0.0.1 in files, and who trusts it.
pub(crate) struct Certified {
    pub(crate) identity: Identity,
    authority: Authority,
    _folder: tempfile::TempDir,
}

impl Certified {
    pub(crate) fn new() -> Self {
        let (authority, folder) = (Authority::new(), folder());
        let (certificate, key) = authority.pem("127.0.0.1");
        let identity = Identity {
            certificate: file(folder.path(), "certificate.pem", &certificate),
            key: file(folder.path(), "key.pem", &key),
        };
        Self { identity, authority, _folder: folder }
    }

    pub(crate) fn world(&self) -> World {
        world_with(&json!({}), self.authority.trusted())
    }

    /// A world that speaks HTTP/1.1 only.
    fn world_of_http_1_1(&self) -> World {
        let mut config = self.authority.trusted();
        config.http2 = false;
        world_with(&json!({}), config)
    }
}

/// Requests to paths of their own.
struct Load {
    method: Method,
    count: usize,
    /// How many are sent at a time.
    together: usize,
    version: Version,
}

impl Load {
    const fn post(count: usize, together: usize, version: Version) -> Self {
        Self { method: Method::POST, count, together, version }
    }

    /// Sends all, and does `disturb` each time so many were sent. Each must be answered with 200.
    async fn send(&self, world: &World, base: &str, every: usize, mut disturb: impl AsyncFnMut()) {
        let dialer = world.dialer(&json!({}));
        let permits = Arc::new(Semaphore::new(self.together));
        let mut requests = tokio::task::JoinSet::new();
        for number in 0..self.count {
            if number > 0 && number % every == 0 {
                disturb().await;
            }
            let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
            let (client, dialer, version) = (world.client.clone(), dialer.clone(), self.version);
            let url = format!("{base}/{number}");
            let request = Request::new(self.method.clone(), &url).unwrap().body("body");
            requests.spawn(async move {
                let mut sent = client.send(&dialer, request.clone()).await;
                // A server that reloads resets connections that it has not accepted. Nothing was sent over them.
                for _ in 0..10 {
                    if !matches!(sent, Err(HttpError::Tls { .. } | HttpError::Network(_))) {
                        break;
                    }
                    sent = client.send(&dialer, request.clone()).await;
                }
                let response = sent.map_err(|error| format!("{number}: {error:?}"))?;
                assert_eq!((response.status().as_u16(), response.version()), (200, version));
                let text = response.text().await.map_err(|error| format!("{number}: {error:?}"))?;
                drop(permit);
                Ok::<_, String>(text)
            });
        }
        while let Some(done) = requests.join_next().await {
            assert_eq!(done.unwrap().unwrap(), "whole");
        }
    }
}

/// Sends `count` requests of `POST`, `together` at a time.
async fn post_all(world: &World, base: &str, count: usize, together: usize, version: Version) {
    Load::post(count, together, version).send(world, base, usize::MAX, async || ()).await;
}

/// Each of `count` paths was asked for once, and nothing else.
async fn assert_each_once(server: &Web, count: usize) {
    let paths = server.paths(count).await;
    let repeated: Vec<_> = paths.iter().filter(|(_, times)| **times > 1).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
    assert_eq!(paths.len(), count);
}

/// How many requests nginx serves over a connection, and how many are sent: 10 000 together.
const LIMITS: [(usize, usize); 4] = [(1, 300), (7, 1_700), (50, 3_000), (1_000, 5_000)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_loses_no_request_over_http_2_however_few_it_takes_over_a_connection() {
    let certified = Certified::new();
    for (limit, count) in LIMITS {
        let settings = format!("keepalive_requests {limit}; location / {{ return 200 whole; }}");
        let Some(server) = Web::nginx(Some(&certified.identity), &settings).await else { return };
        let base = format!("https://{}", server.address);
        post_all(&certified.world(), &base, count, 100, Version::HTTP_2).await;
        assert_each_once(&server, count).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_loses_no_request_over_http_1_1_however_few_it_takes_over_a_connection() {
    for (limit, count) in LIMITS {
        let settings = format!("keepalive_requests {limit}; location / {{ return 200 whole; }}");
        let Some(server) = Web::nginx(None, &settings).await else { return };
        let base = format!("http://{}", server.address);
        post_all(&world_with(&json!({}), HttpConfig::default()), &base, count, 16, Version::HTTP_11).await;
        assert_each_once(&server, count).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_origin_of_http_2_gets_one_connection_for_many_requests() {
    let certified = Certified::new();
    let settings = "location / { return 200 whole; }";
    let Some(server) = Web::nginx(Some(&certified.identity), settings).await else { return };
    post_all(&certified.world(), &format!("https://{}", server.address), 100, 100, Version::HTTP_2).await;
    assert_each_once(&server, 100).await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_a_server_of_http_2_takes_at_once_are_all_answered() {
    let certified = Certified::new();
    let settings = "http2_max_concurrent_streams 3; keepalive_requests 20; location / { return 200 whole; }";
    let Some(server) = Web::nginx(Some(&certified.identity), settings).await else { return };
    post_all(&certified.world(), &format!("https://{}", server.address), 300, 100, Version::HTTP_2).await;
    assert_each_once(&server, 300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_connections_to_a_host_carry_many_requests() {
    const MAX: usize = 3;
    let certified = Certified::new();
    for identity in [None, Some(&certified.identity)] {
        for (limit, is_kept) in [(7, false), (10_000, true)] {
            let settings = format!("keepalive_requests {limit}; location / {{ return 200 whole; }}");
            let Some(server) = Web::nginx(identity, &settings).await else { return };
            let mut config = certified.authority.trusted();
            config.max_connections_per_host = NonZeroUsize::new(MAX);
            let world = world_with(&json!({}), config);
            let (scheme, version, expected) = match identity {
                None => ("http", Version::HTTP_11, MAX),
                Some(_) => ("https", Version::HTTP_2, 1),
            };
            post_all(&world, &format!("{scheme}://{}", server.address), 1_000, 100, version).await;
            assert_each_once(&server, 1_000).await;
            if is_kept {
                assert_eq!(server.connections(), expected, "{scheme}");
            }
        }
    }
}

/// How often a server is reloaded while it is asked.
const RELOADS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_loses_no_request_over_http_2_while_it_is_reloaded() {
    const COUNT: usize = 2_000;
    let certified = Certified::new();
    let Some(backend) = Web::nginx(None, "location / { return 200 whole; }").await else { return };
    let Some(haproxy) = Web::haproxy(&certified.identity, backend.address, "").await else { return };
    let load = Load::post(COUNT, 50, Version::HTTP_2);
    let base = format!("https://{}", haproxy.address);
    load.send(&certified.world(), &base, COUNT / (RELOADS + 1), async || haproxy.reload_haproxy().await)
        .await;
    assert_each_once(&backend, COUNT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_loses_no_request_over_http_1_1_however_few_it_takes_over_a_connection() {
    let certified = Certified::new();
    for (limit, count) in [(1, 100), (7, 400), (50, 500), (1_000, 1_000)] {
        let Some(backend) = Web::nginx(None, "location / { return 200 whole; }").await else { return };
        let close = format!("http-after-response set-header connection close if {{ rand({limit}) eq 0 }}");
        let Some(haproxy) = Web::haproxy(&certified.identity, backend.address, &close).await else { return };
        let base = format!("https://{}", haproxy.address);
        post_all(&certified.world_of_http_1_1(), &base, count, 16, Version::HTTP_11).await;
        assert_each_once(&backend, count).await;
    }
}

/// Has Caddy serve `load`, and reloads it meanwhile.
async fn send_to_caddy(world: &World, certified: &Certified, load: &Load) -> Option<Web> {
    let caddy = Web::caddy(&certified.identity, "  respond whole 200").await?;
    let (base, every) = (format!("https://{}", caddy.address), load.count / (RELOADS + 1));
    load.send(world, &base, every, async || caddy.reload_caddy().await).await;
    Some(caddy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_loses_no_request_over_http_2_while_it_is_reloaded() {
    let (certified, load) = (Certified::new(), Load::post(1_500, 20, Version::HTTP_2));
    let Some(caddy) = send_to_caddy(&certified.world(), &certified, &load).await else { return };
    assert_each_once(&caddy, load.count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_idempotent_request_over_http_1_1_is_answered_while_caddy_is_reloaded() {
    let certified = Certified::new();
    let load = Load { method: Method::PUT, count: 1_000, together: 20, version: Version::HTTP_11 };
    let world = certified.world_of_http_1_1();
    let Some(caddy) = send_to_caddy(&world, &certified, &load).await else { return };
    // It closes connections that it takes for idle, and may be processing a request of one. Such a request is sent again.
    assert_eq!(caddy.paths(load.count).await.len(), load.count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nghttpd_loses_no_request_however_few_streams_it_takes_at_once() {
    let certified = Certified::new();
    for (limit, count) in [(1, 300), (5, 700), (100, 1_000)] {
        // It refuses streams beyond this before the client knows the limit.
        let arguments = [&format!("--max-concurrent-streams={limit}")];
        let files = [("whole", "whole")];
        let Some(server) = Web::nghttpd(&certified.identity, &files, &arguments).await else { return };
        let base = format!("https://{}/whole?", server.address);
        post_all(&certified.world(), &base, count, 100, Version::HTTP_2).await;
        assert_each_once(&server, count).await;
    }
}
