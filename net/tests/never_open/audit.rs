//! What cannot be recorded does not leave, on any route.

use std::future::pending;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use frame_net::audit::{Attempt, Audit, Begun, Outcome, Unrecorded};
use frame_net::http::websocket::{WebSocketError, WebSocketRequest};
use frame_net::http::{HttpClient, HttpConfig, HttpError, Request};
use frame_net::{Cause, Dialer, LocalEndpoint, NetworkError, dialer};
use serde_json::{Value, json};

use crate::sealed::{self, INSIDE_NAMES, LOCAL_NAME, PUBLIC, REMOTE_NAME};
use crate::support::{self, app_with_audit, endpoint, soon};
use crate::{sealed_tests, socks5};

/// A log that refuses, or never answers, when it is told to.
#[derive(Debug, Default)]
struct Log {
    refuses: AtomicBool,
    is_silent: AtomicBool,
    /// How many are let pass before it refuses.
    passes: AtomicUsize,
    begun: Mutex<Vec<String>>,
    ended: AtomicUsize,
}

impl Audit for Log {
    fn begin(&self, attempt: &Arc<Attempt>) -> Begun {
        self.begun.lock().unwrap().push(format!("{} {}", attempt.kind, attempt.destination));
        let passes =
            self.passes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if passes.is_ok() {
            return Begun::Recorded;
        }
        if self.is_silent.load(Ordering::Relaxed) {
            return Begun::Waits(Box::pin(pending()));
        }
        if !self.refuses.load(Ordering::Relaxed) {
            return Begun::Recorded;
        }
        Begun::Waits(Box::pin(async {
            tokio::task::yield_now().await;
            Err(Unrecorded::Failed { reason: "no space left on device".into() })
        }))
    }

    fn end(&self, _: Arc<Attempt>, _: Outcome) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Log {
    fn refusing() -> Arc<Self> {
        let log = Self::default();
        log.refuses.store(true, Ordering::Relaxed);
        Arc::new(log)
    }
}

/// Networks of each kind, none of which is there.
fn networks() -> Value {
    let tunnel = |stack: &str| {
        json!({
            "kind": "wireguard",
            "stack": stack,
            "private_key": "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=",
            "addresses": ["10.8.0.2/24"],
            "dns": ["10.8.0.1"],
            "bind": "127.0.0.1",
            "deadline": "1s",
            "peers": [{
                "public_key": "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=",
                "endpoint": "127.0.0.1:9",
                "allowed_ips": ["0.0.0.0/0"],
            }],
        })
    };
    json!({
        "app:socks5": socks5("127.0.0.1:1"),
        "app:http": {
            "kind": "http-connect", "proxy": "127.0.0.1:1", "allow": support::everything(), "deadline": "1s",
        },
        "app:i2p": { "kind": "i2p", "sam": "127.0.0.1:1", "deadline": "1s", "session_deadline": "1s" },
        "app:wireguard": tunnel("user"),
        "app:direct": { "kind": "direct", "allow": ["0.0.0.0/0", "::/0"] },
    })
}

/// A dialer for each network, and for clearnet.
fn dialers(log: &Arc<Log>) -> Vec<Dialer> {
    let networks = networks();
    let config = json!({ "clearnet": { "allow": ["0.0.0.0/0", "::/0"] }, "networks": networks });
    let (app, _) = app_with_audit(config, Some(Arc::clone(log) as _));
    let options = networks.as_object().unwrap().keys().map(|id| json!({ "network": id }));
    let options = options.chain([json!({})]);
    options.map(|options| dialer(&support::frame(&app, &options), &app).unwrap()).collect()
}

fn on_clearnet(log: &Arc<Log>) -> Dialer {
    dialers(log).pop().unwrap()
}

fn client() -> HttpClient {
    HttpClient::new(HttpConfig::default()).unwrap()
}

fn assert_unrecorded(error: &NetworkError) {
    let (NetworkError::Connect { source, .. }
    | NetworkError::Listen { source, .. }
    | NetworkError::Bind { source, .. }
    | NetworkError::Lookup { source, .. }) = error
    else {
        panic!("{error:?}")
    };
    assert!(matches!(source.cause(), Cause::Unrecorded(_)), "{error:?}");
    assert!(error.is_retryable());
}

fn assert_unrecorded_request(error: &HttpError) {
    let HttpError::Network(error) = error else { panic!("{error:?}") };
    assert_unrecorded(error);
}

sealed_tests! {
    async fn a_log_that_cannot_be_written_lets_nothing_leave_on_any_route(world: World) {
        let log = Log::refusing();
        let client = client();
        for dialer in dialers(&log) {
            for to in world.ways_to_the_decoy() {
                assert_unrecorded(&soon(dialer.connect(&endpoint(&to))).await.unwrap_err());
                for scheme in ["http", "https"] {
                    let request = Request::get(&format!("{scheme}://{to}/")).unwrap();
                    assert_unrecorded_request(&soon(client.send(&dialer, request)).await.unwrap_err());
                }
                let request = WebSocketRequest::new(&format!("ws://{to}/")).unwrap();
                let WebSocketError::Http(error) = soon(client.websocket(&dialer, request)).await.unwrap_err() else {
                    panic!("it is not recorded")
                };
                assert_unrecorded_request(&error);
            }
            for name in [LOCAL_NAME, REMOTE_NAME] {
                assert_unrecorded(&soon(dialer.lookup(&name.parse().unwrap())).await.unwrap_err());
            }
            assert_unrecorded(&soon(dialer.bind_datagram(&LocalEndpoint::port(0))).await.map(drop).unwrap_err());
            assert_unrecorded(&soon(dialer.listen(&LocalEndpoint::port(0))).await.map(drop).unwrap_err());
        }
        world.assert_silent_but_for(0);
        assert_eq!(log.ended.load(Ordering::Relaxed), 0, "what did not begin has no end");
    }

    async fn nothing_leaves_while_the_log_is_being_written(world: World) {
        let log = Arc::new(Log::default());
        log.is_silent.store(true, Ordering::Relaxed);
        let client = client();
        for dialer in dialers(&log) {
            let to = &world.ways_to_the_decoy()[0];
            let waits = Duration::from_millis(50);
            tokio::time::timeout(waits, dialer.connect(&endpoint(to))).await.unwrap_err();
            let request = Request::get(&format!("http://{to}/")).unwrap();
            tokio::time::timeout(waits, client.send(&dialer, request)).await.unwrap_err();
            tokio::time::timeout(waits, dialer.lookup(&REMOTE_NAME.parse().unwrap())).await.unwrap_err();
        }
        world.assert_silent_but_for(0);
        // They were given up, and may be in the log by then.
        assert_eq!(log.ended.load(Ordering::Relaxed), log.begun.lock().unwrap().len());
    }

    async fn a_redirect_that_cannot_be_recorded_is_not_followed(world: World) {
        let listener = TcpListener::bind((PUBLIC, 0)).unwrap();
        let first = listener.local_addr().unwrap();
        let decoy = world.ways_to_the_decoy()[0].clone();
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            let head = format!("HTTP/1.1 302 Found\r\nLocation: http://{decoy}/\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
        });
        let log = Log::refusing();
        log.passes.store(1, Ordering::Relaxed);
        let request = Request::get(&format!("http://{first}/")).unwrap();
        assert_unrecorded_request(&soon(client().send(&on_clearnet(&log), request)).await.unwrap_err());
        served.join().unwrap();
        world.assert_silent_but_for(1);
        let begun = log.begun.lock().unwrap().clone();
        assert_eq!(begun, [format!("http {first}"), format!("http {}", world.ways_to_the_decoy()[0])]);
    }

