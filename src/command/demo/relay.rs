//! A SOCKS5 proxy in the same process, for the demonstration and for tests.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use frame_net::socks5::Refusal;
use frame_net::{Endpoint, Host, HostName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The first byte of every message but those of the authentication.
const VERSION: u8 = 5;
/// The first byte of the messages of the authentication by user name and password.
const AUTHENTICATION_VERSION: u8 = 1;
const COMMAND_CONNECT: u8 = 1;
const RESERVED: u8 = 0;
/// The code of success, of the authentication and of the request.
const SUCCESS: u8 = 0;
const METHOD_NONE: u8 = 0x00;
const METHOD_PASSWORD: u8 = 0x02;
const METHOD_NOT_ACCEPTABLE: u8 = 0xff;
const ADDRESS_IPV4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_IPV6: u8 = 4;

/// A proxy that serves CONNECT (RFC 1928, RFC 1929). The caller decides where a request leads, so names can exist that
/// only this proxy knows.
#[derive(Debug)]
pub(crate) struct Relay {
    listener: TcpListener,
    clients: Clients,
    source: Option<IpAddr>,
}

/// The clients that a [`Relay`] serves.
#[derive(Debug)]
enum Clients {
    /// Clients without credentials.
    Anonymous,
    /// Clients with this user name and password.
    Named { username: String, password: String },
    /// Clients with any credentials.
    AnyNamed,
}

/// A client's request to a [`Relay`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// The destination: a name if the client sent one, an address if it sent that.
    pub(crate) to: Endpoint,
    /// The user name of the client.
    pub(crate) username: Option<String>,
}

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(10);

impl Relay {
    /// Listens at `address`, for clients without credentials.
    pub(crate) async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, clients: Clients::Anonymous, source: None })
    }

    /// Serves only clients with these credentials.
    #[must_use]
    pub(crate) fn with_credentials(self, username: &str, password: &str) -> Self {
        let (username, password) = (username.to_owned(), password.to_owned());
        Self { clients: Clients::Named { username, password }, ..self }
    }

    /// Serves only clients with credentials, and accepts any, as Tor does. They are told apart by
    /// [`Request::username`].
    #[must_use]
    pub(crate) fn with_any_credentials(self) -> Self {
        Self { clients: Clients::AnyNamed, ..self }
    }

    /// Connects from this local address, by which a server can tell the relay's connections from others.
    #[must_use]
    pub(crate) fn with_source(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// The address that it listens at.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves clients. `route` is called for each request, and returns where the connection really goes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener and all connections.
    /// It returns only if no further client can be accepted.
    pub(crate) async fn serve<F>(self, route: F) -> io::Result<Infallible>
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
            client.write_all(&reply(SUCCESS, server.local_addr()?)).await?;
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

/// Reads the request, or the refusal to answer it with. An error closes the connection without an answer.
async fn read_request(client: &mut TcpStream, clients: &Clients) -> io::Result<Result<Request, Refusal>> {
    expect(client, VERSION).await?;
    let methods = read_counted(client).await?;
    let method = match clients {
        Clients::Anonymous => METHOD_NONE,
        Clients::Named { .. } | Clients::AnyNamed => METHOD_PASSWORD,
    };
    if !methods.contains(&method) {
        client.write_all(&[VERSION, METHOD_NOT_ACCEPTABLE]).await?;
        return Err(broken("none of the methods is acceptable"));
    }
    client.write_all(&[VERSION, method]).await?;
    let username = match clients {
        Clients::Anonymous => None,
        Clients::Named { username, password } => {
            Some(authenticate(client, Some([username, password])).await?)
        }
        Clients::AnyNamed => Some(authenticate(client, None).await?),
    };

    expect(client, VERSION).await?;
    let command = client.read_u8().await?;
    expect(client, RESERVED).await?;
    let host = read_host(client).await?;
    let port = client.read_u16().await?;
    if command != COMMAND_CONNECT {
        return Ok(Err(Refusal::CommandNotSupported));
    }
    let to = host.and_then(|host| Endpoint::new(host, port).map_err(|_| Refusal::GeneralFailure));
    Ok(to.map(|to| Request { to, username }))
}

/// Returns the user name of a client with these credentials, or with any.
async fn authenticate(client: &mut TcpStream, expected: Option<[&String; 2]>) -> io::Result<String> {
    expect(client, AUTHENTICATION_VERSION).await?;
    let username = read_counted(client).await?;
    let password = read_counted(client).await?;
    let is_right = expected.is_none_or(|expected| expected.map(String::as_bytes) == [&*username, &*password]);
    let status = if is_right { SUCCESS } else { 1 };
    client.write_all(&[AUTHENTICATION_VERSION, status]).await?;
    if !is_right {
        return Err(broken("wrong credentials"));
    }
    String::from_utf8(username).map_err(|_| broken("a user name that is not UTF-8"))
}

async fn read_host(client: &mut TcpStream) -> io::Result<Result<Host, Refusal>> {
    Ok(match client.read_u8().await? {
        ADDRESS_IPV4 => Ok(Host::from(client.read_u32().await?.to_be_bytes())),
        ADDRESS_IPV6 => Ok(Host::from(client.read_u128().await?.to_be_bytes())),
        ADDRESS_NAME => {
            let name = read_counted(client).await?;
            let name = std::str::from_utf8(&name).ok().and_then(|name| name.parse::<HostName>().ok());
            name.map(Host::Name).ok_or(Refusal::GeneralFailure)
        }
        // The length of such an address is not known, so what follows cannot be read.
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
    let mut reply = vec![VERSION, code, RESERVED];
    match bound.ip() {
        IpAddr::V4(ip) => {
            reply.push(ADDRESS_IPV4);
            reply.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            reply.push(ADDRESS_IPV6);
            reply.extend(ip.octets());
        }
    }
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
