//! A SOCKS5 proxy in the same process.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::endpoint::{Endpoint, Host, HostName};
use crate::socks5::{Credentials, Refusal, wire};

/// A proxy that does what RFC 1928 asks for CONNECT, for demonstrations and tests: the routes it takes are
/// the caller's to decide, so that it can know names which exist nowhere else.
///
/// ```
/// use frame_net::socks5::{Refusal, Relay, Socks5, Socks5Config};
/// use frame_net::{Direct, Host, Network, NetworkRegistry};
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let web = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let web_address = web.local_addr()?;
///
/// let relay = Relay::bind("127.0.0.1:0").await?;
/// let networks = NetworkRegistry::new(Arc::new(Direct::default()));
/// let network = Socks5::new(Socks5Config::new(relay.local_addr()?.try_into()?), &networks);
/// tokio::spawn(relay.serve(move |request| match request.to.host() {
///     Host::Name(name) if name.as_str() == "shop.internal" => Ok(web_address),
///     _ => Err(Refusal::HostUnreachable),
/// }));
///
/// assert!(network.connect(&"shop.internal:80".parse()?, None).await.is_ok());
/// assert!(network.connect(&"127.0.0.1:80".parse()?, None).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Relay {
    listener: TcpListener,
    clients: Clients,
    source: Option<IpAddr>,
}

/// Whom a [`Relay`] serves.
#[derive(Debug)]
enum Clients {
    /// Who does not say who they are.
    Unnamed,
    /// Who has these credentials.
    Named(Credentials),
    /// Who has any.
    AnyNamed,
}

/// What a client asks a [`Relay`] for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// Where it wants to go: a name if it sent one, an address if it sent that.
    pub to: Endpoint,
    /// The name it authenticated with.
    pub username: Option<String>,
}

/// How long a client may take until its request is there.
const PATIENCE: Duration = Duration::from_secs(10);

impl Relay {
    /// A relay that listens at `address` and asks nobody who they are.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened at.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, clients: Clients::Unnamed, source: None })
    }

    /// Serves only who has these credentials.
    #[must_use]
    pub fn with_credentials(self, credentials: Credentials) -> Self {
        Self { clients: Clients::Named(credentials), ..self }
    }

    /// Serves only who has credentials, and takes any, as Tor does. [`Request::username`] says which.
    #[must_use]
    pub fn with_any_credentials(self) -> Self {
        Self { clients: Clients::AnyNamed, ..self }
    }

    /// Makes its connections from this address of this host, by which a server can tell them from others.
    #[must_use]
    pub fn with_source(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// If the operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves clients. `route` is called for each request, and says where the connection really goes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener and all connections.
    ///
    /// # Errors
    ///
    /// If no client can be accepted any more. It does not end otherwise.
    pub async fn serve<F>(self, route: F) -> io::Result<Infallible>
    where
        F: Fn(&Request) -> Result<SocketAddr, Refusal> + Send + Sync + 'static,
    {
        let shared = Arc::new((self.clients, self.source, route));
        let mut served = JoinSet::new();
        loop {
            let (stream, _) = self.listener.accept().await?;
            while served.try_join_next().is_some() {}
            let shared = Arc::clone(&shared);
            served.spawn(async move {
                let (clients, source, route) = &*shared;
                // A client that breaks off, or breaks the protocol, ends its own connection and nothing else.
                let _ = serve_client(stream, clients, *source, route).await;
            });
        }
    }
}

async fn serve_client(
    mut client: TcpStream,
    clients: &Clients,
    source: Option<IpAddr>,
    route: &impl Fn(&Request) -> Result<SocketAddr, Refusal>,
) -> io::Result<()> {
    let request = timeout(PATIENCE, read_request(&mut client, clients)).await??;
    let connected = match request.and_then(|request| route(&request)) {
        Ok(address) => connect(address, source).await.map_err(|error| refusal(&error)),
        Err(refusal) => Err(refusal),
    };
    match connected {
        Ok(mut server) => {
            client.write_all(&reply(wire::SUCCESS, server.local_addr()?)).await?;
            copy_bidirectional(&mut client, &mut server).await?;
            Ok(())
        }
        Err(refusal) => {
            let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
            client.write_all(&reply(refusal.code(), nowhere)).await
        }
    }
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(address).await };
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(address).await
}

