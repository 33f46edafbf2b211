//! What networks behind a proxy share: the way to it, the credentials for it, and the stream after its answer.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(feature = "i2p")]
use tokio_util::sync::CancellationToken;

use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Cause, ChosenBy, DriverError, Missing, NetworkError, Step};
use crate::network::{BoxStream, NetworkId, Route};
use crate::registry::{self, NetworkRegistry, Registered};
use crate::secret::Secret;
use crate::tcp;

/// How a network's own connections are made, such as those to a proxy.
///
/// Another network is named, not held, as by a [`Dialer`](crate::Dialer): if it is replaced the next connection goes
/// through the new one, and if it is unregistered there is none.
#[derive(Clone)]
pub(crate) enum Via {
    /// By this host.
    Host,
    /// Through another network.
    Network { id: NetworkId, networks: Weak<registry::Inner> },
}

impl Via {
    /// Through `id`, or by this host if there is none.
    pub(crate) fn new(id: Option<NetworkId>, networks: &NetworkRegistry) -> Self {
        match id {
            None => Self::Host,
            Some(id) => Self::Network { id, networks: networks.downgrade() },
        }
    }

    /// The other network.
    pub(crate) fn id(&self) -> Option<&NetworkId> {
        match self {
            Self::Host => None,
            Self::Network { id, .. } => Some(id),
        }
    }

    /// Connects to `to`, before `deadline`.
    pub(crate) async fn connect(&self, to: &Endpoint, deadline: Deadline) -> Result<BoxStream, DriverError> {
        let (stream, _) = self.dial(to, deadline).await?;
        Ok(stream)
    }

    /// [`connect`](Self::connect), and a token that is cancelled once the way is another: for what is kept, and must
    /// not be continued on that one.
    #[cfg(feature = "i2p")]
    pub(crate) async fn connect_watched(
        &self,
        to: &Endpoint,
        deadline: Deadline,
    ) -> Result<(BoxStream, CancellationToken), DriverError> {
        let (stream, registered) = self.dial(to, deadline).await?;
        Ok((stream, registered.map(|registered| registered.retired.clone()).unwrap_or_default()))
    }

    /// Connects to `to`, through the network that is given back if it is not by this host.
    async fn dial(
        &self,
        to: &Endpoint,
        deadline: Deadline,
    ) -> Result<(BoxStream, Option<Arc<Registered>>), DriverError> {
        let failed = |error| DriverError::new(Step::Connect, to, Cause::Via(Box::new(error)));
        let (id, registered) = match self {
            Self::Host => {
                let stream = Box::new(tcp::connect(to, deadline).await?) as BoxStream;
                return Ok((stream, None));
            }
            Self::Network { id, networks } => {
                let networks = NetworkRegistry::upgrade(networks);
                (id, networks.and_then(|networks| networks.get(id)))
            }
        };
        let Some(registered) = registered else {
            let (id, missing) = (id.clone(), Missing::Network);
            return Err(failed(NetworkError::NotFound { id, chosen_by: ChosenBy::Chain, missing }));
        };
        let dialled = deadline.timeout(registered.carry(to)).await;
        let dialled = dialled.map_err(|cause| DriverError::new(Step::Connect, to, cause))?;
        match dialled {
            Ok(stream) => Ok((stream, Some(registered))),
            Err(source) => {
                let (to, route) = (to.clone(), Route::Network(id.clone()));
                Err(failed(NetworkError::Connect { to, route, source }))
            }
        }
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("Host"),
            Self::Network { id, .. } => write!(f, "Network({id})"),
        }
    }
}

/// A user name and a password, for a proxy to check.
pub(crate) struct GivenCredentials {
    pub(crate) username: String,
    pub(crate) password: Secret,
}

impl<'de> Deserialize<'de> for GivenCredentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CredentialsVisitor)
    }
}

/// Derived code would quote a string that stands where the object belongs: most likely `user:password`.
struct CredentialsVisitor;

impl<'de> Visitor<'de> for CredentialsVisitor {
    type Value = GivenCredentials;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `username` and `password`")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<GivenCredentials, E> {
        Err(E::custom("credentials are an object with `username` and `password`, not a string"))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GivenCredentials, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Given {
            username: String,
            password: Secret,
        }

        let Given { username, password } = Given::deserialize(MapAccessDeserializer::new(map))?;
        Ok(GivenCredentials { username, password })
    }
}

/// What other programs call the settings of networks that go through a proxy.
pub(crate) const PROXY_SYNONYMS: &[(&str, &str)] = &[
    ("address", "proxy"),
    ("endpoint", "proxy"),
    ("host", "proxy"),
    ("server", "proxy"),
    ("url", "proxy"),
    ("auth", "credentials"),
    ("login", "credentials.username"),
    ("user", "credentials.username"),
    ("username", "credentials.username"),
    ("pass", "credentials.password"),
    ("password", "credentials.password"),
    ("login", "username"),
    ("name", "username"),
    ("user", "username"),
    ("pass", "password"),
    ("secret", "password"),
    ("isolation", "isolate"),
    ("through", "via"),
    ("timeout", "deadline"),
    ("ca", "ca_file"),
    ("https", "tls"),
    ("ssl", "tls"),
];

/// Returns `stream` with `unread`, which was read from it already, put back in front.
pub(crate) fn prepend(unread: &[u8], stream: BoxStream) -> BoxStream {
    if unread.is_empty() {
        stream
    } else {
        Box::new(Prepended { unread: unread.to_vec(), position: 0, stream })
    }
}

/// A tunnel whose first bytes arrived with the answer of the proxy.
struct Prepended {
    /// What was received and is not read from here yet; empty once it all was.
    unread: Vec<u8>,
    position: usize,
    stream: BoxStream,
}

impl AsyncRead for Prepended {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let left = &self.unread[self.position..];
        let len = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..len]);
        self.position += len;
        if self.position == self.unread.len() {
            self.unread = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prepended {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
