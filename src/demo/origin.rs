//! The server that the demonstration connects to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server on loopback that remembers who connected, and answers a request with it.
pub(super) struct Origin {
    address: SocketAddr,
    peers: Arc<Mutex<Vec<IpAddr>>>,
    server: JoinHandle<io::Result<()>>,
}

impl Origin {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let peers: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
        let seen = Arc::clone(&peers);
        let server = tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await?;
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(peer.ip());
                // Who went away does not want the answer.
                let _ = answer(stream, peer.ip()).await;
            }
        });
        Ok(Self { address, peers, server })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who connected since this was last asked.
    pub(super) fn take_peers(&self) -> Vec<IpAddr> {
        std::mem::take(&mut *self.peers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers one request, of HTTP/1.1 and without a body.
async fn answer(stream: TcpStream, peer: IpAddr) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let body = format!("hello, {peer}");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await
}
