//! tinyproxy, a small HTTP proxy.

use std::net::SocketAddr;

use crate::servers::process::Process;
use crate::servers::program::Program;
use crate::servers::{file, folder, port};

/// A proxy on 127.0.0.1.
pub struct Tinyproxy {
    pub address: SocketAddr,
    // Ends before its folder goes.
    pub process: Process,
    _folder: tempfile::TempDir,
}

impl Tinyproxy {
    /// One that asks nobody who they are.
    pub async fn start() -> Option<Self> {
        Self::with_settings("").await
    }

    /// One that serves only who has these.
    pub async fn with_credentials(username: &str, password: &str) -> Option<Self> {
        Self::with_settings(&format!("BasicAuth {username} {password}\n")).await
    }

    /// One that connects to this port and no other.
    pub async fn connecting_to(port: u16) -> Option<Self> {
        Self::with_settings(&format!("ConnectPort {port}\n")).await
    }

    async fn with_settings(settings: &str) -> Option<Self> {
        let mut command = Program::find(&["tinyproxy"])?.command();
        let folder = folder();
        let address = port::free_v4();
        let config = format!(
            "Listen {}\nPort {}\nMaxClients 100\nTimeout 60\nLogLevel Info\n{settings}",
            address.ip(),
            address.port()
        );
        command.arg("-d").arg("-c").arg(file(folder.path(), "tinyproxy.conf", &config));
        let process = Process::spawn("tinyproxy", command);
        process.accepts(address).await;
        Some(Self { address, process, _folder: folder })
    }
}
