//! Ports for servers that have to be told theirs.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// A TCP port that is free on both loopback addresses, and that nobody else gets here.
///
/// It is below those that Linux gives to connections and to who asks for any port, so that no other test has it by
/// chance before the server is there.
pub fn free() -> u16 {
    const FIRST: u16 = 10_240;
    const COUNT: u16 = 32_768 - FIRST;
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let random = RandomState::new().hash_one(()) % u64::from(COUNT);
        let port = FIRST + u16::try_from(random).expect("it is less than a port");
        if is_free(Ipv4Addr::LOCALHOST.into(), port)
            && is_free(Ipv6Addr::LOCALHOST.into(), port)
            && given.insert(port)
        {
            return port;
        }
    }
}

/// A free port of 127.0.0.1.
pub fn free_v4() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free()).into()
}

fn is_free(host: IpAddr, port: u16) -> bool {
    // A machine without IPv6 has no such address, where every port is free.
    !matches!(TcpListener::bind((host, port)), Err(error) if error.kind() == ErrorKind::AddrInUse)
}

/// Whether this machine has the address `::1`, which containers often lack.
pub fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}
