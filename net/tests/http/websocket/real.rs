//! Real servers: one of another make, and proxies in between.

use frame_net::http::websocket::{CloseFrame, Message, WebSocket, WebSocketRequest};
use serde_json::json;

use super::{connect, echo, world};
use crate::real::Certified;
use crate::servers::web::Web;
use crate::servers::websocketd::Websocketd;
use crate::support::soon;

async fn assert_echoes(mut socket: WebSocket, end: &str) {
    for len in [0, 1, 125, 126, 65_535, 65_536, 500_000] {
        let message = Message::Text("ä".repeat(len / 2));
        soon(socket.send(message.clone())).await.unwrap();
        let echoed = Message::Text("ä".repeat(len / 2) + end);
        assert!(soon(socket.receive()).await.unwrap() == Some(echoed), "{len}");
    }
    soon(socket.close(CloseFrame::normal())).await.unwrap();
    assert_eq!(soon(socket.receive()).await.unwrap(), None);
}

#[tokio::test]
async fn nginx_passes_messages_and_the_close_on() {
    let backend = echo(None).await;
    let certified = Certified::new();
    let settings = format!(
        "location / {{ proxy_pass http://{backend}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
         proxy_set_header Connection upgrade; }} location /none {{ return 404; }}"
    );
    let Some(server) = Web::nginx(Some(&certified.identity), &settings).await else { return };
    let world = certified.world();
    let request = |path: &str| WebSocketRequest::new(&format!("wss://{}{path}", server.address)).unwrap();
    assert_echoes(connect(&world, request("/")).await.unwrap(), "").await;
    let error = connect(&world, request("/none")).await.unwrap_err();
    assert!(error.to_string().ends_with("with status 404 Not Found"), "{error}");
}

#[tokio::test]
async fn haproxy_and_caddy_pass_messages_on() {
    let backend = echo(None).await;
    let certified = Certified::new();
    let Some(haproxy) = Web::haproxy(&certified.identity, backend, "").await else { return };
    let request = WebSocketRequest::new(&format!("wss://{}/", haproxy.address)).unwrap();
    assert_echoes(connect(&certified.world(), request).await.unwrap(), "").await;
    let settings = format!("  reverse_proxy {backend}");
    let Some(caddy) = Web::caddy(&certified.identity, &settings).await else { return };
    let request = WebSocketRequest::new(&format!("wss://{}/", caddy.address)).unwrap();
    assert_echoes(connect(&certified.world(), request).await.unwrap(), "").await;
}

#[tokio::test]
async fn a_server_in_go_echoes_lines() {
    let Some(server) = Websocketd::echo().await else { return };
    let request = WebSocketRequest::new(&format!("ws://{}/", server.address)).unwrap();
    let world = world();
    let dialer = world.dialer(&json!({}));
    let mut socket = soon(world.client.websocket(&dialer, request)).await.unwrap();
    for text in ["one", "two", "ä🦀"] {
        soon(socket.send(text)).await.unwrap();
        assert_eq!(soon(socket.receive()).await.unwrap(), Some(text.into()));
    }
    soon(socket.close(CloseFrame::normal())).await.unwrap();
}
