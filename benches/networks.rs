//! What a network costs: to connect, back and forth, and in bulk; this crate's beside its peers, through the same Dante,
//! and through tinyproxy what is asked of an HTTP proxy.
//!
//! All cases of a table take turns within one run, so that a clock that changes its mind changes it for all of them; a
//! ratio is the median of the ratios of the turns. The origin has a thread of its own.

#[path = "../net/tests/servers/mod.rs"]
mod servers;
#[path = "../net/tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use frame_net::{BoxStream, Dialer, Endpoint};
use frame_registry::{App, FrameBuilder, FrameResolvers, Options, ResolveContext};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use servers::dante::Dante;
use servers::tinyproxy::Tinyproxy;

const TURNS: usize = 25;
const CONNECTS: u32 = 20;
const ROUND_TRIPS: u32 = 1_000;
const BULK: usize = 64 << 20;
const PIECE: usize = 64 << 10;

/// How a case connects.
enum Way {
    /// `tokio`'s `TcpStream`.
    Tcp,
    /// Through a frame's dialer.
    Frame(Dialer),
    TokioSocks(SocketAddr),
    FastSocks5(SocketAddr),
}

impl Way {
    async fn connect(&self, to: SocketAddr) -> BoxStream {
        match self {
            Self::Tcp => {
                let stream = TcpStream::connect(to).await.unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Self::Frame(dialer) => dialer.connect(&Endpoint::try_from(to).unwrap()).await.unwrap(),
            // The peers have no deadline of their own, so they are given one, as whoever uses them should.
            Self::TokioSocks(proxy) => {
                within(async {
                    let socket = TcpStream::connect(proxy).await.unwrap();
                    socket.set_nodelay(true).unwrap();
                    Box::new(tokio_socks::tcp::Socks5Stream::connect_with_socket(socket, to).await.unwrap())
                        as BoxStream
                })
                .await
            }
            Self::FastSocks5(proxy) => {
                within(async {
                    let config = fast_socks5::client::Config::default();
                    let (host, port) = (to.ip().to_string(), to.port());
                    let stream =
                        fast_socks5::client::Socks5Stream::connect(proxy, host, port, config).await.unwrap();
                    stream.get_socket_ref().set_nodelay(true).unwrap();
                    Box::new(stream) as BoxStream
                })
                .await
            }
        }
    }
}

async fn within<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), event).await.unwrap()
}

/// The dialer of a frame, for a call with these options.
fn dialer(networks: &Value, options: &Value) -> Dialer {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    let config = json!({ "clearnet": { "allow": ["127.0.0.1"] }, "networks": networks });
    frame_net::boot(&mut app, serde_json::from_value(config).unwrap()).unwrap();
    let app = app.build();
    let mut frame = FrameBuilder::new();
    let options = Options::from_json(options).unwrap();
    app.resolvers().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut()).unwrap();
    frame_net::dialer(&frame.seal(), &app).unwrap()
}

/// Answers each byte with a byte, or takes a lot and answers with one, as the first byte of a connection says.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut piece = vec![0; PIECE];
            let mut mode = [0];
            if stream.read_exact(&mut mode).is_err() {
                continue;
            }
            if mode == [b'e'] {
                while stream.read_exact(&mut mode).is_ok() && stream.write_all(&mode).is_ok() {}
                continue;
            }
            let mut left = BULK;
            while left > 0 {
                match stream.read(&mut piece) {
                    Ok(read) if read > 0 => left -= read,
                    _ => break,
                }
            }
            let _ = stream.write_all(&mode);
        }
    });
    address
}

/// Seconds, by the clock and of this thread's processor time.
#[derive(Clone, Copy)]
struct Cost {
    clock: f64,
    processor: f64,
}

/// A point from which a [`Cost`] is counted.
struct Begun {
    clock: Instant,
    processor: u64,
}

impl Cost {
    fn now() -> Begun {
        Begun { clock: Instant::now(), processor: processor_time() }
    }
}

impl Begun {
    /// The cost of each of so many that were done.
    #[allow(clippy::cast_precision_loss)]
    fn since(&self, count: u32) -> Cost {
        let (clock, processor) = (self.clock.elapsed(), processor_time() - self.processor);
        Cost {
            clock: clock.as_secs_f64() / f64::from(count),
            processor: processor as f64 / 1e9 / f64::from(count),
        }
    }
}

/// Nanoseconds that the kernel has given to this thread.
fn processor_time() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let field = text.split_whitespace().next().expect("three numbers");
    field.parse().expect("three numbers")
}

