//! microsocks, a small SOCKS5 server.

use std::net::SocketAddr;

use crate::servers::port;
use crate::servers::process::Process;
use crate::servers::program::Program;

/// A proxy on 127.0.0.1.
pub struct Microsocks {
    pub address: SocketAddr,
    pub process: Process,
}

impl Microsocks {
    /// One that asks nobody who they are.
    pub async fn start() -> Option<Self> {
        Self::with_arguments(&[]).await
    }

    /// One that serves only who has these.
    pub async fn with_credentials(username: &str, password: &str) -> Option<Self> {
        Self::with_arguments(&["-u", username, "-P", password]).await
    }

    async fn with_arguments(arguments: &[&str]) -> Option<Self> {
        let address = port::free_v4();
        let mut command = Program::find(&["microsocks"])?.command();
        command.args(["-i", &address.ip().to_string(), "-p", &address.port().to_string()]).args(arguments);
        let process = Process::spawn("microsocks", command);
        process.accepts(address).await;
        Some(Self { address, process })
    }
}
