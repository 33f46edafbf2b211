//! How many requests a second an HTTP client makes, and how fast it reads and sends a large body: this crate's beside
//! reqwest and curl, to the same server in a process of its own, on loopback and through a SOCKS5 proxy.
//!
//! All clients take turns within one run, so that a clock that changes its mind changes it for all of them. A ratio is the
//! median of the ratios of the turns. curl is a process that makes many requests; its start is not counted, for it is
//! measured beside it with one request.

mod contenders;
mod curl;
#[path = "../../src/command/demo/relay.rs"]
#[allow(dead_code)]
mod relay;
mod server;

use std::fs;
use std::time::Instant;

use contenders::{Contender, NAMES};
use frame_net::http::Bytes;
use server::{BULK, PROTOCOLS, Protocol, Server};
use tokio::runtime::{Builder, Runtime};

const TURNS: usize = 15;
const REQUESTS: u32 = 1_000;
const TOGETHER: [u32; 3] = [1, 16, 100];

/// Seconds, by the clock and of this thread's processor time.
#[derive(Clone, Copy)]
struct Cost {
    clock: f64,
    /// curl's is not known.
    processor: Option<f64>,
}

/// Nanoseconds that the kernel has given to this thread.
fn processor_time() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let field = text.split_whitespace().next().expect("three numbers");
    field.parse().expect("three numbers")
}

#[allow(clippy::cast_precision_loss)]
fn cost(runtime: &Runtime, work: impl Future<Output = ()>) -> Cost {
    let (begun, processor) = (Instant::now(), processor_time());
    runtime.block_on(work);
    let clock = begun.elapsed().as_secs_f64();
    Cost { clock, processor: Some((processor_time() - processor) as f64 / 1e9) }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What each client, of whom the first is the reference, has cost in each turn.
struct Costs(Vec<Vec<Cost>>);

impl Costs {
    /// Has each of `count` clients take its turn.
    fn of(count: usize, mut turn: impl FnMut(usize) -> Cost) -> Self {
        let mut costs = vec![Vec::new(); count];
        for round in 0..=TURNS {
            for place in 0..count {
                // No contender is always first, or always after the same one.
                let place = if round % 2 == 0 { place } else { count - 1 - place };
                let index = (place + round / 2) % count;
                let cost = turn(index);
                // The first turn warms up.
                if round > 0 {
                    costs[index].push(cost);
                }
            }
        }
        Self(costs)
    }

    fn clock(&self, index: usize) -> f64 {
        median(self.0[index].iter().map(|cost| cost.clock))
    }

    /// How many times as long this client took as the reference.
    fn clock_ratio(&self, index: usize) -> f64 {
        median(self.0[index].iter().zip(&self.0[0]).map(|(this, that)| this.clock / that.clock))
    }

    fn processor(&self, index: usize) -> Option<f64> {
        let costs: Option<Vec<_>> = self.0[index].iter().map(|cost| cost.processor).collect();
        Some(median(costs?.into_iter()))
    }

    fn processor_ratio(&self, index: usize) -> Option<f64> {
        let ratio = |(this, that): (&Cost, &Cost)| Some(this.processor? / that.processor?);
        let ratios: Option<Vec<_>> = self.0[index].iter().zip(&self.0[0]).map(ratio).collect();
        Some(median(ratios?.into_iter()))
    }
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn names() -> Vec<&'static str> {
    let mut names = NAMES.to_vec();
    if curl::is_there() {
        names.push("curl");
    }
    names
}

fn rates(runtime: &Runtime, server: &Server, is_proxied: bool, title: &str) {
    println!("\n| {title} | at once |  | requests/s | time, × | processor time, µs | × |");
    println!("|---|---:|---|---:|---:|---:|---:|");
    let contenders = Contender::all(server, is_proxied);
    for protocol in PROTOCOLS {
        let url = server.url(protocol, "/");
        for together in TOGETHER {
            let names = names();
            let count = REQUESTS / together * together;
            let costs = Costs::of(names.len(), |index| match contenders.get(index) {
                Some(contender) => cost(runtime, contender.get_all(&url, count, together)),
                None => Cost { clock: curl(server, is_proxied, protocol, count, together), processor: None },
            });
            for (index, name) in names.iter().enumerate() {
                println!(
                    "| {} | {together} | {name} | {:.0} | {:.2} | {} | {} |",
                    protocol.name(),
                    f64::from(count) / costs.clock(index),
                    costs.clock_ratio(index),
                    shown(costs.processor(index).map(|seconds| seconds * 1e6 / f64::from(count)), 1),
                    shown(costs.processor_ratio(index), 2),
                );
            }
        }
    }
}

fn curl(server: &Server, is_proxied: bool, protocol: Protocol, count: u32, together: u32) -> f64 {
    let start = curl::seconds(server, is_proxied, protocol, "/", 1, together);
    curl::seconds(server, is_proxied, protocol, "/", count, together) - start
}

fn bulk(runtime: &Runtime, server: &Server, is_proxied: bool, title: &str) {
    #[allow(clippy::cast_precision_loss)]
    let megabytes = BULK as f64 / 1e6;
    println!(
        "\n| {title} |  |  | MB/s | time, × | processor time, ms | × |\n|---|---|---|---:|---:|---:|---:|"
    );
    let contenders = Contender::all(server, is_proxied);
    let body = Bytes::from(vec![7; BULK]);
    for protocol in PROTOCOLS {
        let url = server.url(protocol, "/bulk");
        for way in ["down", "up"] {
            let names = if way == "down" { names() } else { NAMES.to_vec() };
            let costs = Costs::of(names.len(), |index| match contenders.get(index) {
                Some(contender) if way == "down" => cost(runtime, contender.download(&url)),
                Some(contender) => cost(runtime, contender.upload(&url, body.clone())),
                None => {
                    let start = curl::seconds(server, is_proxied, protocol, "/", 1, 1);
                    let clock = curl::seconds(server, is_proxied, protocol, "/bulk", 1, 1) - start;
                    Cost { clock, processor: None }
                }
            });
            for (index, name) in names.iter().enumerate() {
                println!(
                    "| {} | {way} | {name} | {:.0} | {:.2} | {} | {} |",
                    protocol.name(),
                    megabytes / costs.clock(index),
                    costs.clock_ratio(index),
                    shown(costs.processor(index).map(|seconds| seconds * 1e3), 1),
                    shown(costs.processor_ratio(index), 2),
                );
            }
        }
    }
}

fn main() {
    let server = Server::start();
    let runtime = Builder::new_current_thread().enable_all().build().expect("this machine can");
    // A part of a title, as of `cargo bench --bench http -- 'large body'`.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for (place, is_proxied) in [("on loopback", false), ("through SOCKS5", true)] {
        let title = format!("requests {place}");
        if title.contains(&wanted) {
            rates(&runtime, &server, is_proxied, &title);
        }
        let title = format!("a large body {place}");
        if title.contains(&wanted) {
            bulk(&runtime, &server, is_proxied, &title);
        }
    }
}
