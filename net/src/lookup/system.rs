//! Names looked up by the operating system, where name servers are not configured in a file.

use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};

use tokio::sync::oneshot;

/// Returns the addresses of `name`. The system is asked on a thread of its own, which cannot be called off: `permit` is held until
/// it has answered, even if the future is dropped before. Permits bound the threads, and a thread that the system refuses is an
/// error, where tokio's own threads would panic.
async fn resolve<P: Send + 'static>(name: String, permit: P) -> io::Result<Vec<IpAddr>> {
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name("frame-lookup".to_owned());
    thread.spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        drop(permit);
        // If it is not waited for any more, there is nothing to tell.
        let _ = answer.send(found.map(|found| found.map(|address| address.ip()).collect()));
    })?;
    answered.await.map_err(io::Error::other)?
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
