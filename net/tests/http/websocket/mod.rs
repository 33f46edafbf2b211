//! WebSockets, against servers that a test scripts frame by frame, and real ones.

mod closing;
mod fragments;
mod handshake;
mod hostile;
mod keepalive;
mod messages;
mod overlay;
mod real;

use std::net::SocketAddr;

use frame_net::BoxStream;
use frame_net::http::HttpConfig;
use frame_net::http::websocket::{WebSocket, WebSocketError, WebSocketRequest};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::support::soon;
use crate::{World, world_with};

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The last frame of a message.
const FIN: u8 = 0x80;

/// A frame as servers send it: RFC 6455, section 5.2.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let len = match len {
        0..126 => vec![u8::try_from(len).unwrap()],
        126..65_536 => [&[126][..], &u16::try_from(len).unwrap().to_be_bytes()].concat(),
        _ => [&[127][..], &u64::try_from(len).unwrap().to_be_bytes()].concat(),
    };
    [&[first][..], &len, payload].concat()
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A frame of the client, unmasked: its first byte and its payload.
async fn read_frame(stream: &mut BoxStream) -> std::io::Result<(u8, Vec<u8>)> {
    let (first, second) = (stream.read_u8().await?, stream.read_u8().await?);
    assert!(second & 0x80 != 0, "a client masks its frames");
    let len = match second & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        len => u64::from(len),
    };
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(len).unwrap()];
    stream.read_exact(&mut payload).await?;
    for (byte, mask) in payload.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
    Ok((first, payload))
}

/// The code and the reason of the next frame, which closes the connection.
async fn read_close(stream: &mut BoxStream) -> (u16, String) {
    let (first, payload) = read_frame(stream).await.unwrap();
    assert_eq!(first, FIN | CLOSE, "{payload:?}");
    let (code, reason) = payload.split_first_chunk().unwrap();
    (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap())
}

/// The head of a request.
async fn read_head(stream: &mut BoxStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// What the server answers to the key in `head`.
fn accept(head: &str) -> String {
    let key = header(head, "sec-websocket-key").unwrap();
    let hash = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    data_encoding::BASE64.encode(&hash)
}

/// The response that completes the handshake of `head`, with these further headers.
fn switch(head: &str, further: &str) -> String {
    let accept = accept(head);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \
         {accept}\r\n{further}\r\n"
    )
}

/// Completes the handshake of a client, and returns the head of its request.
pub(crate) async fn accepted(mut stream: BoxStream) -> (BoxStream, String) {
    let head = read_head(&mut stream).await;
    stream.write_all(switch(&head, "").as_bytes()).await.unwrap();
    (stream, head)
}

/// A message of text, as servers send it.
pub(crate) fn text(text: &str) -> Vec<u8> {
    frame(FIN | TEXT, text.as_bytes())
}

/// The frame that closes a connection.
pub(crate) fn closed(code: u16, reason: &str) -> Vec<u8> {
    close(code, reason)
}

/// A server of one connection that does what `script` says, from the first byte on.
async fn raw_server<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    script: impl FnOnce(BoxStream) -> F + Send + 'static,
) -> Server<T> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        script(Box::new(stream)).await
    });
    Server { address, task }
}

/// The same, which completes the handshake first.
async fn server<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    script: impl FnOnce(BoxStream) -> F + Send + 'static,
) -> Server<T> {
    raw_server(|mut stream| async move {
        let head = read_head(&mut stream).await;
        stream.write_all(switch(&head, "").as_bytes()).await.unwrap();
        script(stream).await
    })
    .await
}

struct Server<T> {
    address: SocketAddr,
    task: JoinHandle<T>,
}

impl<T> Server<T> {
    fn request(&self) -> WebSocketRequest {
        WebSocketRequest::new(&format!("ws://{}/", self.address)).unwrap()
    }

    /// What the script returns.
    async fn served(self) -> T {
        soon(self.task).await.unwrap()
    }
}

/// A server that echoes messages to any number of clients.
async fn echo(tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                let mut stream: BoxStream = match tls {
                    None => Box::new(stream),
                    Some(tls) => Box::new(tls.accept(stream).await.unwrap()),
                };
                let head = read_head(&mut stream).await;
                stream.write_all(switch(&head, "").as_bytes()).await.unwrap();
                let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() || message.is_binary() {
                        socket.send(message).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

fn world() -> World {
    world_with(&json!({}), HttpConfig::default())
}

async fn connect(world: &World, request: WebSocketRequest) -> Result<WebSocket, WebSocketError> {
    soon(world.client.websocket(&world.dialer(&json!({})), request)).await
}

/// A connection to a server that does what `script` says once the handshake is done.
async fn connected<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    script: impl FnOnce(BoxStream) -> F + Send + 'static,
) -> (WebSocket, Server<T>) {
    let server = server(script).await;
    let socket = connect(&world(), server.request()).await.unwrap();
    (socket, server)
}

/// Reads until the client closes.
async fn drain(mut stream: BoxStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A client that closes with something unread resets the connection.
    let _ = stream.read_to_end(&mut rest).await;
    rest
}
