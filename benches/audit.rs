//! What a record of the audit log adds to a connection over loopback: made, used for nothing, and closed.
//!
//! Each log takes turns with no log; a ratio is the median of the ratios of the turns. The log that waits for the disk comes last, as it
//! disturbs what runs after it. The origin has a thread of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use frame_net::audit::{AUDIT, Audit};
use frame_net::{Dialer, Endpoint, UNIT_OF, Unit};
use frame_registry::{App, FrameBuilder, FrameResolvers};
use frame_runtime::audit::{AuditConfig, AuditLog};

const TURNS: usize = 61;
const CONNECTS: u32 = 300;

/// A dialer whose app has this log.
fn dialer(log: Option<&AuditLog>) -> Dialer {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    app.set(&UNIT_OF, |_| Some(Unit::new("function", "bench:unit"))).unwrap();
    if let Some(log) = log {
        app.set(&AUDIT, Arc::new(log.clone()) as Arc<dyn Audit>).unwrap();
    }
    let config = serde_json::json!({ "clearnet": { "allow": ["127.0.0.1"] } });
    frame_net::boot(&mut app, serde_json::from_value(config).unwrap()).unwrap();
    frame_net::dialer(&FrameBuilder::new().seal(), &app.build()).unwrap()
}

fn log(directory: &Path, name: &str, required: bool, sync: bool) -> AuditLog {
    let config = AuditConfig {
        required,
        sync,
        attempts_per_second: NonZeroU32::MAX,
        ..AuditConfig::new(directory.join(name))
    };
    AuditLog::open(&config, "bench").unwrap()
}

/// Accepts connections, and closes each once the client has.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    address
}

/// The time of one connection, in a turn.
async fn turn(dialer: &Dialer, to: &Endpoint) -> f64 {
    let begun = Instant::now();
    for _ in 0..CONNECTS {
        drop(dialer.connect(to).await.unwrap());
    }
    begun.elapsed().as_secs_f64() / f64::from(CONNECTS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let directory =
        tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or(".".into())).unwrap();
    let logs = [("optional", false, false), ("required", true, false), ("required, sync", true, true)]
        .map(|(name, required, sync)| (name, log(directory.path(), name, required, sync)));
    let (none, to) = (dialer(None), Endpoint::try_from(origin()).unwrap());
    println!("\n| log | a connection | without the log | ratio |\n|---|---:|---:|---:|");
    for (name, log) in &logs {
        let logged = dialer(Some(log));
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for round in 0..=TURNS {
            // Each goes first in every other round.
            let pair = if round % 2 == 0 {
                let first = turn(&logged, &to).await;
                (first, turn(&none, &to).await)
            } else {
                let first = turn(&none, &to).await;
                (turn(&logged, &to).await, first)
            };
            // The first turn warms up.
            if round > 0 {
                with.push(pair.0);
                without.push(pair.1);
            }
        }
        log.flush(Duration::from_secs(30)).await;
        let ratios = with.iter().zip(&without).map(|(with, without)| with / without).collect();
        let [with, without] = [with, without].map(|costs| median(costs) * 1e6);
        println!("| {name} | {with:.1} µs | {without:.1} µs | {:.3} |", median(ratios));
    }
}
