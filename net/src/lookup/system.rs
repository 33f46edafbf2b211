//! Names looked up by the operating system, where name servers are not configured in a file.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

/// Returns the addresses of `name`. The system is asked on a thread, which cannot be called off: `permit` is held until it
/// has answered, even if the future is dropped before.
pub(super) async fn resolve<P: Send + 'static>(name: String, permit: P) -> io::Result<Vec<IpAddr>> {
    let asked = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        drop(permit);
        found
    });
    let found: Vec<_> = asked.await.map_err(io::Error::other)??.collect();
    Ok(found.iter().map(SocketAddr::ip).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_knows_this_host_and_the_permit_is_given_back() {
        let (permit, mut held) = tokio::sync::oneshot::channel::<()>();
        let found = resolve("localhost".to_owned(), permit).await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
        assert!(
            held.try_recv().is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Closed)
        );
    }
}
