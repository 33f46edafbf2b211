//! `https`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use frame_net::http::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use frame_net::http::rustls::{self, HandshakeKind, ServerConfig};
use frame_net::http::{Bytes, HttpConfig, HttpError, RedirectError, Request, Trust, UrlError, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::TlsAcceptor;

use crate::origin::{Origin, ok, redirect};
use crate::support::soon;
use crate::{World, causes, relay, world_with};

/// Says who is who.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A server that is `name`, and speaks these protocols.
    pub(crate) fn server(&self, name: &str, protocols: &[&[u8]]) -> TlsAcceptor {
        self.server_of(&[name], protocols)
    }

    /// A server that is all of `names`, and speaks these protocols.
    pub(crate) fn server_of(&self, names: &[&str], protocols: &[&[u8]]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().copied().map(str::to_owned).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config =
            builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config).into()
    }

    /// The certificate of a server that is `name`, and its key.
    pub(crate) fn pem(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // Not that of the authority, which would look self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Its own certificate.
    pub(crate) fn root_pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn trusted(&self) -> HttpConfig {
        let mut config = HttpConfig::default();
        config.trust = Trust::Only(vec![self.root()]);
        config
    }
}

/// A world whose network `app:proxy` leads everyone to `to`.
pub(crate) async fn overlay(to: SocketAddr, config: HttpConfig) -> World {
    let (proxy, _asked) = relay(to).await;
    world_with(&json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } }), config)
}

pub(crate) async fn get(world: &World, url: &str) -> Result<String, HttpError> {
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    soon(async { world.client.send(&dialer, Request::get(url)?).await?.text().await }).await
}

#[tokio::test]
async fn a_server_is_who_a_trusted_authority_says() {
    let authority = Authority::new();
    let mut origin = Origin::tls(authority.server("shop.internal", &[]), |_| ok("hello")).await;
    let mut and = HttpConfig::default();
    and.trust = Trust::Mozilla { and: vec![authority.root()] };
    let mut custom = HttpConfig::default();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.root()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    custom.trust = Trust::Custom(Arc::new(tls.with_root_certificates(roots).with_no_client_auth()));
    for config in [authority.trusted(), and, custom] {
        let world = overlay(origin.address, config).await;
        assert_eq!(get(&world, "https://shop.internal/a").await.unwrap(), "hello");
        let seen = origin.request().await;
        assert_eq!((seen.line(), seen.header("host")), ("GET /a HTTP/1.1", Some("shop.internal")));
        drop(world);
        origin.closed().await;
    }
}

#[tokio::test]
async fn another_name_is_refused() {
    let authority = Authority::new();
    let mut origin = Origin::tls(authority.server("shop.internal", &[]), |_| ok("hello")).await;
    let world = overlay(origin.address, authority.trusted()).await;
    for url in ["https://bank.internal/", "https://a.shop.internal/", "https://127.0.0.1/", "https://[::1]/"]
    {
        let error = get(&world, url).await.unwrap_err();
        assert!(matches!(error, HttpError::Tls { .. }) && !error.is_retryable(), "{url}: {error:?}");
        assert!(causes(&error).contains("not valid for name"), "{}", causes(&error));
    }
    origin.assert_silent();
}

#[tokio::test]
async fn a_name_that_no_certificate_can_have_is_refused_before_anything_is_sent() {
    let (proxy, mut asked) = relay("127.0.0.1:1".parse().unwrap()).await;
    let networks = json!({ "app:proxy": { "kind": "socks5", "proxy": proxy } });
    let world = world_with(&networks, HttpConfig::default());
    let url = format!("https://{}.internal/", "a".repeat(64));
    let error = get(&world, &url).await.unwrap_err();
    assert!(matches!(error, HttpError::Url(UrlError::Certificate)) && !error.is_retryable(), "{error:?}");
    assert!(asked.try_recv().is_err());

    let origin = Origin::new(move |_| redirect(302, &url)).await;
    let error = world.get(&origin.url("/")).await.unwrap_err();
    let HttpError::Redirect { source: why, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*why, RedirectError::Url(UrlError::Certificate));
}

#[tokio::test]
async fn an_address_can_be_proven() {
    let authority = Authority::new();
    let origin = Origin::tls(authority.server("2001:db8::7", &[]), |_| ok("hello")).await;
    let world = overlay(origin.address, authority.trusted()).await;
    assert_eq!(get(&world, "https://[2001:db8::7]/").await.unwrap(), "hello");
}

#[tokio::test]
async fn an_authority_that_nobody_trusts_proves_nothing() {
    let mut origin = Origin::tls(Authority::new().server("shop.internal", &[]), |_| ok("hello")).await;
    for config in [HttpConfig::default(), Authority::new().trusted()] {
        let world = overlay(origin.address, config).await;
        let error = get(&world, "https://shop.internal/").await.unwrap_err();
        assert!(matches!(error, HttpError::UntrustedIssuer { .. }), "{error:?}");
        assert!(causes(&error).contains("through network `app:proxy`"), "{}", causes(&error));
        assert!(causes(&error).ends_with("is not trusted; add it to `ca_files`"), "{}", causes(&error));
    }
    origin.assert_silent();
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let mut received = Vec::new();
        // A client that gives up with something unread resets the connection.
        let _ = stream.read_to_end(&mut received).await;
        received
    });
    let world = overlay(address, HttpConfig::default()).await;
    let error = get(&world, "https://shop.internal/31337").await.unwrap_err();
    assert!(matches!(error, HttpError::Tls { .. }) && !error.is_retryable(), "{error:?}");
    let received = soon(server).await.unwrap();
    assert!(!received.windows(5).any(|window| window == b"31337"), "nothing is sent without TLS");
}

