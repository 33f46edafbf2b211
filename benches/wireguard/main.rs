//! What a tunnel costs: back and forth, and in bulk, between two WireGuard networks of one process over UDP on loopback,
//! with all of it on one thread, with each of the stacks; and the same over plain TCP beside it. Then how much gets through,
//! and with what pauses, over a relay that delays, loses and reorders datagrams; and plain TCP over the same relay.
//!
//! What is shown is the median of the turns. `cargo bench -p frame-benches --bench wireguard` measures all;
//! `-- bulk` or `-- lossy` one of the two. Root measures with each congestion control that there is: the host's is
//! changed while a tunnel is made, and restored at once.

#[cfg(target_os = "linux")]
mod plain;
#[path = "../../net/tests/wireguard/relay.rs"]
mod relay;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use frame_net::wireguard::{PeerConfig, PublicKey, StackChoice, WireGuard, WireGuardConfig, helper};
use frame_net::{BoxStream, LocalEndpoint, Network as _, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use relay::{Faults, Relay};

const TURNS: usize = 9;
const ROUND_TRIPS: u32 = 10_000;
const BULK: usize = 256 << 20;
const PIECE: usize = 256 << 10;
/// How often what is lossy is measured, and how long each time.
const LOSSY_TURNS: usize = 3;
const LOSSY: Duration = Duration::from_secs(4);

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

/// Both ends of a connection through the tunnel, which reaches the server by this way.
async fn tunnel(stack: StackChoice, way: impl FnOnce(SocketAddr) -> SocketAddr) -> [BoxStream; 2] {
    let server = WireGuard::new(&config(1, stack).with_peer(peer(1))).unwrap();
    let endpoint = way(server.local_address()).try_into().unwrap();
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

/// What is between the two ends in the second part: each has 20 ms there and back.
fn ways() -> [(&'static str, Faults); 5] {
    let clean = Faults { delay: Duration::from_millis(10), ..Faults::default() };
    [
        ("nothing lost", clean),
        ("1 % lost", Faults { lost: 10, ..clean }),
        ("5 % lost", Faults { lost: 50, ..clean }),
        ("2 % are 2 ms late", Faults { late: (20, Duration::from_millis(2)), ..clean }),
        ("20 Mbit/s, 50 queued", Faults { bottleneck: Some((20_000_000, 50)), ..clean }),
    ]
}

/// Megabits in a second, and the longest time in milliseconds between two reads.
#[derive(Clone, Copy)]
struct Lossy {
    rate: f64,
    silence: f64,
}

/// Writes as much as gets through.
async fn measure([writer, reader]: &mut [BoxStream; 2]) -> Lossy {
    let writing = async {
        let piece = vec![7; PIECE];
        while writer.write_all(&piece).await.is_ok() {}
    };
    let reading = async {
        let mut piece = vec![0; PIECE];
        let begun = Instant::now();
        let (mut received, mut silence, mut last) = (0, Duration::ZERO, begun);
        while begun.elapsed() < LOSSY {
            if let Ok(len) = timeout(LOSSY, reader.read(&mut piece)).await {
                received += len.unwrap();
            }
            silence = silence.max(last.elapsed());
            last = Instant::now();
        }
        let megabits = f64::from(u32::try_from(received).unwrap()) * 8.0 / 1e6;
        Lossy { rate: megabits / begun.elapsed().as_secs_f64(), silence: silence.as_secs_f64() * 1e3 }
    };
    tokio::select! {
        () = writing => unreachable!("the reader is there"),
        figures = reading => figures,
    }
}

/// Measures a stack over a relay, and counts what the relay's sockets dropped, which must be nothing.
async fn over(stack: StackChoice, control: Option<&str>, faults: Faults, dropped: &mut u64) -> Lossy {
    let mut relay = None;
    let changed = control.map(Control::set);
    let mut ends = tunnel(stack, |server| relay.insert(Relay::start(server, faults, 0x5eed)).address()).await;
    drop(changed);
    let figures = measure(&mut ends).await;
    *dropped += relay.map_or(0, |relay| relay.ports().into_iter().map(drops).sum());
    figures
}

/// The host's congestion control while it is another one.
struct Control(String);

const CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

impl Control {
    fn set(name: &str) -> Self {
        let before = Self(std::fs::read_to_string(CONTROL).unwrap());
        std::fs::write(CONTROL, name).unwrap();
        before
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        std::fs::write(CONTROL, &self.0).unwrap();
    }
}

/// The congestion controls to measure with, or `None` for the host's.
fn controls() -> Vec<Option<String>> {
    let is_writable = std::fs::OpenOptions::new().write(true).open(CONTROL).is_ok();
    let allowed = Path::new(CONTROL).with_file_name("tcp_allowed_congestion_control");
    let allowed = std::fs::read_to_string(allowed).unwrap_or_default();
    let allowed: Vec<_> = ["cubic", "bbr"].into_iter().filter(|name| allowed.contains(name)).collect();
    if !is_writable || allowed.is_empty() {
        return vec![None];
    }
    allowed.into_iter().map(|name| Some(name.to_owned())).collect()
}

/// How many datagrams the socket at this port of loopback has dropped for want of room.
fn drops(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let local = format!("0100007F:{port:04X}");
    let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&local));
    line.and_then(|line| line.split_whitespace().last()?.parse().ok()).unwrap_or(0)
}

async fn compare_bulk() {
    let direct = |server| server;
    let mut cases = [
        ("plain TCP", plain().await),
        ("kernel", tunnel(StackChoice::Kernel, direct).await),
        ("user space", tunnel(StackChoice::User, direct).await),
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
}

async fn compare_lossy() {
    println!("\n{:<22}{:<20}{:>8}{:>14}", "at 20 ms", "", "Mbit/s", "silence, ms");
    let mut dropped = 0;
    for (index, (way, faults)) in ways().into_iter().enumerate() {
        let show = |name: &str, figures: Vec<Lossy>| {
            let rate = median(figures.iter().map(|figures| figures.rate).collect());
            let silence = median(figures.iter().map(|figures| figures.silence).collect());
            println!("{way:<22}{name:<20}{rate:>8.1}{silence:>14.0}");
        };
        for control in controls() {
            let control = control.as_deref();
            let mut figures = Vec::new();
            for _ in 0..LOSSY_TURNS {
                figures.push(over(StackChoice::Kernel, control, faults, &mut dropped).await);
            }
            let control = control.unwrap_or("host's");
            show(&format!("kernel, {control}"), figures);
            #[cfg(target_os = "linux")]
            if let Some(figures) = (0..LOSSY_TURNS).map(|_| plain::run(control, index)).collect() {
                show(&format!("plain TCP, {control}"), figures);
            }
        }
        let mut figures = Vec::new();
        for _ in 0..LOSSY_TURNS {
            figures.push(over(StackChoice::User, None, faults, &mut dropped).await);
        }
        show("user space", figures);
    }
    println!("the relay dropped {dropped} datagrams for want of room");
}

fn main() {
    helper::init();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    #[cfg(target_os = "linux")]
    if let [mode, control, index] = arguments.as_slice()
        && mode == plain::MODE
    {
        let (_, faults) = ways()[index.parse::<usize>().unwrap()];
        let Lossy { rate, silence } = runtime.block_on(plain::over(control, faults));
        return println!("{rate} {silence}");
    }
    let is_wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == part);
    runtime.block_on(async {
        if is_wanted("bulk") {
            compare_bulk().await;
        }
        if is_wanted("lossy") {
            compare_lossy().await;
        }
    });
}
