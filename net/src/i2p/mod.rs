//! I2P, through the SAM bridge of a router (version 3.1 to 3.3 of the protocol).
//!
//! [`I2p`] is the network. Underneath, a machine without I/O says what to send to the bridge and reads what it
//! answers, and a thin shell has the sockets. The first use creates a *session*: the destination that this network is
//! on I2P, with tunnels of its own, which a router takes some 20 seconds to build. All connections and the listener
//! share it.

mod bridge;
mod config;
mod destination;
mod error;
mod exchange;
mod message;
mod session;
mod sessions;
mod stream;

use std::fmt;
use std::sync::Arc;

use frame_registry::BoxError;

use crate::deadline::Deadline;
use crate::driver::Driver;
use crate::endpoint::{Endpoint, HostName, LocalEndpoint};
use crate::error::{Cause, DriverError, DriverStep};
use crate::i2p::bridge::Bridge;
use crate::i2p::destination::I2pName;
use crate::i2p::error::failed;
use crate::i2p::exchange::Request;
use crate::i2p::session::Session;
use crate::i2p::sessions::Sessions;
use crate::i2p::stream::{I2pListener, I2pStream};
use crate::isolation::IsolationKey;
use crate::network::{BoxFuture, BoxListener, BoxStream, Network, NetworkId};
use crate::proxy::Via;
use crate::registry::NetworkRegistry;

pub use self::config::{
    I2pConfig, LocalDestination, SamCredentials, SamCredentialsError, SessionOptionError, SessionOptions,
};
pub use self::destination::{Destination, DestinationError, PrivateKey};
pub use self::error::{SamError, SamRefusal};
pub use self::exchange::Stage;

/// I2P, through the SAM bridge of a router.
///
/// **Session.** The first use creates the session that everything shares; all who come in the meantime wait for the
/// same one, and who goes away spoils it for nobody. When it is over, because the router was restarted, say, the next
/// use creates another one, at the same destination. After a failure there is none for half a second, then twice as
/// long, up to a minute, and who asks in the meantime is told at once ([`SamError::Backoff`]). The session ends with
/// the network, its listener and its connections, whichever is last. A bridge that leaves a name without an answer, or
/// does not read what it is sent, ends it, too.
///
/// **Way.** A session is never continued on another way to the bridge: once the network that it goes
/// [`via`](I2pConfig::via) is another, the next use creates a session. A transient destination is another one, too,
/// unless there is a listener. Connections of the session before go on; where the destination has to stay the same, the
/// router refuses the new session until they are closed.
///
/// **Connecting.** Only names that end in `.i2p` are connected to; of others, and of addresses, nobody is asked. The
/// router looks a name up. One that does not take names for this (i2pd before 2.38) is asked for the destination
/// first; nothing is remembered here. The port is given to routers that know ports (SAM 3.2), those of i2pd do not. A
/// connection is there when the router says so, which does not have to mean that the destination has said anything:
/// see [`first_byte_timeout`](I2pConfig::first_byte_timeout). Routers close both directions of a connection when one
/// is closed.
///
/// **Listening.** [`listen`](Network::listen) takes no address, as the destination is the address. A destination has
/// one listener. It takes the connections to its port, and all of them if that is 0 or the router knows no ports.
/// `local` and the peers are given as `….b32.i2p` names.
///
/// **Isolation.** There is none: all connections come from one destination, which is what others know them by. To be
/// somebody else takes a session more, with tunnels of its own and 20 seconds to build them: that is a network more,
/// for who configures it to decide.
///
/// ```no_run
/// use frame_net::i2p::{I2p, I2pConfig};
/// use frame_net::{Direct, LocalEndpoint, Network, NetworkRegistry};
/// use std::sync::Arc;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let networks = NetworkRegistry::new(Arc::new(Direct::default()));
/// let i2p = I2p::new(I2pConfig::new("127.0.0.1:7656".parse()?), &networks);
/// let stream = i2p.connect(&"stats.i2p:80".parse()?, None).await?;
///
/// let mut listener = i2p.listen(&LocalEndpoint::port(0)).await?;
/// println!("I am {}", listener.local().host);
/// let (stream, peer) = listener.accept().await?;
/// # Ok(())
/// # }
/// ```
pub struct I2p {
    sessions: Arc<Sessions>,
}

/// Makes [`I2p`] networks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct I2pDriver;

impl Driver for I2pDriver {
    type Config = I2pConfig;
    const KIND: &'static str = "i2p";
    const SYNONYMS: &'static [(&'static str, &'static str)] = &[
        ("address", "sam"),
        ("bridge", "sam"),
        ("endpoint", "sam"),
        ("host", "sam"),
        ("proxy", "sam"),
        ("server", "sam"),
        ("login", "user"),
        ("username", "user"),
        ("pass", "password"),
        ("key", "destination.private_key"),
        ("private_key", "destination.private_key"),
        ("signature_type", "destination.signature_type"),
        ("key", "private_key"),
        ("through", "via"),
        ("timeout", "deadline"),
    ];

    fn create(&self, config: I2pConfig, networks: &NetworkRegistry) -> Result<Arc<dyn Network>, BoxError> {
        Ok(Arc::new(I2p::new(config, networks)))
    }
}