#[tokio::test]
async fn no_redirect_leads_from_https_to_http() {
    let authority = Authority::new();
    let to = "http://shop.internal/";
    let acceptor = authority.server("shop.internal", &[]);
    let origin =
        Origin::tls(acceptor, move |seen| if seen.path() == "/" { redirect(302, to) } else { ok("") }).await;
    let mut allowed = authority.trusted();
    allowed.allow_downgrade = true;
    let world = overlay(origin.address, authority.trusted()).await;
    let error = get(&world, "https://shop.internal/").await.unwrap_err();
    assert!(matches!(error, HttpError::Redirect { source: RedirectError::Downgrade, .. }), "{error:?}");

    // Where it may, it leads to where no TLS is spoken, which the origin is not.
    let world = overlay(origin.address, allowed).await;
    let error = get(&world, "https://shop.internal/").await.unwrap_err();
    assert!(!matches!(error, HttpError::Redirect { .. }), "{error:?}");
}

/// A server of HTTP/2 that says over which connection a request came, and how that began.
async fn http2_server(
    acceptor: TlsAcceptor,
    together: usize,
) -> (SocketAddr, UnboundedReceiver<HandshakeKind>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, handshakes) = unbounded_channel();
    let barrier = Arc::new(Barrier::new(together));
    let numbers = AtomicUsize::new(0);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            let (acceptor, sender, barrier) = (acceptor.clone(), sender.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let _ = sender.send(stream.get_ref().1.handshake_kind().unwrap());
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let barrier = Arc::clone(&barrier);
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        if head.uri.path() == "/together" {
                            barrier.wait().await;
                        }
                        let authority = head.uri.authority().unwrap();
                        assert!(!head.headers.contains_key("host"));
                        let answer = format!("{number} {authority} {}", body.len());
                        Ok::<_, Infallible>(hyper::Response::new(Full::new(Bytes::from(answer))))
                    }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, handshakes)
}

#[tokio::test]
async fn http_2_carries_requests_at_the_same_time_over_one_connection() {
    const TOGETHER: usize = 20;
    let authority = Authority::new();
    let (address, _) = http2_server(authority.server("shop.internal", &[b"h2"]), TOGETHER).await;
    let world = overlay(address, authority.trusted()).await;
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    let first =
        soon(world.client.send(&dialer, Request::get("https://shop.internal/").unwrap())).await.unwrap();
    assert_eq!(first.version(), Version::HTTP_2);
    assert_eq!(soon(first.text()).await.unwrap(), "0 shop.internal 0");
    // None is answered before all are there.
    let requests: Vec<_> = (0..TOGETHER)
        .map(|_| {
            let (client, dialer) = (world.client.clone(), dialer.clone());
            let request = Request::post("https://shop.internal/together").unwrap().body(vec![0; 100_000]);
            tokio::spawn(async move { client.send(&dialer, request).await?.text().await })
        })
        .collect();
    for request in requests {
        assert_eq!(soon(request).await.unwrap().unwrap(), "0 shop.internal 100000");
    }
}

#[tokio::test]
async fn an_http_2_connection_is_closed_with_its_network() {
    let authority = Authority::new();
    let (address, _) = http2_server(authority.server("shop.internal", &[b"h2"]), 2).await;
    let world = overlay(address, authority.trusted()).await;
    assert_eq!(get(&world, "https://shop.internal/").await.unwrap(), "0 shop.internal 0");
    let id = "app:proxy".parse().unwrap();
    let dialer = world.dialer(&json!({ "network": "app:proxy" }));
    // One is on its way meanwhile.
    let (client, request) = (world.client.clone(), Request::get("https://shop.internal/together").unwrap());
    let on_its_way = tokio::spawn({
        let dialer = dialer.clone();
        async move { client.send(&dialer, request).await?.text().await }
    });
    // Sent over the same connection afterwards, so that the server has the other.
    assert_eq!(get(&world, "https://shop.internal/").await.unwrap(), "0 shop.internal 0");
    let (proxy, _asked) = relay(address).await;
    let config = serde_json::from_value(json!({ "kind": "socks5", "proxy": proxy })).unwrap();
    world.networks.update(&id, &config).unwrap();
    assert_eq!(get(&world, "https://shop.internal/").await.unwrap(), "1 shop.internal 0");
    assert_eq!(get(&world, "https://shop.internal/together").await.unwrap(), "1 shop.internal 0");
    assert_eq!(soon(on_its_way).await.unwrap().unwrap(), "0 shop.internal 0");
}

#[tokio::test]
async fn http_2_can_be_switched_off() {
    let authority = Authority::new();
    let mut origin =
        Origin::tls(authority.server("shop.internal", &[b"h2", b"http/1.1"]), |_| ok("hello")).await;
    let mut config = authority.trusted();
    config.http2 = false;
    let world = overlay(origin.address, config).await;
    assert_eq!(get(&world, "https://shop.internal/").await.unwrap(), "hello");
    assert_eq!(origin.request().await.line(), "GET / HTTP/1.1");
}

#[tokio::test]
async fn no_tls_session_is_resumed() {
    let authority = Authority::new();
    let (address, mut handshakes) = http2_server(authority.server("shop.internal", &[b"h2"]), 1).await;
    let mut config = authority.trusted();
    config.max_idle = Some(0);
    let world = overlay(address, config).await;
    for number in 0..3 {
        assert_eq!(get(&world, "https://shop.internal/").await.unwrap(), format!("{number} shop.internal 0"));
        assert_eq!(soon(handshakes.recv()).await, Some(HandshakeKind::Full));
    }
}
