//! Random programs, each run with and without interruptions, and by plain Lua where that does the same.
//!
//! Most interruptions come after a number of instructions that depends on the seed, so that a failure can be repeated. A part
//! comes from real signals at random instants. Programs are also cancelled, dropped and run out of memory.
//!
//! | variable | |
//! |---|---|
//! | `FRAME_FUZZ_SECONDS` | How long programs are run. Default: 5. |
//! | `FRAME_FUZZ_SEED` | The seed of the first program; the next ones follow it. Default: 0. |
//! | `FRAME_FUZZ_COUNT` | How many programs are run, in place of a time. |
//! | `FRAME_FUZZ_SHOW` | Set to anything: a program that fails is shown. |
//! | `FRAME_FUZZ_FILE` | A program to be run in place of those of the seeds: a smaller one that fails, too. |

mod grammar;

use std::cell::Cell;
use std::env;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use frame_registry::{App, Options};
use mlua::{Lua, LuaOptions, StdLib};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use self::grammar::Program;
use super::config::LuaConfig;
use super::engine::LuaEngine;
use super::preempt::testing::{Schedule, set_schedule};
use super::shared::Shared;
use super::vm;
use super::vm::Vm;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::functions::Functions;
use crate::payload::Payload;
use crate::script::Unit;
use crate::script::clock;

/// Runs the program that it is given.
const SCRIPT: &str = "local source = ...
                      local program, message = load(source, '=program')
                      if not program then error(message, 0) end
                      return bytes(program())";

/// How many programs run in one VM.
const PROGRAMS: usize = 100;
/// How much more memory a VM uses after a program than before. Lua's table of strings grows and shrinks in steps.
const SLACK: usize = 24 << 10;
/// How often a script is interrupted at most after it was cancelled: where it cannot be suspended it is ended at every
/// instruction, frame by frame.
const AFTER_CANCELLING: usize = 5_000;

/// What becomes of a program: its text, or the kind and the message of an error.
type Outcome = Result<String, (ErrorKind, String)>;

/// When a program is interrupted.
#[derive(Debug, Clone, Copy)]
enum Interruptions {
    Never,
    /// After every so many instructions.
    Every(i32),
    /// After up to so many instructions, at random.
    Random(u64, i32),
    /// By signals.
    Signals,
}

impl Interruptions {
    fn of(rng: &mut Rng) -> Self {
        match rng.u8(0..8) {
            0 => Self::Every(1),
            1 => Self::Every([2, 3, 5, 7, 11, 13][rng.usize(0..6)]),
            2 | 3 => Self::Random(rng.u64(..), 4),
            4 | 5 => Self::Random(rng.u64(..), 40),
            6 => Self::Random(rng.u64(..), 400),
            _ => Self::Signals,
        }
    }

    fn schedule(self) -> Schedule {
        match self {
            Self::Never | Self::Signals => Box::new(|| i32::MAX),
            Self::Every(count) => Box::new(move || count),
            Self::Random(seed, most) => {
                let mut rng = Rng::with_seed(seed);
                Box::new(move || rng.i32(1..=most))
            }
        }
    }
}

/// How many futures of host functions there are.
static FUTURES: AtomicUsize = AtomicUsize::new(0);

/// Is ready when it is polled for the second time.
struct Later {
    is_polled: bool,
}

impl Later {
    fn new() -> Self {
        FUTURES.fetch_add(1, Ordering::Relaxed);
        Self { is_polled: false }
    }
}

impl Future for Later {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_polled {
            return Poll::Ready(());
        }
        self.is_polled = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        FUTURES.fetch_sub(1, Ordering::Relaxed);
    }
}

fn functions() -> Functions {
    let functions = Functions::new(App::builder().build());
    let id = |name: &str| format!("fuzz:{name}").parse().unwrap();
    let now = async |_: CallContext, payload: Payload| Ok(payload);
    functions.register(id("now"), Options::new(), now).unwrap();
    let later = async |_: CallContext, payload: Payload| {
        Later::new().await;
        Ok(payload)
    };
    functions.register(id("later"), Options::new(), later).unwrap();
    let fails = async |_: CallContext, _: Payload| {
        Later::new().await;
        Err::<Payload, _>(CallError::new(ErrorKind::Unavailable, "it fails"))
    };
    functions.register(id("fails"), Options::new(), fails).unwrap();
    functions
}

