//! What readers notice of a writer: how much they resolve with and without one, in turns of a run.
//!
//! The measure is resolves per second of processor time, so that a writer that merely takes a processor away, as it
//! must where there are two for three threads, does not count.

use std::convert::Infallible;
use std::fs;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use frame_registry::{App, BoxError, FrameResolvers, Key, Options, Pairs, ResolveContext, Resolver};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(60);

static KEYS: [Key<u64>; 2] = [Key::new("first"), Key::new("second")];

type RunFn = dyn Fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError> + Send + Sync;

/// Something to read, and to change.
trait Subject: Sync {
    fn read(&self, ctx: &ResolveContext<'_>, options: &Options, pairs: &mut Pairs);
    fn change(&self);
}

impl Subject for FrameResolvers {
    fn read(&self, ctx: &ResolveContext<'_>, options: &Options, pairs: &mut Pairs) {
        self.resolve(ctx, options, pairs).expect("they do not fail");
    }

    fn change(&self) {
        self.register(resolver("second", 2, &KEYS[1])).expect("the name is free").unregister();
    }
}

impl Subject for RwLock<Vec<Box<RunFn>>> {
    fn read(&self, ctx: &ResolveContext<'_>, options: &Options, pairs: &mut Pairs) {
        for run in self.read().expect("nobody panics").iter() {
            run(ctx, options, pairs).expect("they do not fail");
        }
    }

    fn change(&self) {
        self.write().expect("nobody panics").push(boxed(&KEYS[1]));
        self.write().expect("nobody panics").pop();
    }
}

fn resolver(name: &'static str, order: i32, key: &'static Key<u64>) -> Resolver {
    Resolver::new(name, order, move |_: &ResolveContext<'_>, _: &Options| {
        Ok::<_, Infallible>(Some(key.pair(1)))
    })
}

fn boxed(key: &'static Key<u64>) -> Box<RunFn> {
    Box::new(|_, _, pairs| {
        pairs.push(key.pair(1));
        Ok(())
    })
}

#[derive(Clone, Copy)]
enum Writer {
    None,
    Every(Duration),
    Always,
}

fn main() {
    let registry = FrameResolvers::empty();
    registry.register(resolver("first", 1, &KEYS[0])).expect("the name is free").detach();
    let locked: RwLock<Vec<Box<RunFn>>> = RwLock::new(vec![boxed(&KEYS[0])]);

    println!(
        "| readers | writer | registry: ns a resolve | with / without | changes/s | RwLock: ns | with / without | changes/s |"
    );
    println!("|---:|---|---:|---:|---:|---:|---:|---:|");
    for readers in [1, 2] {
        for (name, writer) in [
            ("every 1 ms", Writer::Every(Duration::from_millis(1))),
            ("every 100 µs", Writer::Every(Duration::from_micros(100))),
            ("without a pause", Writer::Always),
        ] {
            let ours = compare(&registry, readers, writer);
            let peer = compare(&locked, readers, writer);
            println!("| {readers} | {name} | {ours} | {peer} |");
        }
    }
}

/// Rounds with the writer and rounds without, in turns.
fn compare(subject: &dyn Subject, readers: usize, writer: Writer) -> String {
    let mut ratios = Vec::new();
    let mut nanoseconds = Vec::new();
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let (without, _) = round(subject, readers, Writer::None);
        let (with, changed) = round(subject, readers, writer);
        nanoseconds.push(1e9 / without);
        ratios.push(with / without);
        rates.push(changed);
    }
    let [nanoseconds, ratio, rate] = [nanoseconds, ratios, rates].map(median);
    format!("{nanoseconds:.0} | {ratio:.2} | {rate:.0}")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Resolves per second of the readers' processor time, and changes per second.
fn round(subject: &dyn Subject, readers: usize, writer: Writer) -> (f64, f64) {
    let stop = AtomicBool::new(false);
    let (resolved, busy, changed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let start = Barrier::new(readers + 1);
    thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                let app = App::builder().build();
                let (ctx, options) = (ResolveContext::new(&app, None), Options::new());
                start.wait();
                let before = processor_time();
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..100 {
                        let mut pairs = Pairs::new();
                        subject.read(&ctx, &options, &mut pairs);
                        black_box(&mut pairs);
                    }
                    count += 100;
                }
                busy.fetch_add(processor_time() - before, Ordering::Relaxed);
                resolved.fetch_add(count, Ordering::Relaxed);
            });
        }
        start.wait();
        let end = Instant::now() + ROUND;
        while Instant::now() < end {
            match writer {
                Writer::None => thread::sleep(ROUND),
                Writer::Every(pause) => {
                    subject.change();
                    changed.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(pause);
                }
                Writer::Always => {
                    subject.change();
                    changed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    #[allow(clippy::cast_precision_loss)]
    let [resolved, busy, changed] = [resolved, busy, changed].map(|count| count.into_inner() as f64);
    (resolved / busy * 1e9, changed / ROUND.as_secs_f64())
}

/// Nanoseconds that the kernel has given to this thread.
fn processor_time() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let field = text.split_whitespace().next().expect("three numbers");
    field.parse().expect("three numbers")
}
