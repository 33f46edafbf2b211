//! The client's side of the SOCKS5 handshake (RFC 1928, RFC 1929), without I/O.

use std::fmt;
use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::endpoint::{Endpoint, Host};
use crate::socks5::Credentials;

/// Asks a SOCKS5 proxy for a connection: says what to send and how much to receive, and does neither.
///
/// The messages are those of RFC 1928, with the authentication of RFC 1929 if there are credentials. Then that is
/// the only method offered, so that a proxy cannot talk the client out of it.
///
/// It never takes a byte that comes behind the proxy's last reply. What the proxy sends is read byte by byte, so
/// that it cannot matter in which pieces it arrives, and it stops at the first byte that is wrong. It allocates
/// once, when it is made.
pub(super) struct Handshake<'a> {
    to: &'a Endpoint,
    credentials: Option<&'a Credentials>,
    stage: Stage,
    outcome: Option<Result<(), HandshakeError>>,
    /// What is to be sent before anything is received; empty once it was. The password may be in it.
    output: Zeroizing<Vec<u8>>,
    /// How many bytes of the stage's reply were received.
    position: usize,
    /// How long the stage's reply is; the shortest it can be, until that is known.
    len: usize,
    /// Whether the reply to the request has a name in it, whose length its first byte says.
    is_bound_to_name: bool,
}

/// The stages of the handshake with a SOCKS5 proxy, each a message and the reply to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The client offers authentication methods, the proxy chooses.
    Greeting,
    /// The client gives its credentials, the proxy accepts them.
    Authentication,
    /// The client says where to connect to, the proxy has done so.
    Request,
}

/// What is to be done next in a [`Handshake`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action<'a> {
    /// Send all of these bytes, then say so with [`Handshake::sent`]. They may contain the password.
    Send(&'a [u8]),
    /// Receive, and hand over with [`Handshake::receive`], at most this many bytes and at least one.
    Receive(usize),
    /// Nothing: the connection is there, and all that follows belongs to its two ends.
    Open,
    /// Close the connection.
    Failed(HandshakeError),
}

/// The shortest reply to a request, one with an empty name in it: four bytes, its length, the port.
const SHORTEST_REPLY: usize = 7;

impl<'a> Handshake<'a> {
    /// A handshake for a connection to `to`.
    pub(super) fn new(to: &'a Endpoint, credentials: Option<&'a Credentials>) -> Self {
        let authentication = credentials
            .map_or(0, |credentials| 3 + credentials.username().len() + credentials.password().len());
        // No more than that: all of it is overwritten when it is dropped.
        let longest = authentication.max(3 + endpoint_len(to));
        let mut output = Zeroizing::new(Vec::with_capacity(longest));
        output.extend([VERSION, 1, offered(credentials)]);
        Self {
            to,
            credentials,
            stage: Stage::Greeting,
            outcome: None,
            output,
            position: 0,
            len: 2,
            is_bound_to_name: false,
        }
    }

