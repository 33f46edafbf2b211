//! Signals at random instants, as the program boots, reloads and stops.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{DOCUMENTED, PATIENCE, Surroundings};

/// How many sequences of signals are tried, unless the variable is set.
const SEEDS: u64 = 12;
const VARIABLE: &str = "FRAME_SIGNAL_SEEDS";
/// How long after the last one a signal is sent at most. A debug build takes about as long to be ready.
const LONGEST: Duration = Duration::from_millis(150);

#[test]
fn signals_at_any_instant() {
    let seeds = env::var(VARIABLE).map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    let surroundings = Surroundings::new();
    for seed in 0..seeds {
        one(&surroundings, seed);
    }
}

fn one(surroundings: &Surroundings, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let log = surroundings.path("log");
    let mut command = surroundings.run_command(&[], &["--grace", "1s"]);
    command.stderr(File::create(&log).expect("it is made"));
    let mut child = command.spawn().expect("it was built");
    let pid = Pid::from_child(&child);
    let mut sent = Vec::new();
    for _ in 0..random.usize(..6) {
        let signal = *random.choice(&[Signal::HUP, Signal::HUP, Signal::TERM, Signal::INT]).expect("some");
        let wait =
            Duration::from_micros(random.u64(..u64::try_from(LONGEST.as_micros()).expect("it is short")));
        sent.push((signal, wait));
        thread::sleep(wait);
        // A change to reload, now and then.
        if random.bool() {
            surroundings.app.write("echo.lua", &format!("return {seed}"));
        }
        if child.try_wait().expect("it is our child").is_none() {
            kill_process(pid, signal).expect("it is our child");
        }
    }
    let begun = Instant::now();
    let mut next = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "seed {seed}: it goes on after {sent:?}");
        if Instant::now() >= next {
            // The first may have come before the program listened to a second one, and both be one.
            kill_process(pid, Signal::TERM).expect("it is our child");
            next = Instant::now() + PATIENCE / 10;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let said = fs::read_to_string(&log).expect("it is text");
    let what = format!("seed {seed}: {status} after {sent:?}\n{said}");
    match status.code() {
        Some(code) => assert!(DOCUMENTED.contains(&code), "{what}"),
        // A signal that came before the program listened ends it, and nothing had begun.
        None => assert!(said.is_empty() && status.signal() != Some(Signal::KILL.as_raw()), "{what}"),
    }
    assert!(!said.contains("panic"), "{what}");
    surroundings.assert_nothing_left(&what);
}
