//! A Tor network of its own on loopback: authorities, exits and a client.

use std::fs::File;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;

use frame_net::{BoxStream, Endpoint, NetworkError};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::servers::names::NameServer;
use crate::servers::origin::Origin;
use crate::servers::process::Process;
use crate::servers::program::{Program, run};
use crate::servers::tor_control::Control;
use crate::servers::{file, folder, port, tor};

/// Most of them have to agree on the list of relays.
const AUTHORITIES: usize = 3;

/// The authorities relay, too, so that there are more than the three that a circuit needs.
const EXITS: usize = 2;

/// How every tor of the network is told that this is not the real one. Nothing is kept from anyone on loopback.
const COMMON: &str = "\
TestingTorNetwork 1
AssumeReachable 1
ContactInfo nobody@test
";

/// All that is not the client.
const RELAY: &str = "SocksPort 0\n";

/// The authorities agree on a list of relays every 5 seconds until there is one, and then as often as tor lets them:
/// who comes too late for the first is to be on the second.
const AUTHORITY: &str = "\
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
TestingV3AuthInitialVotingInterval 5
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 10
V3AuthVoteDelay 2
V3AuthDistDelay 2
TestingDirAuthVoteGuard *
TestingMinExitFlagThreshold 0
ExitPolicy reject *:*
";

/// An exit connects to everything, this machine above all, and for relays that it has not heard of yet: else it would
/// refuse a client that knows the list of relays before it does.
const EXIT: &str = "\
ExitRelay 1
RefuseUnknownExits 0
IPv6Exit 1
ExitPolicyRejectPrivate 0
ExitPolicy accept *:*
ExitPolicy accept6 *:*
ServerDNSDetectHijacking 0
";

/// Without conflux a stream is on one circuit, not on a pair of them.
const CLIENT: &str = "\
ClientOnly 1
ClientRejectInternalAddresses 0
ClientDNSRejectInternalAddresses 0
ConfluxEnabled 0
";

/// A Tor network, and the proxy of its one client. What the exits are asked to connect to is on this machine; names
/// of the domain [`test`](crate::servers::names::DOMAIN) are names of 127.0.0.1 there, and no others exist.
pub struct TorTestnet {
    pub socks: SocketAddr,
    /// The client's HTTP proxy.
    pub http: SocketAddr,
    pub control: SocketAddr,
    // All end before their folder goes.
    client: Process,
    relays: Vec<Process>,
    _names: NameServer,
    _folder: tempfile::TempDir,
}

