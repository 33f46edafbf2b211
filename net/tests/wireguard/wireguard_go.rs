//! The tunnel to wireguard-go, with the TCP and UDP of this host's kernel behind it.
//!
//! The test runs again as a process of its own, in a network namespace that is gone with it.

use std::process::Command;

use frame_net::{LocalEndpoint, Network as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::pair::{LEFT, RIGHT, has_kernel_stack, left, network, public};
use crate::servers::process::Process;
use crate::servers::program::{Program, run, skipped};
use crate::support::{endpoint, soon};

const NAME: &str = "wireguard_go::a_tunnel_to_wireguard_go_carries_tcp_and_udp";
/// Set in the process that is in the namespace.
const INSIDE: &str = "FRAME_NET_WIREGUARD_GO";

/// wireguard-go is asked through a socket in `/run`, which others of it must not share.
const ENTER: &str = "mount -t tmpfs none /run; ip link set lo up";

#[test]
fn a_tunnel_to_wireguard_go_carries_tcp_and_udp() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(inside());
    }
    if [&["wireguard-go"], &["wg"]].into_iter().any(|names| Program::find(names).is_none()) {
        return;
    }
    let tried = unshare().args(["sh", "-euc", &format!("{ENTER}; test -w /dev/net/tun")]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return skipped("this needs user namespaces, `unshare`, `ip` and /dev/net/tun");
    }
    let mut again = unshare();
    again.args(["sh", "-euc", &format!("{ENTER}; exec \"$0\" --exact {NAME} --nocapture")]);
    let printed = run(again.arg(std::env::current_exe().unwrap()).env(INSIDE, "1"));
    assert!(printed.contains("1 passed"), "{printed}");
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount"]);
    command
}

async fn inside() {
    let mut server = Program::find(&["wireguard-go"]).unwrap().command();
    server.args(["-f", "wgtest"]).env("LOG_LEVEL", "verbose");
    let server = Process::spawn("wireguard-go", server);
    server.logged("UAPI listener started").await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, RIGHT).unwrap();
    let mut wg = Program::find(&["wg"]).unwrap().command();
    wg.args(["set", "wgtest", "listen-port", "51820", "private-key"]).arg(&key);
    run(wg.args(["peer", &public(LEFT), "allowed-ips", "10.9.0.1/32,fd09::1/128"]));
    for arguments in [
        "address add 10.9.0.2/24 dev wgtest",
        "address add fd09::2/64 dev wgtest nodad",
        "link set wgtest mtu 1420 up",
    ] {
        run(Command::new("ip").args(arguments.split(' ')));
    }

    let stacks = if has_kernel_stack() { &["user", "kernel"][..] } else { &["user"] };
    for stack in stacks {
        let mut settings = left(stack, "127.0.0.1:51820");
        settings["peers"][0]["keepalive"] = json!("1s");
        let tunnel = network(settings);
        for address in ["10.9.0.2", "[fd09::2]"] {
            streams(&tunnel, address).await;
            datagrams(&tunnel, address).await;
        }
    }
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
    let port = tunnel.bind_datagram(&LocalEndpoint::default()).await.unwrap();
    port.send_to(b"question", &endpoint(&format!("{address}:53"))).await.unwrap();
    let mut buffer = [0; 100];
    let (len, from) = soon(kernel.recv_from(&mut buffer)).await.unwrap();
    assert_eq!((&buffer[..len], from.port()), (&b"question"[..], port.local().port));
    kernel.send_to(b"answer", from).await.unwrap();
    let (len, _) = soon(port.receive_from(&mut buffer)).await.unwrap();
    assert_eq!(&buffer[..len], b"answer");
}
