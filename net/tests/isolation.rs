//! Connections that are kept apart, and networks behind other networks.

mod support;

use frame_net::{Cause, ChosenBy, Dialer, DriverError, LocalEndpoint, NetworkError, dialer};
use frame_registry::{Frame, Options, ResolveContext};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use support::relay::{Relay, Request};
use support::{app, endpoint, frame, soon};

/// Sends back what it gets.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

/// Serves on behalf of `relay`, and leads every request to `to`. What is asked for comes out of the channel.
fn serve(relay: Relay, to: std::net::SocketAddr) -> (String, mpsc::UnboundedReceiver<Request>) {
    let address = relay.local_addr().unwrap().to_string();
    let (asked, requests) = mpsc::unbounded_channel();
    tokio::spawn(relay.serve(move |request| {
        asked.send(request.clone()).unwrap();
        Ok(to)
    }));
    (address, requests)
}

/// A proxy that takes any credentials, as Tor's does.
async fn tor() -> (String, mpsc::UnboundedReceiver<Request>) {
    serve(Relay::bind("127.0.0.1:0").await.unwrap().with_any_credentials(), echo().await)
}

fn isolating(proxy: &str) -> Value {
    json!({ "networks": { "app:tor": { "kind": "socks5", "proxy": proxy, "isolate": true } } })
}

/// Dials, and says which user name the proxy saw.
async fn username(dialer: &Dialer, requests: &mut mpsc::UnboundedReceiver<Request>) -> String {
    soon(dialer.connect(&endpoint("h:80"))).await.unwrap();
    soon(requests.recv()).await.unwrap().username.unwrap()
}

fn fork(parent: &Frame, app: &frame_registry::App, options: &Value) -> Frame {
    let options = Options::from_json(options).unwrap();
    let mut child = parent.fork();
    app.resolvers().resolve(&ResolveContext::new(app, Some(parent)), &options, child.pairs_mut()).unwrap();
    child.seal()
}

#[tokio::test]
async fn without_a_key_every_connection_has_credentials_of_its_own() {
    let (proxy, mut requests) = tor().await;
    let (app, _) = app(isolating(&proxy));
    let frame = frame(&app, &json!({ "network": "app:tor" }));
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.push(username(&dialer(&frame, &app).unwrap(), &mut requests).await);
    }
    // Under concurrency, too.
    let dialer = dialer(&frame, &app).unwrap();
    let to = endpoint("h:80");
    let dials: Vec<_> = (0..20)
        .map(|_| {
            let (dialer, to) = (dialer.clone(), to.clone());
            tokio::spawn(async move { dialer.connect(&to).await.map(drop) })
        })
        .collect();
    for dial in dials {
        soon(dial).await.unwrap().unwrap();
        seen.push(soon(requests.recv()).await.unwrap().username.unwrap());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 40);
    assert!(seen.iter().all(|name| !name.starts_with("<torS0X>")));
}

#[tokio::test]
async fn connections_of_one_key_have_the_same_credentials_and_those_of_another_have_others() {
    let (proxy, mut requests) = tor().await;
    let (app, _) = app(isolating(&proxy));
    let of = |key: &str| {
        let frame = frame(&app, &json!({ "network": "app:tor", "isolation": key }));
        dialer(&frame, &app).unwrap()
    };
    let a = username(&of("a"), &mut requests).await;
    let b = username(&of("b"), &mut requests).await;
    assert_ne!(a, b);
    assert_eq!(username(&of("a"), &mut requests).await, a);
    assert_eq!(username(&of("b").isolated("a".parse().unwrap()), &mut requests).await, a);
    assert!(!["a", "b"].contains(&a.as_str()), "the key is not what the proxy sees");
}

#[tokio::test]
async fn forks_inherit_the_key_and_may_choose_another() {
    let (proxy, mut requests) = tor().await;
    let (app, _) = app(isolating(&proxy));
    let parent = frame(&app, &json!({ "network": "app:tor", "isolation": "a" }));
    let of = |frame: &Frame| dialer(frame, &app).unwrap();
    let a = username(&of(&parent), &mut requests).await;
    let inherits = fork(&parent, &app, &json!({}));
    assert_eq!(username(&of(&inherits), &mut requests).await, a);
    let chooses = fork(&parent, &app, &json!({ "isolation": "b" }));
    assert_ne!(username(&of(&chooses), &mut requests).await, a);
}

