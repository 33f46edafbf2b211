//! What proxies connect to.

use std::net::SocketAddr;

use frame_net::Endpoint;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::soon;

/// A server that holds what comes to it, for the test to play its part.
pub struct Origin(TcpListener);

impl Origin {
    /// On any port of 127.0.0.1.
    pub async fn new() -> Self {
        Self::at("127.0.0.1:0").await
    }

    /// On any port of `::1`.
    pub async fn v6() -> Self {
        Self::at("[::1]:0").await
    }

    async fn at(address: &str) -> Self {
        Self(TcpListener::bind(address).await.unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub fn endpoint(&self) -> Endpoint {
        self.address().try_into().unwrap()
    }

    /// Its end of the next connection.
    pub async fn accept(&self) -> TcpStream {
        soon(self.0.accept()).await.unwrap().0
    }
}

/// Bytes that do not repeat, so that none can be lost, doubled or moved unseen. Another `seed` gives others.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    // Xorshift, which zero would not leave.
    let mut state = seed + 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(len).collect()
}

/// Sends `bytes` from one end to the other, which gets exactly these.
pub async fn transfer(from: &mut (impl AsyncWrite + Unpin), to: &mut (impl AsyncRead + Unpin), bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    let send = async {
        from.write_all(bytes).await.unwrap();
        from.flush().await.unwrap();
    };
    let receive = async {
        to.read_exact(&mut received).await.unwrap();
    };
    soon(async { tokio::join!(send, receive) }).await;
    assert!(received == bytes, "other bytes arrive than were sent");
}

/// The two ends of a connection reach each other, both ways.
pub async fn assert_connected(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    origin: &mut (impl AsyncRead + AsyncWrite + Unpin),
) {
    transfer(client, origin, b"GET / HTTP/1.0\r\n\r\n").await;
    transfer(origin, client, b"HTTP/1.0 204 No Content\r\n\r\n").await;
}

/// Nothing more comes, in good order.
pub async fn assert_ended(reader: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    soon(reader.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
}
