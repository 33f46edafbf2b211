//! The tunnel to wireguard-go, with the TCP and UDP of this host's kernel behind it.
//!
//! All of it is in a network namespace of its own, which takes root, and is gone with the test. `apt-get install
//! iproute2 wireguard-go wireguard-tools` gets what it takes. Where that is missing the test is skipped, and says so;
//! with `CI` set it fails.

use std::process::Command;

use frame_net::{LocalEndpoint, Network as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::pair::{LEFT, RIGHT, left, network, public};
use crate::support::{endpoint, soon};

const INSIDE: &str = "wireguard_go::inside";

fn run(command: &str) {
    let status = Command::new("sh").args(["-ec", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

#[test]
fn a_tunnel_to_wireguard_go_carries_tcp_and_udp() {
    let needed = "command -v wireguard-go wg ip && unshare -n ip link && test -c /dev/net/tun";
    let has_it = Command::new("sh").args(["-ec", needed]).output().unwrap().status.success();
    if !has_it {
        assert!(std::env::var_os("CI").is_none(), "wireguard-go, wg, ip and root are needed");
        eprintln!("skipped: wireguard-go, wg, ip and root are needed");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .arg("-n")
        .arg(this)
        .args([INSIDE, "--exact", "--ignored", "--nocapture"])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Ended with the test.
struct Server;

impl Server {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, RIGHT).unwrap();
        // It returns when it can be asked, and leaves a process behind that ends with the interface.
        run("ip link set lo up; LOG_LEVEL=error wireguard-go wgtest 2>/dev/null");
        let server = Self;
        run(&format!(
            "wg set wgtest listen-port 51820 private-key {} peer {} allowed-ips 10.9.0.1/32,fd09::1/128
             ip address add 10.9.0.2/24 dev wgtest; ip address add fd09::2/64 dev wgtest nodad
             ip link set wgtest mtu 1420 up",
            key.display(),
            public(LEFT),
        ));
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", "wgtest"]).status();
    }
}

#[test]
#[ignore = "run by the test above, in a network namespace"]
fn inside() {
    let _server = Server::new();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut settings = left("127.0.0.1:51820");
        settings["peers"][0]["keepalive_s"] = json!(1);
        let tunnel = network(settings);
        for address in ["10.9.0.2", "[fd09::2]"] {
            streams(&tunnel, address).await;
            datagrams(&tunnel, address).await;
        }
    });
}

async fn streams(tunnel: &frame_net::wireguard::WireGuard, address: &str) {
    let kernel = TcpListener::bind(format!("{address}:80")).await.unwrap();
    let to = endpoint(&format!("{address}:80"));
    let (ours, theirs) = tokio::join!(soon(tunnel.connect(&to, None)), soon(kernel.accept()));
    transfer(ours.unwrap(), theirs.unwrap().0).await;

    let mut listener = tunnel.listen(&LocalEndpoint::port(80)).await.unwrap();
    let to = if address.starts_with('[') { "[fd09::1]:80" } else { "10.9.0.1:80" };
    let (theirs, ours) = tokio::join!(soon(TcpStream::connect(to)), soon(listener.accept()));
    transfer(ours.unwrap().0, theirs.unwrap()).await;
}

/// Both send some MiB at the same time, and each gets what the other sent.
async fn transfer(ours: frame_net::BoxStream, theirs: TcpStream) {
    let (mut our_reader, mut our_writer) = tokio::io::split(ours);
    let (mut their_reader, mut their_writer) = theirs.into_split();
    let sent: Vec<u8> = (0..2_u32 << 20).map(|index| (index / 251).to_le_bytes()[0]).collect();
    let (mut received, mut answered) = (Vec::new(), Vec::new());
    soon(async {
        tokio::join!(
            async {
                our_writer.write_all(&sent).await.unwrap();
                our_writer.shutdown().await.unwrap();
            },
            async {
                their_writer.write_all(&sent).await.unwrap();
                their_writer.shutdown().await.unwrap();
            },
            async { our_reader.read_to_end(&mut received).await.unwrap() },
            async { their_reader.read_to_end(&mut answered).await.unwrap() },
        )
    })
    .await;
    assert!(received == sent && answered == sent);
}

async fn datagrams(tunnel: &frame_net::wireguard::WireGuard, address: &str) {
    let kernel = UdpSocket::bind(format!("{address}:53")).await.unwrap();
    let port = tunnel.bind_datagrams(&LocalEndpoint::default()).await.unwrap();
    port.send_to(b"question", &endpoint(&format!("{address}:53"))).await.unwrap();
    let mut buffer = [0; 100];
    let (len, from) = soon(kernel.recv_from(&mut buffer)).await.unwrap();
    assert_eq!((&buffer[..len], from.port()), (&b"question"[..], port.local().port));
    kernel.send_to(b"answer", from).await.unwrap();
    let (len, _) = soon(port.receive_from(&mut buffer)).await.unwrap();
    assert_eq!(&buffer[..len], b"answer");
}
