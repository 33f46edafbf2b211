//! Dante's `sockd`, the server that many SOCKS providers run.

use std::net::SocketAddr;

use crate::servers::process::Process;
use crate::servers::program::Program;
use crate::servers::{file, folder, port};

/// A proxy that asks nobody who they are, on the same port of 127.0.0.1 and, if there is one, of `::1`.
pub struct Dante {
    pub address: SocketAddr,
    // Ends before its folder goes.
    pub process: Process,
    _folder: tempfile::TempDir,
}

impl Dante {
    /// One that connects to everything.
    pub async fn start() -> Option<Self> {
        Self::with_rules("").await
    }

    /// One whose rules let nobody connect to `port`.
    pub async fn blocking(port: u16) -> Option<Self> {
        Self::with_rules(&format!("socks block {{ from: 0/0 to: 0/0 port = {port} }}\n")).await
    }

    async fn with_rules(rules: &str) -> Option<Self> {
        // Debian renames it, because it has two packages with a `sockd`.
        let program = Program::find(&["danted", "sockd"])?;
        let folder = folder();
        let address = port::free_v4();
        let port = address.port();
        let v6 = if port::has_ipv6() {
            format!("internal: ::1 port = {port}\nexternal: ::1\n")
        } else {
            String::new()
        };
        // With `rotation: route` it connects from the address that has a route to the target.
        let config = format!(
            "logoutput: stderr\n\
             internal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\n{v6}external.rotation: route\n\
             clientmethod: none\nsocksmethod: none\n\
             client pass {{ from: 0/0 to: 0/0 }}\n\
             {rules}\
             socks pass {{ from: 0/0 to: 0/0 log: error connect }}\n"
        );
        let mut command = program.command();
        command.env("TMPDIR", folder.path()).arg("-f").arg(file(folder.path(), "sockd.conf", &config));
        command.arg("-p").arg(folder.path().join("sockd.pid"));
        let process = Process::spawn("dante", command);
        process.logged("running").await;
        process.accepts(address).await;
        Some(Self { address, process, _folder: folder })
    }

    /// Its address on `::1`.
    pub fn address_v6(&self) -> SocketAddr {
        SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), self.address.port())
    }
}
