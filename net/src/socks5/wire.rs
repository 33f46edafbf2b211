//! The bytes of RFC 1928 and RFC 1929.

use std::net::IpAddr;

use crate::endpoint::{Endpoint, Host};

/// The first byte of every message but those of the authentication.
pub(super) const VERSION: u8 = 5;
/// The first byte of the messages of the authentication by user name and password.
pub(super) const AUTHENTICATION_VERSION: u8 = 1;
pub(super) const COMMAND_CONNECT: u8 = 1;
pub(super) const RESERVED: u8 = 0;
/// The code of success: of the authentication, and of the request.
pub(super) const SUCCESS: u8 = 0;

/// Authentication methods.
pub(super) mod method {
    pub(in crate::socks5) const NONE: u8 = 0x00;
    pub(in crate::socks5) const PASSWORD: u8 = 0x02;
    /// The answer of a proxy that accepts none of those offered.
    pub(in crate::socks5) const NOT_ACCEPTABLE: u8 = 0xff;
}

/// Types of addresses.
pub(super) mod address {
    pub(in crate::socks5) const IPV4: u8 = 1;
    pub(in crate::socks5) const NAME: u8 = 3;
    pub(in crate::socks5) const IPV6: u8 = 4;
}

/// How many bytes [`push_endpoint`] writes.
pub(super) fn endpoint_len(endpoint: &Endpoint) -> usize {
    let host = match endpoint.host() {
        Host::Name(name) => 1 + name.as_str().len(),
        Host::Address(IpAddr::V4(_)) => 4,
        Host::Address(IpAddr::V6(_)) => 16,
    };
    1 + host + 2
}

/// Writes a one-byte length and `bytes`, which have at most 255.
pub(super) fn push_counted(output: &mut Vec<u8>, bytes: &[u8]) {
    let len = u8::try_from(bytes.len());
    debug_assert!(len.is_ok(), "names and credentials are limited where they are made");
    output.push(len.unwrap_or(u8::MAX));
    output.extend(&bytes[..bytes.len().min(u8::MAX.into())]);
}

/// Writes `ATYP`, the address and the port.
pub(super) fn push_endpoint(output: &mut Vec<u8>, endpoint: &Endpoint) {
    match endpoint.host() {
        Host::Name(name) => {
            output.push(address::NAME);
            push_counted(output, name.as_str().as_bytes());
        }
        Host::Address(ip) => push_ip(output, *ip),
    }
    output.extend(endpoint.port().to_be_bytes());
}

/// Writes `ATYP` and the address.
pub(super) fn push_ip(output: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            output.push(address::IPV4);
            output.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            output.push(address::IPV6);
            output.extend(ip.octets());
        }
    }
}
