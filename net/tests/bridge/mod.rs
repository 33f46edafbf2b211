//! A SAM bridge that says what the test tells it to.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::io;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::soon;

pub const HELLO: &str = "HELLO VERSION MIN=3.1 MAX=3.3";

pub struct Bridge(TcpListener);

impl Bridge {
    pub async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    /// The next socket that a client opens.
    pub async fn socket(&self) -> Socket {
        let (stream, _) = soon(self.0.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Socket { stream, asked: String::new(), kept: None }
    }

    /// The next socket, after the greeting, with a request that begins so.
    pub async fn request(&self, expected: &str) -> Socket {
        let mut socket = self.socket().await;
        socket.expect(HELLO).await;
        socket.send("HELLO REPLY RESULT=OK VERSION=3.1\n").await;
        socket.asked = socket.line().await;
        assert!(socket.asked.starts_with(expected), "{} instead of {expected}", socket.asked);
        socket
    }

    /// Creates a session with the private key number `key`, and gives its socket.
    pub async fn session(&self, key: u8) -> Socket {
        let mut socket = self.request("SESSION CREATE").await;
        socket.create(key).await;
        socket
    }

    /// Makes a connection.
    pub async fn connection(&self) -> Socket {
        let mut socket = self.request("STREAM CONNECT").await;
        socket.send("STREAM STATUS RESULT=OK\n").await;
        socket
    }

    /// Both. The session is kept with the connection.
    pub async fn session_and_connection(&self, key: u8) -> Socket {
        let control = self.session(key).await;
        self.connection().await.keep(control)
    }

    /// On loopback a connection is there as soon as `connect` has returned, so there is nothing to wait for.
    pub fn assert_untouched(&self) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(self.0.poll_accept(&mut context).is_pending(), "nobody connects");
    }
}

/// The bridge's end of a connection with a client.
pub struct Socket {
    stream: TcpStream,
    asked: String,
    kept: Option<Box<Socket>>,
}

impl Socket {
    /// A line, without its end.
    pub async fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            match soon(self.stream.read_u8()).await.unwrap() {
                b'\n' => return String::from_utf8(line).unwrap(),
                byte => line.push(byte),
            }
        }
    }

    pub async fn expect(&mut self, line: &str) {
        assert_eq!(self.line().await, line);
    }

    pub async fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        soon(self.stream.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends what the client may not want to read to its end.
    pub async fn try_send(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Sends this again and again, and reads nothing, until the client has closed it.
    pub async fn flood(mut self, text: &str) {
        soon(async { while self.stream.write_all(text.as_bytes()).await.is_ok() {} }).await;
    }

    pub async fn shut_down(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Creates the session that was asked for, with the private key number `key`.
    pub async fn create(&mut self, key: u8) {
        self.send(&format!("SESSION STATUS RESULT=OK DESTINATION={}\n", private_key(key))).await;
    }

    /// The request.
    pub fn asked(&self) -> &str {
        &self.asked
    }

    /// Keeps another socket open for as long as this one.
    pub fn keep(self, other: Self) -> Self {
        Self { kept: Some(Box::new(other)), ..self }
    }

    /// The socket that is kept, which is the only one from now on.
    pub fn kept(mut self) -> Self {
        self.take_kept()
    }

    pub fn take_kept(&mut self) -> Self {
        *self.kept.take().unwrap()
    }

    /// The connection itself, for what is sent after the protocol of the bridge.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Waits until the client has closed it, and sent nothing before.
    pub async fn closed(mut self) {
        let mut rest = Vec::new();
        // A client that closes with something unread resets the connection.
        if let Err(error) = soon(self.stream.read_to_end(&mut rest)).await {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        assert_eq!(rest, b"");
    }
}

fn keys(number: u8) -> String {
    let letter = char::from(b'A' + number);
    format!("{}BQAEAAcAA", letter.to_string().repeat(512))
}

/// A destination, another one for each number below 26.
pub fn destination(number: u8) -> String {
    format!("{}A==", keys(number))
}

/// Its private key.
pub fn private_key(number: u8) -> String {
    format!("{}{}", keys(number), "A".repeat(387))
}

/// Its name.
pub fn name(number: u8) -> String {
    let standard = destination(number).replace('-', "+").replace('~', "/");
    let bytes = data_encoding::BASE64.decode(standard.as_bytes()).unwrap();
    format!("{}.b32.i2p", BASE32_NOPAD.encode(&Sha256::digest(bytes)).to_lowercase())
}