/// The cost of one turn.
async fn connects(way: &Way, to: SocketAddr) -> Cost {
    let begun = Cost::now();
    for _ in 0..CONNECTS {
        drop(way.connect(to).await);
    }
    begun.since(CONNECTS)
}

async fn round_trips(way: &Way, to: SocketAddr) -> Cost {
    let mut stream = way.connect(to).await;
    stream.write_all(b"e").await.unwrap();
    let begun = Cost::now();
    for _ in 0..ROUND_TRIPS {
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        stream.read_u8().await.unwrap();
    }
    begun.since(ROUND_TRIPS)
}

/// The time a MiB takes.
async fn bulk(way: &Way, to: SocketAddr) -> Cost {
    let mut stream = way.connect(to).await;
    let piece = vec![7; PIECE];
    stream.write_all(b"b").await.unwrap();
    let begun = Cost::now();
    for _ in 0..BULK / PIECE {
        stream.write_all(&piece).await.unwrap();
    }
    stream.flush().await.unwrap();
    stream.read_u8().await.unwrap();
    begun.since(u32::try_from(BULK >> 20).unwrap())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The case that ratios are of.
const REFERENCE: usize = 0;

/// Prints a table: what a turn cost, as `shown` shows it, and the ratio to what it cost the [`REFERENCE`].
async fn table(
    title: &str,
    cases: &[(&str, Way)],
    mut turn: impl AsyncFnMut(&Way) -> Cost,
    shown: impl Fn(f64) -> String,
) {
    println!(
        "\n| {title} | median | ratio | processor time of the client | ratio |\n|---|---:|---:|---:|---:|"
    );
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); cases.len()];
    for round in 0..=TURNS {
        for place in 0..cases.len() {
            // Nobody is always first, or always after the same other.
            let place = if round % 2 == 0 { place } else { cases.len() - 1 - place };
            let case = (place + round / 2) % cases.len();
            let cost = turn(&cases[case].1).await;
            // The first turn warms up.
            if round > 0 {
                costs[case].push(cost);
            }
        }
    }
    let ratio = |case: usize, of: fn(&Cost) -> f64| {
        median(costs[case].iter().zip(&costs[REFERENCE]).map(|(this, that)| of(this) / of(that)).collect())
    };
    for (case, (name, _)) in cases.iter().enumerate() {
        let shown = shown(median(costs[case].iter().map(|cost| cost.clock).collect()));
        let processor = median(costs[case].iter().map(|cost| cost.processor * 1e6).collect());
        let [clock_ratio, processor_ratio] =
            [ratio(case, |cost| cost.clock), ratio(case, |cost| cost.processor)];
        println!("| {name} | {shown} | {clock_ratio:.2} | {processor:.0} µs | {processor_ratio:.2} |");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (Some(dante), Some(tinyproxy)) = (Dante::start().await, Tinyproxy::start().await) else { return };
    let to = origin();
    let proxy = dante.address;
    let overlay =
        json!({ "bench:dante": { "kind": "socks5", "proxy": proxy.to_string(), "allow": ["127.0.0.1"] } });
    let http = json!({ "bench:tinyproxy": {
        "kind": "http-connect", "proxy": tinyproxy.address.to_string(), "allow": ["127.0.0.1"],
    } });
    let cases = [
        (
            "SOCKS5, through a frame's dialer",
            Way::Frame(dialer(&overlay, &json!({ "network": "bench:dante" }))),
        ),
        ("SOCKS5, tokio-socks with a deadline", Way::TokioSocks(proxy)),
        ("SOCKS5, fast-socks5 with a deadline", Way::FastSocks5(proxy)),
        (
            "HTTP CONNECT, through a frame's dialer",
            Way::Frame(dialer(&http, &json!({ "network": "bench:tinyproxy" }))),
        ),
        ("clearnet, through a frame's dialer", Way::Frame(dialer(&json!({}), &json!({})))),
        ("TCP, tokio", Way::Tcp),
    ];
    let micros = |seconds: f64| format!("{:.0} µs", seconds * 1e6);
    table(
        "connect",
        &cases,
        async |way| connects(way, to).await,
        |seconds| format!("{}, {:.0}/s", micros(seconds), 1.0 / seconds),
    )
    .await;
    table("round trip of a byte", &cases, async |way| round_trips(way, to).await, micros).await;
    table(
        "one way",
        &cases,
        async |way| bulk(way, to).await,
        |seconds| format!("{:.0} MB/s", 1.048_576 / seconds),
    )
    .await;
}
