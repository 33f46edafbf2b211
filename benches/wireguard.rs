//! What a tunnel costs: back and forth, and in bulk, between two WireGuard networks of one process over UDP on loopback,
//! with all of it on one thread; and the same over plain TCP beside it.
//!
//! What is shown is the median of the turns. `cargo bench -p frame-benches --bench wireguard`

use std::time::Instant;

use frame_net::wireguard::{PeerConfig, PublicKey, StackChoice, WireGuard, WireGuardConfig, helper};
use frame_net::{BoxStream, LocalEndpoint, Network as _, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const TURNS: usize = 9;
const ROUND_TRIPS: u32 = 10_000;
const BULK: usize = 256 << 20;
const PIECE: usize = 256 << 10;

const KEYS: [&str; 2] =
    ["dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=", "XasIfmJKin5OCvmTzTVwbN3J4Nci5X5hLz8yaXnN5LM="];
const ADDRESSES: [&str; 2] = ["10.8.0.1/32", "10.8.0.2/32"];

/// The settings of an end.
fn config(end: usize, stack: StackChoice) -> WireGuardConfig {
    let mut config = WireGuardConfig::new(Secret::new(KEYS[end]), vec![ADDRESSES[end].parse().unwrap()]);
    config.stack = stack;
    config.bind = Some("127.0.0.1".parse().unwrap());
    config
}

/// The other end, as a peer.
fn peer(end: usize) -> PeerConfig {
    let key = PublicKey::of(&Secret::new(KEYS[1 - end])).unwrap();
    PeerConfig::new(key, vec![ADDRESSES[1 - end].parse().unwrap()])
}

/// Both ends of a connection through the tunnel.
async fn tunnel(stack: StackChoice) -> [BoxStream; 2] {
    let server = WireGuard::new(&config(1, stack).with_peer(peer(1))).unwrap();
    let endpoint = server.local_address().try_into().unwrap();
    let client = WireGuard::new(&config(0, stack).with_peer(peer(0).with_endpoint(endpoint))).unwrap();
    let mut listener = server.listen(&LocalEndpoint::port(80)).await.unwrap();
    let to = "10.8.0.2:80".parse().unwrap();
    let (connected, accepted) = tokio::join!(client.connect(&to, None), listener.accept());
    [connected.unwrap(), accepted.unwrap().0]
}

/// Both ends of a connection without one.
async fn plain() -> [BoxStream; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (connected, accepted) = tokio::join!(connecting, listener.accept());
    let (connected, accepted) = (connected.unwrap(), accepted.unwrap().0);
    connected.set_nodelay(true).unwrap();
    accepted.set_nodelay(true).unwrap();
    [Box::new(connected), Box::new(accepted)]
}

/// Millions of bytes in a second, one way.
async fn bulk([writer, reader]: &mut [BoxStream; 2]) -> f64 {
    let begun = Instant::now();
    let writing = async {
        let piece = vec![7; PIECE];
        for _ in 0..BULK / PIECE {
            writer.write_all(&piece).await.unwrap();
        }
    };
    let reading = async {
        let (mut piece, mut left) = (vec![0; PIECE], BULK);
        while left > 0 {
            left -= reader.read(&mut piece).await.unwrap();
        }
    };
    tokio::join!(writing, reading);
    f64::from(u32::try_from(BULK).unwrap()) / 1e6 / begun.elapsed().as_secs_f64()
}

/// Microseconds for 64 bytes there and back.
async fn round_trip([client, server]: &mut [BoxStream; 2]) -> f64 {
    let begun = Instant::now();
    let echoing = async {
        let mut bytes = [0; 64];
        for _ in 0..ROUND_TRIPS {
            server.read_exact(&mut bytes).await.unwrap();
            server.write_all(&bytes).await.unwrap();
        }
    };
    let asking = async {
        let mut bytes = [0; 64];
        for _ in 0..ROUND_TRIPS {
            client.write_all(&bytes).await.unwrap();
            client.read_exact(&mut bytes).await.unwrap();
        }
    };
    tokio::join!(echoing, asking);
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUND_TRIPS)
}

fn median(mut turns: Vec<f64>) -> f64 {
    turns.sort_by(f64::total_cmp);
    turns[turns.len() / 2]
}

fn main() {
    helper::init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cases = [
            ("plain TCP", plain().await),
            ("kernel", tunnel(StackChoice::Kernel).await),
            ("user space", tunnel(StackChoice::User).await),
        ];
        let mut figures = [const { (Vec::new(), Vec::new()) }; 3];
        for _ in 0..TURNS {
            for ((_, ends), (bulks, trips)) in cases.iter_mut().zip(&mut figures) {
                bulks.push(bulk(ends).await);
                trips.push(round_trip(ends).await);
            }
        }
        println!("{:<12}{:>10}{:>16}", "", "MB/s", "round trip, µs");
        for ((name, _), (bulks, trips)) in cases.iter().zip(figures) {
            println!("{name:<12}{:>10.0}{:>16.1}", median(bulks), median(trips));
        }
    });
}
