//! tor, alone.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::servers::process::Process;
use crate::servers::program::Program;
use crate::servers::{file, folder, port};

/// A tor that knows no relay, so that it accepts clients and can connect nobody.
pub struct Tor {
    pub socks: SocketAddr,
    // Ends before its folder goes.
    pub process: Process,
    _folder: tempfile::TempDir,
}

impl Tor {
    /// One that gives requests up after a second.
    pub async fn offline() -> Option<Self> {
        Self::start("", 1).await
    }

    /// One that does not give requests up before a test is over.
    pub async fn offline_and_patient() -> Option<Self> {
        Self::start("", 600).await
    }

    /// One that refuses with its own codes for onion services.
    pub async fn offline_with_extended_errors() -> Option<Self> {
        Self::start("ExtendedErrors", 1).await
    }

    async fn start(socks_flags: &str, socks_timeout: u32) -> Option<Self> {
        let program = Program::find(&["tor"])?;
        let folder = folder();
        let socks = port::free_v4();
        // The one authority that it knows is a port where nobody listens, lest it asks those of the real network.
        let nobody = port::free_v4();
        let fingerprint = "0".repeat(40);
        let config = format!(
            "ClientOnly 1\n\
             SocksPort {socks} {socks_flags}\n\
             SocksTimeout {socks_timeout}\n\
             DirAuthority nobody orport={} v3ident={fingerprint} {nobody} {fingerprint}\n",
            nobody.port(),
        );
        let process = Process::spawn("tor", command(&program, folder.path(), &config));
        process.logged("Opened Socks listener connection (ready)").await;
        Some(Self { socks, process, _folder: folder })
    }

    /// Waits until it has been asked for something that it has no way to.
    pub async fn is_asked(&self) {
        self.process.logged("Application request when we haven't used client functionality lately").await;
    }
}

/// A command that runs tor with `config`, its data in `folder`, and nothing of what the system configures.
pub fn command(program: &Program, folder: &Path, config: &str) -> Command {
    let data = folder.join("data");
    let torrc = format!("DataDirectory {}\nLog notice stdout\nSafeLogging 0\n{config}", data.display());
    let mut command = program.command();
    command.arg("-f").arg(file(folder, "torrc", &torrc));
    command.arg("--defaults-torrc").arg(file(folder, "torrc-defaults", ""));
    // Where the kernel does not end it with this process, it looks for itself now and then.
    command.arg("__OwningControllerProcess").arg(std::process::id().to_string());
    command
}