#[tokio::test]
async fn a_network_that_cannot_keep_connections_apart_refuses_a_key() {
    let (proxy, mut requests) = serve(Relay::bind("127.0.0.1:0").await.unwrap(), echo().await);
    let (app, _) = app(json!({ "networks": { "app:plain": { "kind": "socks5", "proxy": proxy } } }));
    for options in [json!({ "network": "app:plain", "isolation": "a" }), json!({ "isolation": "a" })] {
        let dialer = dialer(&frame(&app, &options), &app).unwrap();
        let error = soon(dialer.connect(&endpoint("h:80"))).await.unwrap_err();
        let NetworkError::Connect { source, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(source.cause(), Cause::NotSupported { .. }) && !error.is_retryable(), "{error:?}");
    }
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn with_a_key_nothing_is_done_that_all_have_in_common() {
    let (proxy, _requests) = tor().await;
    let lan = json!({ "kind": "direct", "allow": ["127.0.0.0/8", "::1"], "listen": ["127.0.0.0/8"] });
    let tor = json!({ "kind": "socks5", "proxy": proxy, "isolate": true });
    let (app, _) = app(json!({ "networks": { "app:lan": lan, "app:tor": tor } }));
    let at = LocalEndpoint::new("127.0.0.1".parse().unwrap(), 0);
    let shared = dialer(&frame(&app, &json!({ "network": "app:lan" })), &app).unwrap();
    shared.listen(&at).await.unwrap();
    shared.bind_datagram(&at).await.unwrap();
    shared.lookup(&"localhost".parse().unwrap()).await.unwrap();
    for network in ["app:lan", "app:tor"] {
        let options = json!({ "network": network, "isolation": "a" });
        let dialer = dialer(&frame(&app, &options), &app).unwrap();
        let errors = [
            dialer.listen(&at).await.map(drop).unwrap_err(),
            dialer.bind_datagram(&at).await.map(drop).unwrap_err(),
            dialer.lookup(&"localhost".parse().unwrap()).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            let source =
                std::error::Error::source(&error).and_then(|source| source.downcast_ref::<DriverError>());
            assert!(matches!(source.unwrap().cause(), Cause::NotSupported { .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn who_chose_the_network_is_said_when_it_is_gone() {
    let (app, networks) = app(json!({
        "default": "app:down",
        "networks": { "app:down": { "kind": "socks5", "proxy": "127.0.0.1:1" } },
    }));
    let by_default = dialer(&frame_registry::FrameBuilder::new().seal(), &app).unwrap();
    let by_frame = dialer(&frame(&app, &json!({})), &app).unwrap();
    assert!(networks.unregister(&"app:down".parse().unwrap()));
    let to = endpoint("h:80");
    let chosen_by = |error: NetworkError| match error {
        NetworkError::NotFound { chosen_by, .. } => chosen_by,
        error => panic!("{error:?}"),
    };
    assert_eq!(chosen_by(soon(by_default.connect(&to)).await.unwrap_err()), ChosenBy::AppDefault);
    assert_eq!(chosen_by(soon(by_frame.connect(&to)).await.unwrap_err()), ChosenBy::Frame);
}

#[tokio::test]
async fn a_network_goes_through_another() {
    let target = echo().await;
    let (behind, mut asked_behind) = serve(Relay::bind("127.0.0.1:0").await.unwrap(), target);
    let front = Relay::bind("127.0.0.1:0").await.unwrap().with_credentials("front", "xyzzy");
    let (front, mut asked_front) = serve(front, behind.parse().unwrap());
    let (app, networks) = app(json!({ "networks": {
        // In an order in which neither can be made first.
        "app:a-behind": { "kind": "socks5", "proxy": "proxy.behind:1080", "via": "app:b-front" },
        "app:b-front": {
            "kind": "socks5",
            "proxy": front,
            "credentials": { "username": "front", "password": "xyzzy" },
        },
    } }));
    let dialer = dialer(&frame(&app, &json!({ "network": "app:a-behind" })), &app).unwrap();
    let mut stream = soon(dialer.connect(&endpoint("target.example:80"))).await.unwrap();
    assert_eq!(soon(asked_front.recv()).await.unwrap().to, endpoint("proxy.behind:1080"));
    assert_eq!(soon(asked_behind.recv()).await.unwrap().to, endpoint("target.example:80"));

    let sent = vec![7; 1 << 20];
    let mut received = vec![0; sent.len()];
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let (read, written) =
        soon(async { tokio::join!(from.read_exact(&mut received), to.write_all(&sent)) }).await;
    read.unwrap();
    written.unwrap();
    assert_eq!(received, sent);

    // A connection that is there goes on without the network in front; the next one is refused.
    assert!(networks.unregister(&"app:b-front".parse().unwrap()));
    stream.write_all(b"x").await.unwrap();
    assert_eq!(soon(stream.read_u8()).await.unwrap(), b'x');
    let error = soon(dialer.connect(&endpoint("target.example:80"))).await.unwrap_err();
    let text = support::failure(&error).1;
    assert!(text.contains("unknown network `app:b-front` (from a network that goes via it)"), "{text}");
}

#[tokio::test]
async fn one_deadline_covers_all_networks_in_a_row() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let behind = silent.local_addr().unwrap();
    let (front, _requests) = serve(Relay::bind("127.0.0.1:0").await.unwrap(), behind);
    let (app, _) = app(json!({ "networks": {
        "app:behind": { "kind": "socks5", "proxy": "h:1", "via": "app:front", "deadline": "100ms" },
        "app:front": { "kind": "socks5", "proxy": front },
    } }));
    let dialer = dialer(&frame(&app, &json!({ "network": "app:behind" })), &app).unwrap();
    let error = soon(dialer.connect(&endpoint("h:80"))).await.unwrap_err();
    let NetworkError::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source.cause(), Cause::TimedOut { .. }) && error.is_retryable(), "{error:?}");
}
