//! SOCKS5 networks: the protocol (RFC 1928) with user name and password (RFC 1929).

mod config;
mod handshake;

use std::sync::Arc;

use frame_registry::BoxError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::deadline::Deadline;
use crate::direct::OverlayGuard;
use crate::driver::Driver;
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, DriverStep};
use crate::isolation::{Isolation, IsolationKey, Isolator};
use crate::network::{BoxFuture, BoxStream, Network, NetworkId};
use crate::proxy;
use crate::proxy::{PROXY_SYNONYMS, Via};
use crate::registry::NetworkRegistry;

use self::handshake::{Action, Handshake};

pub use self::config::{Credentials, CredentialsError, Socks5Config};
pub use self::handshake::{HandshakeError, Refusal, Stage};
pub use crate::proxy::Authentication;

/// A network behind a SOCKS5 proxy.
///
/// Names go to the proxy as they are, to be looked up there. Whom it may be asked for, [`Socks5Config`] says; unless that
/// is given special addresses and `localhost` are refused. It has no way to look a name up and not connect, to
/// listen, or to carry datagrams: what RFC 1928 has for the latter two, Tor has not.
///
/// ```no_run
/// use frame_net::socks5::{Socks5, Socks5Config};
/// use frame_net::{Direct, Network, NetworkRegistry};
/// use std::sync::Arc;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let networks = NetworkRegistry::new(Arc::new(Direct::default()));
/// let tor = Socks5::new(Socks5Config::new("127.0.0.1:9050".parse()?), &networks);
/// let stream = tor.connect(&"example.com:80".parse()?, None).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Socks5 {
    config: Socks5Config,
    guard: OverlayGuard,
    via: Via,
    isolator: Isolator,
}

/// Makes [`Socks5`] networks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Socks5Driver;

impl Driver for Socks5Driver {
    type Config = Socks5Config;
    const KIND: &'static str = "socks5";
    const SYNONYMS: &'static [(&'static str, &'static str)] = PROXY_SYNONYMS;

    fn create(&self, config: Socks5Config, networks: &NetworkRegistry) -> Result<Arc<dyn Network>, BoxError> {
        Ok(Arc::new(Socks5::new(config, networks)))
    }
}

impl Socks5 {
    /// A network with these settings. The one that it goes through, if any, is looked up among `networks` when it
    /// connects. Nothing is connected yet.
    #[must_use]
    pub fn new(config: Socks5Config, networks: &NetworkRegistry) -> Self {
        let via = Via::new(config.via.clone(), networks);
        let guard = OverlayGuard::new(&config.allow, &config.deny, config.default);
        Self { config, guard, via, isolator: Isolator::default() }
    }

    async fn tunnel(
        &self,
        to: &Endpoint,
        isolation: Option<&IsolationKey>,
    ) -> Result<BoxStream, DriverError> {
        let Socks5Config { proxy, authentication, deadline, .. } = &self.config;
        let deadline = Deadline::after(*deadline);
        let credentials =
            authentication.credentials(&self.isolator, isolation, Credentials::new).map_err(|error| {
                DriverError::new(DriverStep::Socks5(Stage::Greeting), proxy, Cause::Io(error))
            })?;
        let mut handshake = Handshake::new(to, credentials.as_deref());
        let mut is_connected = false;
        // One timer for all of it.
        let opened = deadline.timeout(async {
            let stream = self.via.connect(proxy, deadline.covered_for(proxy)).await?;
            is_connected = true;
            Ok(exchange(stream, &mut handshake).await)
        });
        let cause = match opened.await {
            Ok(Ok(Ok(stream))) => return Ok(stream),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(Err(cause))) | Err(cause) => cause,
        };
        let step = if is_connected { DriverStep::Socks5(handshake.stage()) } else { DriverStep::Connect };
        Err(DriverError::new(step, proxy, cause))
    }
}

/// Does what the handshake says, until the connection is open.
async fn exchange(mut stream: BoxStream, handshake: &mut Handshake<'_>) -> Result<BoxStream, Cause> {
    // More than a proxy says at a time: a read that leaves room in the buffer needs no second one to find out that there
    // is no more. What comes after the handshake is for whoever gets the stream.
    let mut input = [0; 64];
    let mut unread = 0..0;
    loop {
        match handshake.action() {
            Action::Send(bytes) => {
                stream.write_all(bytes).await?;
                // A network in between may gather what it is given.
                stream.flush().await?;
                handshake.sent();
            }
            Action::Receive(_) => {
                if unread.is_empty() {
                    let received = stream.read(&mut input).await?;
                    if received == 0 {
                        return Err(Cause::Closed);
                    }
                    unread = 0..received;
                }
                unread.start += handshake.receive(&input[unread.clone()]);
            }
            Action::Open => return Ok(proxy::prepend(&input[unread], stream)),
            Action::Failed(error) => return Err(Cause::Handshake(error)),
        }
    }
}

impl Network for Socks5 {
    fn kind(&self) -> &'static str {
        Socks5Driver::KIND
    }

    fn via(&self) -> Option<&NetworkId> {
        self.via.id()
    }

    fn isolation(&self) -> Isolation {
        self.config.authentication.isolation()
    }

    fn connect<'a>(
        &'a self,
        to: &'a Endpoint,
        isolation: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        Box::pin(async move {
            let denied = |denied| DriverError::new(DriverStep::Connect, to, Cause::Denied(denied));
            self.guard.check(to).map_err(denied)?;
            self.tunnel(to, isolation).await
        })
    }

    fn carry<'a>(&'a self, to: &'a Endpoint) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        Box::pin(self.tunnel(to, None))
    }
}
