//! A network of its own for each test, in which every packet that is not meant to be sent is seen.
//!
//! A test runs again as a process of its own, in namespaces of Linux: nothing leaves them, the resolver of the C library
//! asks a silent DNS server inside, and the kernel counts what this process, and nobody else, sends.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use crate::servers::namespace;

/// Declares tests that run [sealed](run).
macro_rules! sealed_tests {
    ($($(#[$meta:meta])* async fn $name:ident($world:ident: World) $body:block)*) => {
        $($(#[$meta])* #[test] fn $name() {
            crate::sealed::run(crate::servers::namespace::test_path!($name), async |$world: crate::sealed::World| $body);
        })*
    };
}
pub(crate) use sealed_tests;

/// A public address that leads to the decoy, as any other does.
pub(crate) const PUBLIC: &str = "93.184.216.34";
pub(crate) const PUBLIC_V6: &str = "2606:2800:220:1::1";
/// A name that this host could look up in a file, and that leads to the decoy.
pub(crate) const LOCAL_NAME: &str = "decoy.example";
/// Names that are in a file, too, and that lead to this host's loopback interface.
pub(crate) const INSIDE_NAMES: [&str; 2] = ["inside.example", "inside.too.example"];
/// A name that this host would have to ask the DNS server about.
pub(crate) const REMOTE_NAME: &str = "remote.example";

/// Brings the loopback interface up, gives it the addresses, and puts files of the test's in the place of the resolver's.
const ENTER: &str = r#"
ip link set lo up
ip addr add "$1/32" dev lo
ip -6 addr add "$2/128" dev lo nodad
for file in hosts resolv.conf nsswitch.conf; do mount --bind "$3/$file" "/etc/$file"; done
"#;

/// What is in the namespaces beside the test: a server at every address of this host, and a DNS server that is silent.
pub(crate) struct World {
    decoy: TcpListener,
    dns: UdpSocket,
}

impl World {
    fn new() -> Self {
        // On every address, of both families.
        let decoy = TcpListener::bind("[::]:0").unwrap();
        decoy.set_nonblocking(true).unwrap();
        let dns = UdpSocket::bind("[::]:53").unwrap();
        dns.set_nonblocking(true).unwrap();
        Self { decoy, dns }
    }

    /// The port of the decoy, at any address.
    pub(crate) fn port(&self) -> u16 {
        self.decoy.local_addr().unwrap().port()
    }

    /// Where a call would come to the decoy, if only it were on clearnet: by address, by a name that is in a file, by one
    /// that is to be asked for.
    pub(crate) fn ways_to_the_decoy(&self) -> [String; 5] {
        let port = self.port();
        [
            format!("{PUBLIC}:{port}"),
            format!("[{PUBLIC_V6}]:{port}"),
            format!("127.0.0.1:{port}"),
            format!("{LOCAL_NAME}:{port}"),
            format!("{REMOTE_NAME}:{port}"),
        ]
    }

    /// Waits until the decoy is connected to.
    pub(crate) async fn decoy_is_reached(&self) {
        // A busy host can deliver the last packet of a handshake after `connect` has returned.
        let decoy = tokio::net::TcpListener::from_std(self.decoy.try_clone().unwrap()).unwrap();
        let reached = tokio::time::timeout(Duration::from_secs(30), decoy.accept()).await;
        reached.expect("the decoy was not reached").unwrap();
    }

    /// Returns whether the decoy was connected to since this was last asked.
    pub(crate) fn decoy_was_reached(&self) -> bool {
        match self.decoy.accept() {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                false
            }
        }
    }

    /// Whether the DNS server was asked something since this was last asked.
    pub(crate) fn dns_was_asked(&self) -> bool {
        match self.dns.recv_from(&mut [0; 512]) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                false
            }
        }
    }

    /// What the DNS server was asked next, if it was.
    #[allow(dead_code)]
    pub(crate) fn dns_question(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 512];
        self.dns.recv_from(&mut buffer).ok().map(|(len, _)| buffer[..len].to_vec())
    }

    /// Fails unless the decoy and the DNS server saw nothing, no datagram was sent to anybody, and `opened` TCP
    /// connections were begun since the process started, as the kernel counted them.
    pub(crate) fn assert_silent_but_for(&self, opened: u64) {
        self.assert_silent_but_for_datagrams(opened);
        assert_eq!(datagrams_sent(), 0, "datagrams were sent");
    }

    /// The same, where datagrams are what carries the network.
    pub(crate) fn assert_silent_but_for_datagrams(&self, opened: u64) {
        assert!(!self.decoy_was_reached(), "the decoy was reached over clearnet");
        assert!(!self.dns_was_asked(), "this host looked a name up");
        assert_eq!(connections_opened(), opened, "connections begun by this process");
    }

    /// Fails unless every datagram that was sent came to a socket of this network namespace: those of the test, and that of
    /// the DNS server.
    #[allow(dead_code, reason = "the tests of the program share this file and do not need it")]
    pub(crate) fn assert_datagrams_arrived(&self) {
        assert!(!self.dns_was_asked(), "this host looked a name up");
        let lost = counter("/proc/net/snmp", "Udp:", "NoPorts") + counter_v6("Udp6NoPorts");
        assert_eq!(lost, 0, "datagrams to where there is no socket");
    }
}

/// The TCP connections that were begun in this network namespace, whether they came to be or not.
pub(crate) fn connections_opened() -> u64 {
    counter("/proc/net/snmp", "Tcp:", "ActiveOpens")
}

fn datagrams_sent() -> u64 {
    counter("/proc/net/snmp", "Udp:", "OutDatagrams") + counter_v6("Udp6OutDatagrams")
}

/// A counter of IPv6, which has a line of its own.
fn counter_v6(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/net/snmp6").unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel counts");
    value.trim().parse().unwrap()
}

/// A counter of a table whose first line has the names and whose second has the values.
fn counter(file: &str, table: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(table)).map(str::split_whitespace);
    let position = lines.next().unwrap().position(|column| column == name).expect("the kernel counts");
    lines.next().unwrap().nth(position).unwrap().parse().unwrap()
}

/// Runs `test`, which is the test called `name`, in namespaces of its own.
pub(crate) fn run<F: Future<Output = ()>>(name: &str, test: impl FnOnce(World) -> F) {
    if namespace::is_inside() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(World::new()));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let files = [
        (
            "hosts",
            format!(
                "127.0.0.1 localhost {}\n::1 localhost\n{PUBLIC} {LOCAL_NAME}\n{PUBLIC_V6} {LOCAL_NAME}\n",
                INSIDE_NAMES.join(" "),
            ),
        ),
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n".to_owned()),
        ("nsswitch.conf", "hosts: files dns\n".to_owned()),
    ];
    for (file, content) in files {
        fs::write(folder.path().join(file), content).unwrap();
    }
    // What people set in their shells must not lead anywhere.
    let proxy = format!("http://{PUBLIC}:9");
    let variables =
        ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "SOCKS_PROXY", "all_proxy", "http_proxy", "https_proxy"];
    namespace::run_inside(name, ENTER, |command| {
        command
            .args([PUBLIC, PUBLIC_V6])
            .arg(folder.path())
            .envs(variables.map(|variable| (variable, &proxy)))
            .env("NO_PROXY", "*")
            .env("no_proxy", "*");
    });
}
