//! What networks behind a proxy share: the way to it, the credentials for it, and the stream after its answer.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use frame_registry::BoxError;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(feature = "i2p")]
use tokio_util::sync::CancellationToken;

use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Cause, ChosenBy, DriverError, DriverStep, Missing, NetworkError};
use crate::isolation::{Isolation, IsolationKey, Isolator};
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
        let failed = |error| DriverError::new(DriverStep::Connect, to, Cause::Via(Box::new(error)));
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
        let dialled = dialled.map_err(|cause| DriverError::new(DriverStep::Connect, to, cause))?;
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

/// How the client authenticates to a proxy. It offers the proxy this way and no other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication<C> {
    /// Without credentials.
    #[default]
    None,
    /// With these credentials.
    Credentials(C),
    /// With random credentials for each isolation key. Connections of one [`IsolationKey`](crate::IsolationKey) have
    /// the same credentials, a connection without a key has its own.
    ///
    /// The proxy must accept any credentials and keep the connections of one apart from those of another, as Tor's
    /// `SocksPort` and `HTTPTunnelPort` do. A proxy that merely accepts them isolates nothing, which cannot be detected
    /// from here.
    Isolate,
}

impl<C: Clone> Authentication<C> {
    /// Makes sense of the settings `credentials` and `isolate`.
    pub(crate) fn from_settings(credentials: Option<C>, isolate: bool) -> Result<Self, AuthenticationError> {
        match (credentials, isolate) {
            (Some(_), true) => Err(AuthenticationError),
            (Some(credentials), false) => Ok(Self::Credentials(credentials)),
            (None, true) => Ok(Self::Isolate),
            (None, false) => Ok(Self::None),
        }
    }

    /// Returns the settings `credentials` and `isolate`.
    pub(crate) fn into_settings(self) -> (Option<C>, bool) {
        match self {
            Self::None => (None, false),
            Self::Credentials(credentials) => (Some(credentials), false),
            Self::Isolate => (None, true),
        }
    }

    /// Returns how far a network with this authentication keeps connections apart.
    pub(crate) const fn isolation(&self) -> Isolation {
        match self {
            Self::Isolate => Isolation::ByKey,
            Self::None | Self::Credentials(_) => Isolation::None,
        }
    }

    /// Returns the credentials for a connection with this isolation key, made with `new` if they are random.
    ///
    /// # Errors
    ///
    /// If the operating system has no random bytes.
    pub(crate) fn credentials<E: Into<BoxError>>(
        &self,
        isolator: &Isolator,
        key: Option<&IsolationKey>,
        new: impl FnOnce(String, String) -> Result<C, E>,
    ) -> io::Result<Option<Cow<'_, C>>> {
        match self {
            Self::None => Ok(None),
            Self::Credentials(credentials) => Ok(Some(Cow::Borrowed(credentials))),
            Self::Isolate => {
                let [username, password] = isolator.credentials(key)?;
                Ok(Some(Cow::Owned(new(username, password).map_err(io::Error::other)?)))
            }
        }
    }
}

/// Both `credentials` and `isolate` are set.
#[derive(Debug, thiserror::Error)]
#[error(
    "`isolate` needs credentials of its own for each connection, so `credentials` cannot be given as well; leave one of \
     the two out"
)]
pub(crate) struct AuthenticationError;

/// Declares the settings of a network behind a proxy as they are written: those that all such networks have, and
/// further ones.
macro_rules! proxy_settings {
    ($(#[$attribute:meta])* struct $name:ident<$credentials:ty> { $($further:tt)* }) => {
        $(#[$attribute])*
        #[derive(serde::Deserialize, serde::Serialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            proxy: crate::endpoint::Endpoint,
            $($further)*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            credentials: Option<$credentials>,
            #[serde(default)]
            isolate: bool,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            via: Option<crate::network::NetworkId>,
            #[serde(default, deserialize_with = "crate::direct::rule_list")]
            allow: Vec<crate::direct::Rule>,
            #[serde(default, deserialize_with = "crate::direct::rule_list")]
            deny: Vec<crate::direct::Rule>,
            #[serde(default)]
            default: crate::direct::DirectDefault,
            #[serde(
                default = "crate::deadline::default",
                deserialize_with = "crate::deadline::from_text",
                serialize_with = "crate::deadline::to_text"
            )]
            deadline: std::time::Duration,
        }
    };
}

/// Implements the setters that the settings of all networks behind a proxy have.
macro_rules! proxy_setters {
    ($config:ty, $credentials:ty) => {
        impl $config {
            /// With another way of authentication.
            #[must_use]
            pub fn with_authentication(
                self,
                authentication: crate::proxy::Authentication<$credentials>,
            ) -> Self {
                Self { authentication, ..self }
            }

            /// Through another network.
            #[must_use]
            pub fn with_via(self, via: crate::network::NetworkId) -> Self {
                Self { via: Some(via), ..self }
            }

            /// With these rules to allow, instead of those it has.
            #[must_use]
            pub fn with_allow(self, rules: impl IntoIterator<Item = crate::direct::Rule>) -> Self {
                Self { allow: rules.into_iter().collect(), ..self }
            }

            /// With these rules to deny, instead of those it has.
            #[must_use]
            pub fn with_deny(self, rules: impl IntoIterator<Item = crate::direct::Rule>) -> Self {
                Self { deny: rules.into_iter().collect(), ..self }
            }

            /// With another default.
            #[must_use]
            pub fn with_default(self, default: crate::direct::DirectDefault) -> Self {
                Self { default, ..self }
            }

            /// With another deadline.
            #[must_use]
            pub fn with_deadline(self, deadline: std::time::Duration) -> Self {
                Self { deadline, ..self }
            }
        }
    };
}

pub(crate) use {proxy_setters, proxy_settings};

/// A user name and a password, for a proxy to check.
#[derive(Serialize)]
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