    /// Where it stands, or where it failed.
    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    /// What is to be done next.
    pub(super) fn action(&self) -> Action<'_> {
        match self.outcome {
            Some(Ok(())) => Action::Open,
            Some(Err(error)) => Action::Failed(error),
            None if self.output.is_empty() => Action::Receive(self.len - self.position),
            None => Action::Send(&self.output),
        }
    }

    /// What was to be sent has been.
    pub(super) fn sent(&mut self) {
        self.output.clear();
    }

    /// Takes what was received, up to the end of the reply that is due, and says how many bytes that was. The
    /// others are not part of the handshake, or come before their time: a proxy that has yet to be sent something
    /// is not listened to.
    pub(super) fn receive(&mut self, input: &[u8]) -> usize {
        let mut taken = 0;
        while let (Action::Receive(_), Some(&byte)) = (self.action(), input.get(taken)) {
            taken += 1;
            if let Err(error) = self.take(byte) {
                self.outcome = Some(Err(error));
            }
        }
        taken
    }

    /// Takes the byte at the current position of the reply that is due.
    fn take(&mut self, byte: u8) -> Result<(), HandshakeError> {
        let position = self.position;
        self.position += 1;
        match self.stage {
            Stage::Greeting => self.take_method(position, byte),
            Stage::Authentication => self.take_status(position, byte),
            Stage::Request => self.take_reply(position, byte),
        }
    }

    /// `VER METHOD`.
    fn take_method(&mut self, position: usize, byte: u8) -> Result<(), HandshakeError> {
        if position == 0 {
            return version(byte);
        }
        let offered = offered(self.credentials);
        match self.credentials {
            _ if byte == METHOD_NOT_ACCEPTABLE => return Err(HandshakeError::NoMethod { offered }),
            _ if byte != offered => return Err(HandshakeError::MethodNotOffered { chosen: byte, offered }),
            Some(credentials) => self.authenticate(credentials),
            None => self.request(),
        }
        Ok(())
    }

    /// `VER STATUS`.
    fn take_status(&mut self, position: usize, byte: u8) -> Result<(), HandshakeError> {
        if position == 0 {
            return match byte {
                AUTHENTICATION_VERSION => Ok(()),
                version => Err(HandshakeError::AuthenticationVersion { version }),
            };
        }
        if byte != SUCCESS {
            return Err(HandshakeError::CredentialsRefused { status: byte });
        }
        self.request();
        Ok(())
    }

    /// `VER REP RSV ATYP BND.ADDR BND.PORT`.
    fn take_reply(&mut self, position: usize, byte: u8) -> Result<(), HandshakeError> {
        match position {
            0 => version(byte)?,
            1 => Refusal::from_code(byte).map_or(Ok(()), |refusal| Err(HandshakeError::Refused(refusal)))?,
            3 => {
                self.len = match byte {
                    ADDRESS_IPV4 => 4 + 4 + 2,
                    ADDRESS_IPV6 => 4 + 16 + 2,
                    // One byte more, which says how many.
                    ADDRESS_NAME => SHORTEST_REPLY,
                    kind => return Err(HandshakeError::AddressType { kind }),
                };
                self.is_bound_to_name = byte == ADDRESS_NAME;
            }
            4 if self.is_bound_to_name => self.len = SHORTEST_REPLY + usize::from(byte),
            // The reserved byte, which some proxies do not set to zero, and the address that the proxy dials
            // from, of which a CONNECT has no use.
            _ => {}
        }
        if self.position == self.len {
            self.outcome = Some(Ok(()));
        }
        Ok(())
    }

    /// Goes on with `VER ULEN UNAME PLEN PASSWD`.
    fn authenticate(&mut self, credentials: &Credentials) {
        self.output.push(AUTHENTICATION_VERSION);
        push_counted(&mut self.output, credentials.username().as_bytes());
        push_counted(&mut self.output, credentials.password().as_bytes());
        self.enter(Stage::Authentication, 2);
    }

    /// Goes on with `VER CMD RSV ATYP DST.ADDR DST.PORT`.
    fn request(&mut self) {
        self.output.extend([VERSION, COMMAND_CONNECT, RESERVED]);
        push_endpoint(&mut self.output, self.to);
        self.enter(Stage::Request, SHORTEST_REPLY);
    }

    fn enter(&mut self, stage: Stage, len: usize) {
        (self.stage, self.position, self.len) = (stage, 0, len);
    }
}

/// The one method that is offered.
const fn offered(credentials: Option<&Credentials>) -> u8 {
    if credentials.is_some() { METHOD_PASSWORD } else { METHOD_NONE }
}

fn version(byte: u8) -> Result<(), HandshakeError> {
    match byte {
        VERSION => Ok(()),
        version => Err(HandshakeError::Version { version }),
    }
}

impl fmt::Debug for Handshake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("to", self.to)
            .field("stage", &self.stage)
            .field("action", &self.action())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(bytes) => write!(f, "Send(<{} bytes>)", bytes.len()),
            Self::Receive(len) => write!(f, "Receive({len})"),
            Self::Open => f.write_str("Open"),
            Self::Failed(error) => write!(f, "Failed({error:?})"),
        }
    }
}

/// A SOCKS5 proxy refused, or does not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The first byte is another.
    #[error("the answer begins with {version:#04x}, not 0x05: this is no SOCKS5 proxy")]
    Version {
        /// The first byte.
        version: u8,
    },
    /// The proxy accepts none of the methods that were offered.
    #[error("the proxy does not accept {}", named(*.offered))]
    NoMethod {
        /// The method that was offered.
        offered: u8,
    },
    /// The proxy chose a method that was not offered.
    #[error("the proxy chose method {chosen:#04x} ({}), but was offered only {}", named(*.chosen), named(*.offered))]
    MethodNotOffered {
        /// What it chose.
        chosen: u8,
        /// The method that was offered.
        offered: u8,
    },
    /// The reply to the credentials begins with another byte.
    #[error("the reply to the credentials begins with {version:#04x}, not 0x01")]
    AuthenticationVersion {
        /// The first byte.
        version: u8,
    },
    /// The proxy does not accept the credentials.
    #[error("the proxy refused the user name or the password (status {status})")]
    CredentialsRefused {
        /// The status; any but zero refuses.
        status: u8,
    },
    /// The proxy does not make the connection.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The proxy answers with an address of an unknown type, so that it is not known where its reply ends.
    #[error("the reply has an address of type {kind}, which RFC 1928 does not know")]
    AddressType {
        /// The type.
        kind: u8,
    },
}

impl HandshakeError {
    /// Whether the same handshake may succeed later with nobody changing the configuration. A proxy that breaks
    /// the protocol may be on its way up or down; one that refuses credentials means it.
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::NoMethod { .. } | Self::MethodNotOffered { .. } | Self::CredentialsRefused { .. } => false,
            Self::Version { .. } | Self::AuthenticationVersion { .. } | Self::AddressType { .. } => true,
        }
    }
}

