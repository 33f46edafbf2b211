//! Networks behind an HTTP proxy: the method CONNECT (RFC 9110, section 9.3.6) over HTTP/1.1 (RFC 9112), with basic
//! authentication (RFC 7617) and TLS to the proxy.

mod config;
mod request;

use std::sync::Arc;
use std::{fmt, io};

use frame_registry::BoxError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::deadline::Deadline;
use crate::direct::OverlayGuard;
use crate::driver::Driver;
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, DriverStep};
use crate::isolation::{Isolation, IsolationKey, Isolator};
use crate::network::{BoxFuture, BoxStream, Network, NetworkId};
use crate::proxy::{PROXY_SYNONYMS, Via};
use crate::registry::NetworkRegistry;
use crate::settings::SettingError;
use crate::{proxy, tls};

use self::request::{ConnectAction, ConnectRequest};

pub use self::config::{BasicCredentials, BasicCredentialsError, HttpConnectConfig};
pub use self::request::{ConnectStage, HttpConnectError};
pub use crate::proxy::Authentication;
pub use crate::tls::Trust;

/// A network behind an HTTP proxy that serves CONNECT.
///
/// Names go to the proxy as they are, to be looked up there. Whom it may be asked for, [`HttpConnectConfig`] says; unless
/// that is given special addresses and `localhost` are refused. It has no way to look a name up and not connect, to
/// listen, or to carry datagrams.
///
/// Many proxies connect to few ports: Squid to 443 unless it is configured otherwise.
///
/// ```no_run
/// use frame_net::http_connect::{HttpConnect, HttpConnectConfig, Trust};
/// use frame_net::{Direct, Network, NetworkRegistry};
/// use std::sync::Arc;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let networks = NetworkRegistry::new(Arc::new(Direct::default()));
/// let config = HttpConnectConfig::new("proxy.example:3129".parse()?).with_tls(Trust::default());
/// let proxy = HttpConnect::new(config, &networks)?;
/// let stream = proxy.connect(&"example.com:443".parse()?, None).await?;
/// # Ok(())
/// # }
/// ```
pub struct HttpConnect {
    config: HttpConnectConfig,
    guard: OverlayGuard,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    via: Via,
    isolator: Isolator,
}

/// Makes [`HttpConnect`] networks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HttpConnectDriver;

impl Driver for HttpConnectDriver {
    type Config = HttpConnectConfig;
    const KIND: &'static str = "http-connect";
    const SYNONYMS: &'static [(&'static str, &'static str)] = PROXY_SYNONYMS;

    fn create(
        &self,
        config: HttpConnectConfig,
        networks: &NetworkRegistry,
    ) -> Result<Arc<dyn Network>, BoxError> {
        let network = HttpConnect::new(config, networks).map_err(|error| {
            let setting = match error {
                HttpConnectTlsError::Config(_) => "ca_file",
                HttpConnectTlsError::Name => "proxy",
            };
            SettingError::new(setting, error)
        });
        Ok(Arc::new(network?))
    }
}

/// TLS with a proxy cannot be configured so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpConnectTlsError {
    /// A root certificate is not valid.
    #[error("TLS with the proxy cannot be configured so: {0}")]
    Config(#[from] rustls::Error),
    /// No certificate can have the name of the proxy.
    #[error("no certificate can have the name of the proxy, so that it can never be proven")]
    Name,
}

impl HttpConnect {
    /// A network with these settings. The one that it goes through, if any, is looked up among `networks` when it
    /// connects. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`HttpConnectTlsError`] if TLS with the proxy cannot be configured so.
    pub fn new(config: HttpConnectConfig, networks: &NetworkRegistry) -> Result<Self, HttpConnectTlsError> {
        let tls = match &config.tls {
            None => None,
            Some(trust) => {
                let name = tls::server_name(config.proxy.host()).map_err(|_| HttpConnectTlsError::Name)?;
                Some((tls::connector(trust, &[b"http/1.1"])?, name))
            }
        };
        let guard = OverlayGuard::new(&config.allow, &config.deny, config.default);
        let via = Via::new(config.via.clone(), networks);
        Ok(Self { config, guard, tls, via, isolator: Isolator::default() })
    }

    async fn tunnel(
        &self,
        to: &Endpoint,
        isolation: Option<&IsolationKey>,
    ) -> Result<BoxStream, DriverError> {
        let HttpConnectConfig { proxy, authentication, deadline, .. } = &self.config;
        let deadline = Deadline::after(*deadline);
        let credentials = authentication
            .credentials(&self.isolator, isolation, BasicCredentials::new)
            .map_err(|error| {
                DriverError::new(DriverStep::HttpConnect(ConnectStage::Request), proxy, Cause::Io(error))
            })?;
        let mut step = DriverStep::Connect;
        // One timer for all of it.
        let opened = deadline.timeout(async {
            let stream = self.via.connect(proxy, deadline.covered_for(proxy)).await?;
            step = DriverStep::HttpConnect(ConnectStage::Tls);
            let stream = match self.encrypt(stream).await {
                Ok(stream) => stream,
                Err(error) => return Ok(Err(Cause::Tls(error))),
            };
            step = DriverStep::HttpConnect(ConnectStage::Request);
            Ok(exchange(stream, ConnectRequest::new(to, credentials.as_deref())).await)
        });
        match opened.await {
            Ok(Ok(Ok(stream))) => Ok(stream),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Err(cause))) | Err(cause) => Err(DriverError::new(step, proxy, cause)),
        }
    }

    /// `stream`, with TLS inside if the proxy speaks that.
    async fn encrypt(&self, stream: BoxStream) -> io::Result<BoxStream> {
        match &self.tls {
            None => Ok(stream),
            Some((tls, name)) => Ok(Box::new(tls.connect(name.clone(), stream).await?)),
        }
    }
}

/// Does what the request says, until the tunnel is open.
async fn exchange(mut stream: BoxStream, mut request: ConnectRequest) -> Result<BoxStream, Cause> {
    // Most heads fit, and what follows one is not read twice.
    let mut input = [0; 1024];
    let mut unread = 0..0;
    loop {
        match request.action() {
            ConnectAction::Send(bytes) => {
                stream.write_all(bytes).await?;
                // A network in between may gather what it is given.
                stream.flush().await?;
                request.sent();
            }
            ConnectAction::Receive => {
                let received = stream.read(&mut input).await?;
                if received == 0 {
                    return Err(Cause::Closed);
                }
                unread = request.receive(&input[..received])..received;
            }
            ConnectAction::Open => return Ok(proxy::prepend(&input[unread], stream)),
            ConnectAction::Failed(error) => return Err(Cause::HttpConnect(error)),
        }
    }
}

impl Network for HttpConnect {
    fn kind(&self) -> &'static str {
        HttpConnectDriver::KIND
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

impl fmt::Debug for HttpConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConnect")
            .field("config", &self.config)
            .field("via", &self.via)
            .finish_non_exhaustive()
    }
}