/// The request, or what is to be answered to it. An error where there is nothing to answer.
async fn read_request(client: &mut TcpStream, clients: &Clients) -> io::Result<Result<Request, Refusal>> {
    expect(client, wire::VERSION).await?;
    let methods = read_counted(client).await?;
    let method = match clients {
        Clients::Unnamed => wire::method::NONE,
        Clients::Named(_) | Clients::AnyNamed => wire::method::PASSWORD,
    };
    if !methods.contains(&method) {
        client.write_all(&[wire::VERSION, wire::method::NOT_ACCEPTABLE]).await?;
        return Err(broken("none of the methods is acceptable"));
    }
    client.write_all(&[wire::VERSION, method]).await?;
    let username = match clients {
        Clients::Unnamed => None,
        Clients::Named(credentials) => Some(authenticate(client, Some(credentials)).await?),
        Clients::AnyNamed => Some(authenticate(client, None).await?),
    };

    expect(client, wire::VERSION).await?;
    let command = client.read_u8().await?;
    expect(client, wire::RESERVED).await?;
    let host = read_host(client).await?;
    let port = client.read_u16().await?;
    if command != wire::COMMAND_CONNECT {
        return Ok(Err(Refusal::CommandNotSupported));
    }
    let to = host.and_then(|host| Endpoint::new(host, port).map_err(|_| Refusal::GeneralFailure));
    Ok(to.map(|to| Request { to, username }))
}

/// The name of a client that has these credentials, or any.
async fn authenticate(client: &mut TcpStream, expected: Option<&Credentials>) -> io::Result<String> {
    expect(client, wire::AUTHENTICATION_VERSION).await?;
    let username = read_counted(client).await?;
    let password = read_counted(client).await?;
    let is_right = expected.is_none_or(|credentials| {
        username == credentials.username().as_bytes() && password == credentials.password().as_bytes()
    });
    let status = if is_right { wire::SUCCESS } else { 1 };
    client.write_all(&[wire::AUTHENTICATION_VERSION, status]).await?;
    if !is_right {
        return Err(broken("wrong credentials"));
    }
    String::from_utf8(username).map_err(|_| broken("a user name that is not UTF-8"))
}

async fn read_host(client: &mut TcpStream) -> io::Result<Result<Host, Refusal>> {
    Ok(match client.read_u8().await? {
        wire::address::IPV4 => Ok(Host::from(client.read_u32().await?.to_be_bytes())),
        wire::address::IPV6 => Ok(Host::from(client.read_u128().await?.to_be_bytes())),
        wire::address::NAME => {
            let name = read_counted(client).await?;
            let name = std::str::from_utf8(&name).ok().and_then(|name| name.parse::<HostName>().ok());
            name.map(Host::Name).ok_or(Refusal::GeneralFailure)
        }
        // How long such an address is nobody knows, so what follows cannot be read.
        _ => return Err(broken("an address of unknown type")),
    })
}

async fn expect(client: &mut TcpStream, expected: u8) -> io::Result<()> {
    if client.read_u8().await? == expected { Ok(()) } else { Err(broken("another byte is due")) }
}

/// A one-byte length and as many bytes, at least one.
async fn read_counted(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let len = client.read_u8().await?;
    if len == 0 {
        return Err(broken("nothing where something is due"));
    }
    let mut bytes = vec![0; len.into()];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn reply(code: u8, bound: SocketAddr) -> Vec<u8> {
    let mut reply = vec![wire::VERSION, code, wire::RESERVED];
    wire::push_ip(&mut reply, bound.ip());
    reply.extend(bound.port().to_be_bytes());
    reply
}

fn refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Refusal::ConnectionRefused,
        io::ErrorKind::HostUnreachable => Refusal::HostUnreachable,
        io::ErrorKind::NetworkUnreachable => Refusal::NetworkUnreachable,
        io::ErrorKind::TimedOut => Refusal::TtlExpired,
        _ => Refusal::GeneralFailure,
    }
}