impl I2p {
    /// A network with these settings. The one that it goes through, if any, is looked up among `networks` when it
    /// connects. Nothing is connected yet.
    #[must_use]
    pub fn new(config: I2pConfig, networks: &NetworkRegistry) -> Self {
        let via = Via::new(config.via.clone(), networks);
        Self { sessions: Arc::new(Sessions::new(Bridge { config, via })) }
    }

    /// The destination that `name` stands for, as the router knows it. To connect to a name this is not needed.
    ///
    /// It creates the session unless it stands: without one, routers find only names of their address book.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the answer.
    ///
    /// # Errors
    ///
    /// [`DriverError`], with a [`SamError`] if the name is not on I2P or the router does not find it.
    pub async fn destination(&self, name: &HostName) -> Result<Destination, DriverError> {
        let failed = |error| failed(DriverStep::Lookup, name, error);
        let i2p_name = I2pName::new(name).map_err(failed)?;
        let session = self.sessions.get().await.map_err(failed)?;
        self.look_up(&session, i2p_name, Deadline::after(self.config().deadline)).await
    }

    fn config(&self) -> &I2pConfig {
        &self.sessions.bridge().config
    }

    async fn look_up(
        &self,
        session: &Session,
        name: I2pName,
        deadline: Deadline,
    ) -> Result<Destination, DriverError> {
        let found = deadline.timeout(session.look_up(name)).await.and_then(|found| found);
        found.map_err(|cause| DriverError::new(DriverStep::Sam(Stage::Lookup), &self.config().sam, cause))
    }

    async fn dial(&self, to: &Endpoint) -> Result<I2pStream, DriverError> {
        let failed = |error| failed(DriverStep::Connect, to, error);
        let name = I2pName::of(to.host()).map_err(failed)?;
        let session = self.sessions.get().await.map_err(failed)?;
        match self.dial_in(session, &name, to.port()).await {
            // Nothing was sent to anybody.
            Err(error) if is_over(&error) => {
                let session = self.sessions.get().await.map_err(failed)?;
                self.dial_in(session, &name, to.port()).await
            }
            dialled => dialled,
        }
    }

    async fn dial_in(
        &self,
        session: Arc<Session>,
        name: &I2pName,
        port: u16,
    ) -> Result<I2pStream, DriverError> {
        let deadline = Deadline::after(self.config().deadline);
        let dialled = match self.request(&session, name.as_str(), port, deadline).await {
            Err(error) if is_refused_for(&error, &SamRefusal::InvalidKey) => {
                let destination = self.look_up(&session, name.clone(), deadline).await?;
                self.request(&session, &destination.to_string(), port, deadline).await
            }
            dialled => dialled,
        };
        if dialled.as_ref().is_err_and(is_over) {
            session.end();
        }
        dialled
    }

    async fn request(
        &self,
        session: &Arc<Session>,
        to: &str,
        port: u16,
        deadline: Deadline,
    ) -> Result<I2pStream, DriverError> {
        let bridge = self.sessions.bridge();
        let (socket, exchange) =
            session.ask(bridge, Request::Connect { id: session.id(), to, port }, deadline).await?;
        bridge.outcome(exchange)?;
        Ok(I2pStream::new(socket, Arc::clone(session), bridge.config.first_byte_timeout))
    }
}

/// Whether a request failed because the session is over, and was not known to be: the router was restarted, or there is
/// another way to the bridge.
fn is_over(error: &DriverError) -> bool {
    let is_known = matches!(error.cause(), Cause::Sam(error) if matches!(**error, SamError::SessionEnded));
    is_known || is_refused_for(error, &SamRefusal::InvalidId)
}

fn is_refused_for(error: &DriverError, refusal: &SamRefusal) -> bool {
    matches!(error.cause(), Cause::Sam(error) if error.is_refusal(refusal))
}

impl Network for I2p {
    fn kind(&self) -> &'static str {
        I2pDriver::KIND
    }

    fn via(&self) -> Option<&NetworkId> {
        self.sessions.bridge().via.id()
    }

    fn connect<'a>(
        &'a self,
        to: &'a Endpoint,
        _: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        Box::pin(async move { Ok(Box::new(self.dial(to).await?) as BoxStream) })
    }

    fn listen<'a>(&'a self, at: &'a LocalEndpoint) -> BoxFuture<'a, Result<BoxListener, DriverError>> {
        Box::pin(async move {
            if at.address.is_some() {
                let what = "listening at an IP address";
                let cause = Cause::NotSupported { kind: self.kind(), what };
                return Err(DriverError::new(DriverStep::Listen, at, cause));
            }
            Ok(Box::new(I2pListener::new(&self.sessions, at).await?) as BoxListener)
        })
    }
}

impl fmt::Debug for I2p {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("I2p").field(self.sessions.bridge()).finish()
    }
}