/// Signals the thread that made it, at random instants while it is on.
struct Signals {
    is_on: Arc<AtomicBool>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Signals {
    #[allow(unsafe_code)]
    fn new() -> Self {
        let (is_on, is_stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (on, stopped) = (Arc::clone(&is_on), Arc::clone(&is_stopped));
        // SAFETY: It has no requirements.
        let target = unsafe { libc::pthread_self() };
        let send = move || {
            let mut rng = Rng::new();
            while !stopped.load(Ordering::Relaxed) {
                if on.load(Ordering::Relaxed) {
                    // SAFETY: The thread waits for this one before it ends.
                    unsafe { libc::pthread_kill(target, libc::SIGURG) };
                    let until = Instant::now() + Duration::from_micros(rng.u64(0..100));
                    while Instant::now() < until {
                        thread::yield_now();
                    }
                } else {
                    thread::park();
                }
            }
        };
        Self { is_on, is_stopped, thread: Some(thread::spawn(send)) }
    }

    fn set(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.set(false);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// What programs run in.
struct Machine {
    runtime: Runtime,
    engine: LuaEngine,
    config: LuaConfig,
    functions: Functions,
    unit: Arc<Unit>,
    vm: Option<Vm>,
    /// What the VM uses when it has run nothing.
    used: usize,
    programs: usize,
    signals: Signals,
}

impl Machine {
    fn new() -> Self {
        Self {
            runtime: Builder::new_current_thread().enable_time().build().unwrap(),
            engine: LuaEngine::builder().build().unwrap(),
            config: LuaConfig::default(),
            functions: functions(),
            unit: Arc::new(Unit::new("fuzz")),
            vm: None,
            used: 0,
            programs: 0,
            signals: Signals::new(),
        }
    }

    fn fresh(&self) -> Vm {
        Vm::with_script(&self.engine, &self.config, "fuzz", SCRIPT).unwrap()
    }

    /// Drives the VM's call. Returns `None` if it was dropped after `polls` polls.
    fn drive(
        &self,
        vm: &mut Vm,
        ctx: &CallContext,
        source: &str,
        interruptions: Interruptions,
        schedule: Schedule,
        polls: usize,
    ) -> Option<Outcome> {
        let is_signalled = matches!(interruptions, Interruptions::Signals);
        set_schedule((!is_signalled).then_some(schedule));
        clock::FORCED.set(Some(!matches!(interruptions, Interruptions::Never)));
        self.signals.set(is_signalled);
        let outcome = self.runtime.block_on(async {
            let payload = Payload::Bytes(source.as_bytes().to_vec());
            let mut call = pin!(vm.run(&self.unit, ctx, payload));
            let mut left = polls;
            poll_fn(|context| match call.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => {
                    left -= 1;
                    Poll::Pending
                }
            })
            .await
        });
        self.signals.set(false);
        set_schedule(None);
        clock::FORCED.set(None);
        assert_eq!(FUTURES.load(Ordering::Relaxed), 0, "a host function's future outlives its call");
        outcome.map(self::outcome)
    }

    /// Runs a program to its end, in the VM that is shared with others.
    fn run(&mut self, source: &str, interruptions: Interruptions) -> Outcome {
        let mut vm = self.vm.take().unwrap_or_else(|| {
            let mut vm = self.fresh();
            self.settle(&mut vm);
            self.used = vm.lua().used_memory();
            self.programs = 0;
            vm
        });
        let ctx = self.functions.root();
        let outcome = self
            .drive(&mut vm, &ctx, source, interruptions, interruptions.schedule(), usize::MAX)
            .expect("it is not dropped");
        self.programs += 1;
        if vm.is_reusable() && self.programs < PROGRAMS {
            self.vm = Some(vm);
        } else if vm.is_reusable() {
            self.settle(&mut vm);
            let used = vm.lua().used_memory();
            assert!(used <= self.used + SLACK, "{} bytes leaked by {PROGRAMS} programs", used - self.used);
            assert_freed(vm);
        }
        outcome
    }

    /// Lets go of what the last program left.
    fn settle(&self, vm: &mut Vm) {
        let ctx = self.functions.root();
        let never = Interruptions::Never;
        let outcome = self.drive(vm, &ctx, "return 'settled'", never, never.schedule(), usize::MAX);
        assert_eq!(outcome, Some(Ok("settled".to_owned())));
        vm.lua().gc_collect().unwrap();
        vm.lua().gc_collect().unwrap();
    }

    /// Runs a program every slice of which is on another thread.
    fn migrate(&self, source: &str, seed: u64) -> Outcome {
        let mut vm = self.fresh();
        let ctx = self.functions.root();
        let outcome = {
            let payload = Payload::Bytes(source.as_bytes().to_vec());
            let mut call = pin!(vm.run(&self.unit, &ctx, payload));
            let mut slices = 0;
            loop {
                slices += 1;
                let mut slice = || {
                    let _runtime = self.runtime.enter();
                    set_schedule(Some(Interruptions::Random(seed ^ slices, 40).schedule()));
                    clock::FORCED.set(Some(true));
                    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
                };
                let polled = thread::scope(|scope| scope.spawn(&mut slice).join());
                if let Poll::Ready(result) = polled.expect("it does not panic") {
                    break outcome(result);
                }
            }
        };
        assert_freed(vm);
        outcome
    }

    /// Cancels a program at its interruption number `at`.
    fn cancel(&self, source: &str, interruptions: Interruptions, at: usize) -> Option<Outcome> {
        let token = CancellationToken::new();
        let ctx = self.functions.root().with_cancellation(token.clone());
        let mut schedule = interruptions.schedule();
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        let schedule = move || {
            counted.set(counted.get() + 1);
            if counted.get() == at {
                token.cancel();
            }
            schedule()
        };
        let mut vm = self.fresh();
        let outcome = self.drive(&mut vm, &ctx, source, interruptions, Box::new(schedule), usize::MAX);
        if count.get() >= at {
            let after = count.get() - at;
            assert!(after < AFTER_CANCELLING, "interrupted {after} times after it was cancelled");
        }
        assert_freed(vm);
        outcome
    }

    /// Drops a program's future after `polls` polls.
    fn drop_after(&self, source: &str, interruptions: Interruptions, polls: usize) {
        let mut vm = self.fresh();
        let ctx = self.functions.root();
        self.drive(&mut vm, &ctx, source, interruptions, interruptions.schedule(), polls);
        assert_freed(vm);
    }

    /// Runs a program that has `room` bytes of memory only, from its interruption number `at` on.
    fn starve(&self, source: &str, interruptions: Interruptions, at: usize, room: usize) -> Option<Outcome> {
        let mut vm = self.fresh();
        let lua = vm.lua().clone();
        let mut schedule = interruptions.schedule();
        let mut count = 0;
        let schedule = move || {
            if count == at {
                // By the allocator that it was made with, mlua knows the limit.
                vm::release_memory(&lua);
                lua.set_memory_limit(lua.used_memory() + room).unwrap();
                vm::watch_memory(&lua);
            }
            count += 1;
            schedule()
        };
        let ctx = self.functions.root();
        let outcome = self.drive(&mut vm, &ctx, source, interruptions, Box::new(schedule), usize::MAX);
        assert_freed(vm);
        outcome
    }
}

fn outcome(result: Result<Payload, CallError>) -> Outcome {
    match result {
        Ok(Payload::Bytes(text)) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Ok(other) => Ok(format!("{other:?}")),
        Err(error) => Err((error.kind(), error.message().to_owned())),
    }
}

/// Drops a VM and checks that nothing is left of it.
fn assert_freed(vm: Vm) {
    let shared: Weak<Shared> = vm.shared();
    drop(vm);
    assert_eq!(shared.strong_count(), 0, "something of a VM outlives it");
}

/// Runs a program in plain Lua.
fn plain(source: &str) -> Outcome {
    let libraries = StdLib::COROUTINE | StdLib::TABLE | StdLib::STRING | StdLib::UTF8 | StdLib::MATH;
    let lua = Lua::new_with(libraries, LuaOptions::new()).unwrap();
    let program = lua.load(source).set_name("=program").into_function();
    let text = program.and_then(|program| program.call::<mlua::LuaString>(()));
    match text {
        Ok(text) => Ok(text.to_string_lossy()),
        Err(error) => Err((ErrorKind::Internal, error.to_string())),
    }
}

/// Shows where two outcomes begin to differ, with some lines before.
fn difference(expected: &Outcome, found: &Outcome) -> String {
    let (Ok(expected), Ok(found)) = (expected, found) else {
        return format!("expected {expected:?}\nfound    {found:?}");
    };
    let same = expected.lines().zip(found.lines()).take_while(|(expected, found)| expected == found).count();
    let mut text = String::from("\n");
    for line in expected.lines().take(same).skip(same.saturating_sub(4)) {
        let _ = writeln!(text, "         {line}");
    }
    for (name, lines) in [("expected", expected), ("found   ", found)] {
        for line in lines.lines().skip(same).take(3) {
            let _ = writeln!(text, "{name} {line}");
        }
    }
    text
}

fn assert_same(expected: &Outcome, found: &Outcome, what: &str) {
    assert!(expected == found, "{what}: {}", difference(expected, found));
}

fn program_of(seed: u64) -> Program {
    match env::var_os("FRAME_FUZZ_FILE") {
        Some(file) => Program { source: std::fs::read_to_string(file).unwrap(), is_plain: true },
        None => grammar::program(seed),
    }
}

/// A number below a power of two, of any order of magnitude.
fn scaled(rng: &mut Rng, bits: u32) -> usize {
    let most = 1 << rng.u32(0..=bits);
    rng.usize(0..most)
}

/// Runs the program of one seed in all ways.
fn check(machine: &mut Machine, seed: u64) {
    let program = program_of(seed);
    let source = &program.source;
    let mut rng = Rng::with_seed(seed ^ 0x5eed);
    let expected = machine.run(source, Interruptions::Never);
    assert!(expected.is_ok(), "it fails: {expected:?}");
    if program.is_plain {
        assert_same(&plain(source), &expected, "unlike plain Lua");
    }
    for _ in 0..2 {
        let interruptions = Interruptions::of(&mut rng);
        let found = machine.run(source, interruptions);
        assert_same(&expected, &found, &format!("interrupted {interruptions:?}"));
    }
    let interruptions = Interruptions::of(&mut rng);
    match rng.u8(0..4) {
        0 => {
            let at = 1 + scaled(&mut rng, 16);
            match machine.cancel(source, interruptions, at) {
                Some(Err((ErrorKind::Cancelled, _))) => {}
                outcome => assert_same(
                    &expected,
                    &outcome.expect("it is not dropped"),
                    &format!("cancelled at {at} of {interruptions:?}"),
                ),
            }
        }
        1 => {
            let polls = scaled(&mut rng, 13);
            machine.drop_after(source, interruptions, polls);
        }
        2 => {
            let room = scaled(&mut rng, 19);
            let at = scaled(&mut rng, 13);
            match machine.starve(source, interruptions, at, room).expect("it is not dropped") {
                // What it was told about memory may be in its text.
                Ok(_) | Err((ErrorKind::Exhausted, _)) => {}
                Err((kind, message)) => {
                    assert!(kind == ErrorKind::Internal, "with {room} bytes: {kind:?}: {message}");
                }
            }
        }
        _ => assert_same(&expected, &machine.migrate(source, seed), "on many threads"),
    }
}

/// The seed that runs, for the handler of signals that end the program.
static SEED: AtomicU64 = AtomicU64::new(0);

/// Has the seed written where the program crashes.
#[allow(unsafe_code)]
fn name_the_seed_on_a_crash() {
    extern "C" fn crashed(_: libc::c_int) {
        let mut text = *b"\nthe program with FRAME_FUZZ_SEED=00000000000000000000 crashed\n";
        let (mut seed, mut place) = (SEED.load(Ordering::Relaxed), 53);
        while seed > 0 {
            text[place] = b'0' + (seed % 10) as u8;
            seed /= 10;
            place -= 1;
        }
        // SAFETY: Writing is allowed in a handler. The signal then has its default action.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGILL] {
        // SAFETY: The action is initialised, and its handler does only what is allowed.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = crashed as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_ONSTACK | libc::SA_RESETHAND;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value:?}")))
}

#[test]
fn programs_do_the_same_wherever_they_are_interrupted() {
    let first = number("FRAME_FUZZ_SEED").unwrap_or(0);
    let count = number("FRAME_FUZZ_COUNT");
    let seconds = number("FRAME_FUZZ_SECONDS").unwrap_or(5);
    name_the_seed_on_a_crash();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut machine = Machine::new();
    let mut seed = first;
    loop {
        SEED.store(seed, Ordering::Relaxed);
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut machine, seed)));
        if let Err(panic) = checked {
            if env::var_os("FRAME_FUZZ_SHOW").is_some() {
                eprintln!("{}", program_of(seed).source);
            }
            eprintln!(
                "the program of seed {seed} failed; repeat it with\n    FRAME_FUZZ_SEED={seed} FRAME_FUZZ_COUNT=1 \
                 FRAME_FUZZ_SHOW=1 cargo test -p frame-dispatch --lib lua::fuzz -- --nocapture"
            );
            std::panic::resume_unwind(panic);
        }
        seed = seed.wrapping_add(1);
        let is_enough = match count {
            Some(count) => seed - first >= count,
            None => Instant::now() >= until,
        };
        if is_enough {
            break;
        }
    }
    println!("{} programs, from seed {first} on", seed - first);
}
