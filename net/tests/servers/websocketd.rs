//! websocketd, a server of WebSockets in Go, which runs a program for each.

use std::net::SocketAddr;

use crate::servers::port;
use crate::servers::process::Process;
use crate::servers::program::Program;

/// A server on 127.0.0.1.
pub struct Websocketd {
    pub address: SocketAddr,
    pub process: Process,
}

impl Websocketd {
    /// One that answers each message with the same line.
    pub async fn echo() -> Option<Self> {
        let address = port::free_v4();
        let mut command = Program::find(&["websocketd"])?.command();
        command
            .arg(format!("--address={}", address.ip()))
            .arg(format!("--port={}", address.port()))
            .arg("cat");
        let process = Process::spawn("websocketd", command);
        process.accepts(address).await;
        Some(Self { address, process })
    }
}
