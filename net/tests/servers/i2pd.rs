//! i2pd, a router of I2P.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::servers::process::Process;
use crate::servers::program::Program;
use crate::servers::{file, folder, port};

/// A router on 127.0.0.1 that knows no other one, with a SAM bridge. Sessions of the same router reach each other.
pub struct I2pd {
    pub sam: SocketAddr,
    process: Option<Process>,
    folder: TempDir,
}

/// Options of a session whose tunnels have nobody in them: there is nobody.
pub const WITHOUT_HOPS: [(&str, u8); 6] = [
    ("inbound.length", 0),
    ("outbound.length", 0),
    ("inbound.quantity", 1),
    ("outbound.quantity", 1),
    ("i2cp.leaseSetType", 1),
    ("i2cp.leaseSetEncType", 0),
];

impl I2pd {
    pub async fn start() -> Option<Self> {
        let (sam, transport) = (port::free_v4(), port::free());
        let folder = folder();
        file(folder.path(), "i2pd.conf", &configuration(sam.port(), transport));
        let mut router = Self { sam, process: None, folder };
        router.start_again().await.then_some(router)
    }

    /// Ends it as if the machine had lost its power.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it at the same place, unless there is no such program.
    pub async fn start_again(&mut self) -> bool {
        let Some(program) = Program::find(&["i2pd"]) else { return false };
        let mut command = program.command();
        let of = |option: &str, path: &Path| format!("--{option}={}", path.display());
        command.arg(of("datadir", self.folder.path()));
        command.arg(of("conf", &self.folder.path().join("i2pd.conf")));
        let process = Process::spawn("i2pd", command);
        process.accepts(self.sam).await;
        self.process = Some(process);
        true
    }
}

/// A router that is alone: of a network of its own, without anywhere to learn of others. Without an address book this
/// version crashes when it looks a name up.
fn configuration(sam: u16, transport: u16) -> String {
    format!(
        "log = stdout\nloglevel = warn\nnetid = 99\nfloodfill = true\nreservedrange = false\nnat = false\n\
         ipv4 = true\nipv6 = false\nhost = 127.0.0.1\naddress4 = 127.0.0.1\nport = {transport}\n\
         [ntcp2]\nenabled = true\npublished = true\nport = {transport}\n\
         [ssu2]\nenabled = false\n\
         [reseed]\nverify = false\nurls =\nthreshold = 0\n\
         [nettime]\nenabled = false\n\
         [addressbook]\nenabled = true\ndefaulturl =\nsubscriptions =\n\
         [upnp]\nenabled = false\n[http]\nenabled = false\n[httpproxy]\nenabled = false\n\
         [socksproxy]\nenabled = false\n\
         [sam]\nenabled = true\naddress = 127.0.0.1\nport = {sam}\n"
    )
}
