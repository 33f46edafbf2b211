//! The server that the demonstration connects to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server on loopback that remembers who connected, and answers with it.
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
                let (mut stream, peer) = listener.accept().await?;
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(peer.ip());
                // Who went away does not want the answer.
                let _ = stream.write_all(format!("hello, {}\n", peer.ip()).as_bytes()).await;
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