const fn named(method: u8) -> &'static str {
    match method {
        METHOD_NONE => "no authentication",
        0x01 => "GSSAPI",
        METHOD_PASSWORD => "user name and password",
        _ => "a method of its own",
    }
}

/// The first byte of every message but those of the authentication.
const VERSION: u8 = 5;
/// The first byte of the messages of the authentication by user name and password.
const AUTHENTICATION_VERSION: u8 = 1;
const COMMAND_CONNECT: u8 = 1;
const RESERVED: u8 = 0;
/// The code of success: of the authentication, and of the request.
const SUCCESS: u8 = 0;

const METHOD_NONE: u8 = 0x00;
const METHOD_PASSWORD: u8 = 0x02;
/// The answer of a proxy that accepts none of those offered.
const METHOD_NOT_ACCEPTABLE: u8 = 0xff;

const ADDRESS_IPV4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_IPV6: u8 = 4;

/// How many bytes [`push_endpoint`] writes.
fn endpoint_len(endpoint: &Endpoint) -> usize {
    let host = match endpoint.host() {
        Host::Name(name) => 1 + name.as_str().len(),
        Host::Address(IpAddr::V4(_)) => 4,
        Host::Address(IpAddr::V6(_)) => 16,
    };
    1 + host + 2
}

/// Writes a one-byte length and `bytes`, which have at most 255.
fn push_counted(output: &mut Vec<u8>, bytes: &[u8]) {
    let len = u8::try_from(bytes.len());
    debug_assert!(len.is_ok(), "names and credentials are limited where they are made");
    output.push(len.unwrap_or(u8::MAX));
    output.extend(&bytes[..bytes.len().min(u8::MAX.into())]);
}

/// Writes `ATYP`, the address and the port.
fn push_endpoint(output: &mut Vec<u8>, endpoint: &Endpoint) {
    match endpoint.host() {
        Host::Name(name) => {
            output.push(ADDRESS_NAME);
            push_counted(output, name.as_str().as_bytes());
        }
        Host::Address(ip) => push_ip(output, *ip),
    }
    output.extend(endpoint.port().to_be_bytes());
}

/// Writes `ATYP` and the address.
fn push_ip(output: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            output.push(ADDRESS_IPV4);
            output.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            output.push(ADDRESS_IPV6);
            output.extend(ip.octets());
        }
    }
}

/// The codes with which a SOCKS5 proxy refuses a request (RFC 1928, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 01.
    #[error("the proxy failed (code 1, general failure)")]
    GeneralFailure,
    /// 02.
    #[error("the proxy's rules do not allow the connection (code 2)")]
    NotAllowed,
    /// 03.
    #[error("the network is unreachable from the proxy (code 3)")]
    NetworkUnreachable,
    /// 04.
    #[error("the host is unreachable from the proxy, or its name unknown (code 4)")]
    HostUnreachable,
    /// 05.
    #[error("the host refused the proxy's connection (code 5)")]
    ConnectionRefused,
    /// 06.
    #[error("the host did not answer the proxy in time (code 6, TTL expired)")]
    TtlExpired,
    /// 07.
    #[error("the proxy does not support CONNECT (code 7)")]
    CommandNotSupported,
    /// 08.
    #[error("the proxy does not support this type of address (code 8)")]
    AddressTypeNotSupported,
    /// A code that the RFC assigns no meaning. Some proxies do: Tor has its own for onion services.
    #[error("the proxy refused with code {0}, to which RFC 1928 assigns no meaning")]
    Unassigned(u8),
}

impl Refusal {
    /// The refusal that `code` stands for; none for the code of success.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => return None,
            1 => Self::GeneralFailure,
            2 => Self::NotAllowed,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::ConnectionRefused,
            6 => Self::TtlExpired,
            7 => Self::CommandNotSupported,
            8 => Self::AddressTypeNotSupported,
            code => Self::Unassigned(code),
        })
    }

    /// Its code.
    pub const fn code(self) -> u8 {
        match self {
            Self::GeneralFailure => 1,
            Self::NotAllowed => 2,
            Self::NetworkUnreachable => 3,
            Self::HostUnreachable => 4,
            Self::ConnectionRefused => 5,
            Self::TtlExpired => 6,
            Self::CommandNotSupported => 7,
            Self::AddressTypeNotSupported => 8,
            Self::Unassigned(code) => code,
        }
    }

    /// Whether the same request may be granted later with nobody changing the configuration.
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::NotAllowed | Self::CommandNotSupported | Self::AddressTypeNotSupported => false,
            Self::GeneralFailure
            | Self::NetworkUnreachable
            | Self::HostUnreachable
            | Self::ConnectionRefused
            | Self::TtlExpired
            | Self::Unassigned(_) => true,
        }
    }
}

#[cfg(test)]
mod tests;