    async fn a_request_over_a_connection_that_is_kept_is_not_sent_unrecorded(world: World) {
        let listener = TcpListener::bind((PUBLIC, 0)).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = 0;
            let mut seen = [0; 4096];
            while stream.read(&mut seen).unwrap_or(0) > 0 {
                requests += 1;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
            requests
        });
        let log = Log::refusing();
        log.passes.store(1, Ordering::Relaxed);
        let (dialer, client) = (on_clearnet(&log), client());
        let response = soon(client.send(&dialer, Request::get(&url).unwrap())).await.unwrap();
        soon(response.bytes()).await.unwrap();
        let again = soon(client.send(&dialer, Request::get(&url).unwrap())).await.unwrap_err();
        assert_unrecorded_request(&again);
        drop(client);
        let requests = tokio::task::spawn_blocking(move || served.join().unwrap());
        assert_eq!(soon(requests).await.unwrap(), 1, "requests that the server got");
        world.assert_silent_but_for(1);
    }

    async fn a_datagram_to_a_peer_that_cannot_be_recorded_is_not_sent(world: World) {
        let [inside, _] = INSIDE_NAMES;
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_nonblocking(true).unwrap();
        let port = peer.local_addr().unwrap().port();
        let log = Log::refusing();
        // The socket itself.
        log.passes.store(1, Ordering::Relaxed);
        let at = LocalEndpoint::new([127, 0, 0, 1].into(), 0);
        let datagrams = soon(on_clearnet_listening(&log).bind_datagram(&at)).await.unwrap();
        for to in [format!("127.0.0.1:{port}"), format!("{inside}:{port}"), format!("{REMOTE_NAME}:{port}")] {
            let error = soon(datagrams.send_to(b"no", &endpoint(&to))).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Unrecorded(_)), "{error:?}");
        }
        world.assert_silent_but_for(0);
        log.refuses.store(false, Ordering::Relaxed);
        soon(datagrams.send_to(b"yes", &endpoint(&format!("127.0.0.1:{port}")))).await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(peer.recv(&mut buffer).unwrap(), 3);
    }

    async fn a_connection_that_is_accepted_and_cannot_be_recorded_is_closed(_world: World) {
        let log = Log::refusing();
        log.passes.store(1, Ordering::Relaxed);
        let mut listener = soon(on_clearnet_listening(&log).listen(&LocalEndpoint::new([127, 0, 0, 1].into(), 0)))
            .await
            .unwrap();
        let to = std::net::SocketAddr::from(([127, 0, 0, 1], listener.local().port));
        let peer = thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(to).unwrap();
            stream.read(&mut [0; 16]).unwrap_or(0)
        });
        let error = soon(listener.accept()).await.map(drop).unwrap_err();
        assert!(matches!(error.cause(), Cause::Unrecorded(_)), "{error:?}");
        assert_eq!(peer.join().unwrap(), 0);
        assert_eq!(sealed::connections_opened(), 1);
    }
}

/// Clearnet where this host may listen.
fn on_clearnet_listening(log: &Arc<Log>) -> Dialer {
    let config = json!({ "clearnet": { "listen": ["127.0.0.1"], "allow": ["0.0.0.0/0", "::/0"] } });
    let (app, _) = app_with_audit(config, Some(Arc::clone(log) as _));
    dialer(&support::frame(&app, &json!({})), &app).unwrap()
}