impl TorTestnet {
    /// A network of the caller's own, when its client is ready.
    pub async fn start() -> Option<Self> {
        let tor = Program::find(&["tor"])?;
        let gencert = Program::find(&["tor-gencert"])?;
        let folder = folder();
        let names = NameServer::start();
        let resolv_conf = file(folder.path(), "resolv.conf", &format!("nameserver {}\n", names.address));

        let authorities: Vec<_> = thread::scope(|scope| {
            let authority =
                |index: usize| Authority::new(&tor, &gencert, &folder.path().join(format!("a{index}")));
            let threads: Vec<_> =
                (0..AUTHORITIES).map(|index| scope.spawn(move || authority(index))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let lines: String = authorities.iter().map(Authority::line).collect();
        let common = format!("{COMMON}{lines}");

        let spawn = |name: &str, own: &str| {
            let folder = folder.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            let config = format!("{common}{own}");
            Process::spawn(&format!("tor {name}"), tor::command(&tor, &folder, &config))
        };
        let mut relays = Vec::new();
        for (index, authority) in authorities.iter().enumerate() {
            relays.push(spawn(&format!("a{index}"), &authority.config()));
        }
        for index in 0..EXITS {
            let name = format!("exit{index}");
            let config = format!(
                "{RELAY}{EXIT}Nickname {name}\nAddress 127.0.0.1\nORPort {}\nServerDNSResolvConfFile {}\n",
                port::free_v4(),
                resolv_conf.display(),
            );
            relays.push(spawn(&name, &config));
        }
        let [socks, http, control] = [(); 3].map(|()| port::free_v4());
        let ports = format!("SocksPort {socks}\nHTTPTunnelPort {http}\nControlPort {control}\n");
        let client = spawn("client", &format!("{CLIENT}{ports}"));
        for relay in &relays {
            relay.logged("Bootstrapped 0%").await;
        }
        let network = Self { socks, http, control, client, relays, _names: names, _folder: folder };
        // The first list may be one without exits.
        network.client.logged("The current consensus contains exit nodes").await;
        network.client.logged("Bootstrapped 100%").await;
        Some(network)
    }

    /// The network that the tests of a program share while any of them uses it.
    pub async fn shared() -> Option<SharedTorTestnet> {
        static SHARED: Mutex<Weak<TorTestnet>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        let network = match shared.upgrade() {
            Some(network) => network,
            None => Arc::new(Self::start().await?),
        };
        *shared = Arc::downgrade(&network);
        Some(SharedTorTestnet(network))
    }

    /// A connection to the control port of the client.
    pub async fn control(&self) -> Control {
        Control::connect(self.control).await
    }
}

/// A use of a [`TorTestnet`] that others may use, too. The last takes it down.
pub struct SharedTorTestnet(Arc<TorTestnet>);

impl Deref for SharedTorTestnet {
    type Target = TorTestnet;

    fn deref(&self) -> &TorTestnet {
        &self.0
    }
}

impl Drop for SharedTorTestnet {
    fn drop(&mut self) {
        // The processes do so when they end, but that may be in another test, which succeeds.
        if thread::panicking() && Arc::strong_count(&self.0) > 1 {
            self.0.client.show_log();
        }
    }
}

/// A stream that stays open, to a port of its own, by which tor's list of streams tells it from all others.
pub struct HeldStream {
    port: u16,
    _client: BoxStream,
    _origin: TcpStream,
}

impl HeldStream {
    /// Opens it with `connect`, which gets what to connect to.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn open(connect: impl AsyncFnOnce(&Endpoint) -> Result<BoxStream, NetworkError>) -> Self {
        let origin = Origin::new().await;
        let client = connect(&origin.endpoint()).await.unwrap();
        Self { port: origin.address().port(), _client: client, _origin: origin.accept().await }
    }

    /// The circuit that it is on.
    pub async fn circuit(&self, tor: &TorTestnet) -> String {
        tor.control().await.circuit_to(self.port).await
    }
}

/// One that says which relays there are: it has a key to vote with, beside the one that it has as a relay.
struct Authority {
    name: String,
    or: SocketAddr,
    dir: SocketAddr,
    voting_key: String,
    relay_key: String,
}

impl Authority {
    /// Makes the keys of one, in `folder`, where it is to run.
    fn new(tor: &Program, gencert: &Program, folder: &Path) -> Self {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let (or, dir) = (port::free_v4(), port::free_v4());
        let data = folder.join("data");
        let keys = data.join("keys");
        std::fs::create_dir_all(&keys).unwrap();
        make_private(&[&data, &keys]);

        let passphrase = file(folder, "passphrase", "a test's\n");
        let key = |name: &str| keys.join(format!("authority_{name}"));
        let mut command = gencert.command();
        command.args(["--create-identity-key", "-m", "12", "--passphrase-fd", "0"]);
        command.arg("-i").arg(key("identity_key")).arg("-s").arg(key("signing_key"));
        command.arg("-c").arg(key("certificate")).args(["-a", &dir.to_string()]);
        run(command.stdin(File::open(passphrase).unwrap()));
        let certificate = std::fs::read_to_string(key("certificate")).unwrap();
        let voting_key =
            certificate.lines().find_map(|line| line.strip_prefix("fingerprint ")).unwrap().to_owned();

        let config = format!("Nickname {name}\nORPort {or}\n");
        run(tor::command(tor, folder, &config).args(["--list-fingerprint", "--quiet"]));
        let fingerprint = std::fs::read_to_string(data.join("fingerprint")).unwrap();
        let relay_key = fingerprint.split_whitespace().nth(1).unwrap().to_owned();
        Self { name, or, dir, voting_key, relay_key }
    }

    /// What everyone has to know of it.
    fn line(&self) -> String {
        let Self { name, or, dir, voting_key, relay_key } = self;
        let port = or.port();
        format!("DirAuthority {name} orport={port} v3ident={voting_key} {dir} {relay_key}\n")
    }

    fn config(&self) -> String {
        let Self { name, or, dir, .. } = self;
        format!("{RELAY}{AUTHORITY}Nickname {name}\nAddress 127.0.0.1\nORPort {or}\nDirPort {dir}\n")
    }
}

/// Lets nobody else look into these folders, as tor demands.
fn make_private(folders: &[&PathBuf]) {
    use std::os::unix::fs::PermissionsExt as _;
    for folder in folders {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}
