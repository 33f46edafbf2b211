//! The socket around the handshake.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, Step};
use crate::network::{BoxFuture, BoxStream, Network};
use crate::socks5::{Action, Handshake, Socks5Config};
use crate::tcp;

/// A network behind a SOCKS5 proxy.
///
/// Names go to the proxy as they are, to be looked up there. It has no way to look a name up and not connect.
///
/// ```no_run
/// use frame_net::Network;
/// use frame_net::socks5::{Socks5, Socks5Config};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let tor = Socks5::new(Socks5Config::new("127.0.0.1:9050".parse()?));
/// let stream = tor.connect(&"example.com:80".parse()?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Socks5 {
    config: Socks5Config,
}

impl Socks5 {
    /// A network with these settings. Nothing is connected yet.
    #[must_use]
    pub const fn new(config: Socks5Config) -> Self {
        Self { config }
    }

    async fn tunnel(&self, to: &Endpoint) -> Result<TcpStream, DriverError> {
        let Socks5Config { proxy, credentials, deadline } = &self.config;
        let deadline = Deadline::after(*deadline);
        let mut stream = tcp::connect(proxy, deadline).await?;
        let mut handshake = Handshake::new(to, credentials.as_ref());
        let mut input = [0; 32];
        loop {
            let step = Step::Socks5(handshake.stage());
            let failed = |cause| DriverError::new(step, proxy, cause);
            match handshake.action() {
                Action::Send(bytes) => {
                    deadline.bound(step, proxy, stream.write_all(bytes)).await?;
                    handshake.sent();
                }
                Action::Receive(most) => {
                    // Never more than belongs to the handshake: what follows is for whoever gets the stream.
                    let most = most.min(input.len());
                    let received = deadline.bound(step, proxy, stream.read(&mut input[..most])).await?;
                    if received == 0 {
                        return Err(failed(Cause::Closed));
                    }
                    handshake.receive(&input[..received]);
                }
                Action::Open => return Ok(stream),
                Action::Failed(error) => return Err(failed(Cause::Handshake(error))),
            }
        }
    }
}

impl Network for Socks5 {
    fn kind(&self) -> &'static str {
        "socks5"
    }

    fn connect<'a>(&'a self, to: &'a Endpoint) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        Box::pin(async move { Ok(Box::new(self.tunnel(to).await?) as BoxStream) })
    }
}
