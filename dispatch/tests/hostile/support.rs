//! Runs an attack beside honest work, and measures both.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs};

use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaFunction};
use frame_dispatch::{
    CallContext, CallError, ErrorKind, FunctionId, Functions, Payload, PoolConfig, ScriptRuntime, Task,
};
use frame_registry::{App, Options};
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// The limit of memory of an attack.
pub(crate) const MEMORY: usize = 32 << 20;

/// How long an attack may go on after its deadline, on a machine that has better things to do. The goal is [`GOAL`].
const GENEROUS: Duration = Duration::from_mins(1);

/// How late an attack ends at most, and how much an honest unit is delayed at most for 99 of 100 calls.
const GOAL: Duration = Duration::from_millis(100);

/// How often an honest script and a timer are tried.
const PROBE_EVERY: Duration = Duration::from_millis(4);

/// Returns whether the goals are asserted, and measured with full-size attacks. Set `FRAME_HOSTILE_STRICT=1`, on a machine
/// that does nothing else.
pub(crate) fn is_strict() -> bool {
    env::var_os("FRAME_HOSTILE_STRICT").is_some_and(|value| value == "1")
}

/// `full` in a strict run, else `reduced`: for attacks that take processor time long after they were answered.
pub(crate) fn sized(full: &str, reduced: &str) -> String {
    if is_strict() { full.to_owned() } else { reduced.to_owned() }
}

// Memory ---------------------------------------------------------------------------------------------------------

/// Counts all memory of the program, that of VMs too.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

#[allow(unsafe_code)]
// SAFETY: It is the system's allocator, with the calls counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: The caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: The caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: The caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The memory that the system counts for this process.
pub(crate) fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// How much memory is taken, and how much was at most since [`reset`](Self::reset).
pub(crate) struct Memory {
    before: usize,
    resident: usize,
}

impl Memory {
    pub(crate) fn reset() -> Self {
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        Self { before, resident: resident() }
    }

    /// The most that was taken at once.
    pub(crate) fn peak(&self) -> usize {
        PEAK.load(Ordering::Relaxed).saturating_sub(self.before)
    }

    /// What the resident memory grew by.
    pub(crate) fn grown(&self) -> usize {
        resident().saturating_sub(self.resident)
    }
}

// The app --------------------------------------------------------------------------------------------------------

pub(crate) fn id(text: &str) -> FunctionId {
    text.parse().unwrap()
}

/// An app with honest functions, on a runtime of scripts.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) engine: LuaEngine,
    pub(crate) functions: Functions,
    honest: LuaFunction,
}

/// What an honest script does: some milliseconds' worth of ordinary work at most.
const HONEST: &str = "local words, n = {}, ...
    for word in ('the quick brown fox jumps over the lazy dog'):gmatch('%a+') do words[#words + 1] = word end
    table.sort(words)
    return { words = table.concat(words, ' '), n = n, random = math.random(0) }";

impl Surroundings {
    pub(crate) fn new() -> Self {
        let engine = LuaEngine::builder().runtime(ScriptRuntime::new()).build().unwrap();
        let functions = Functions::new(App::builder().build());
        let honest = engine.function("honest", HONEST, LuaConfig::default()).unwrap();
        functions.register(id("app:honest"), Options::new(), honest.clone()).unwrap();
        let echo = async |_: CallContext, payload: Payload| Ok::<_, CallError>(payload);
        functions.register(id("app:echo"), Options::new(), echo).unwrap();
        let pause = async |_: CallContext, payload: Payload| {
            sleep(Duration::from_millis(200)).await;
            Ok::<_, CallError>(payload)
        };
        functions.register(id("app:pause"), Options::new(), pause).unwrap();
        let fail = async |_: CallContext, _: Payload| {
            Err::<Payload, _>(CallError::new(ErrorKind::Unavailable, "x".repeat(4000)))
        };
        functions.register(id("app:fail"), Options::new(), fail).unwrap();
        Self { engine, functions, honest }
    }

    /// Registers a script as `app:NAME`.
    pub(crate) fn register(&self, name: &str, source: &str, config: LuaConfig) -> LuaFunction {
        let function = self.engine.function(name, source, config).unwrap();
        self.functions.register(id(&format!("app:{name}")), Options::new(), function.clone()).unwrap();
        function
    }

    /// Calls the honest script.
    async fn call_honest(&self) {
        let root = self.functions.root();
        let call = root.call(Task::new(id("app:honest")).with_payload(json!(7)));
        let result =
            timeout(GENEROUS, call).await.expect("an honest call ends").expect("an honest call succeeds");
        assert_eq!(result.as_json().unwrap()["words"], "brown dog fox jumps lazy over quick the the");
    }
}

// Probes ---------------------------------------------------------------------------------------------------------

/// Honest work: a script that is called all the time, and a timer.
pub(crate) struct Probes {
    stop: Arc<AtomicBool>,
    script: JoinHandle<Vec<Duration>>,
    timer: JoinHandle<Vec<Duration>>,
}

impl Probes {
    pub(crate) fn start(surroundings: &Surroundings) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (surroundings, stopped) = (surroundings.clone(), Arc::clone(&stop));
        let script = tokio::spawn(async move {
            let mut delays = Vec::new();
            loop {
                let began = Instant::now();
                surroundings.call_honest().await;
                delays.push(began.elapsed());
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                sleep(PROBE_EVERY).await;
            }
            assert!(surroundings.honest.quarantine().is_none(), "an honest script is not quarantined");
            delays
        });
        let stopped = Arc::clone(&stop);
        let timer = tokio::spawn(async move {
            let mut delays = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                sleep(PROBE_EVERY).await;
                delays.push(began.elapsed().saturating_sub(PROBE_EVERY));
            }
            delays
        });
        Self { stop, script, timer }
    }

    /// Returns the delays of scripts and of the timer.
    pub(crate) async fn stop(self) -> (Delays, Delays) {
        self.stop.store(true, Ordering::Relaxed);
        (Delays::new(self.script.await.unwrap()), Delays::new(self.timer.await.unwrap()))
    }
}

/// Delays, in order.
#[derive(Debug)]
pub(crate) struct Delays(Vec<Duration>);

impl Delays {
    fn new(mut delays: Vec<Duration>) -> Self {
        delays.sort_unstable();
        Self(delays)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The delay that 99 of 100 do not exceed.
    pub(crate) fn p99(&self) -> Duration {
        let index = (self.0.len() * 99).div_ceil(100).saturating_sub(1);
        self.0.get(index).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    pub(crate) fn most(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

// Attacks --------------------------------------------------------------------------------------------------------

/// What becomes of an attack.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// It goes on until its deadline.
    Deadline,
    /// It runs out of memory, or reaches another limit of its own.
    Exhausted,
    /// It fails with an error of its own, whose message contains this text.
    Fails(&'static str),
    /// It returns this value: it is bounded, and done well before its deadline.
    Returns(i64),
    /// It ends in one of these ways, by the speed of the machine.
    Ends,
    /// It holds its thread, and is quarantined unless it is fast.
    Stalls,
}

/// A script that does harm.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) source: String,
    pub(crate) expected: Expected,
}

pub(crate) fn attack(name: &'static str, expected: Expected, source: impl Into<String>) -> Attack {
    Attack { name, source: source.into(), expected }
}

/// What an attack did.
struct Measured {
    result: Result<Payload, CallError>,
    /// How long after its deadline it had left its thread, unless it was quarantined before.
    late: Duration,
    is_quarantined: bool,
    script: Delays,
    timer: Delays,
    peak: usize,
    resident: usize,
}

/// How many calls of an attack run at once.
const ATTACKERS: usize = 2;

/// Runs attacks one after the other. `FRAME_HOSTILE_ONLY` chooses those whose names contain it.
pub(crate) fn run(attacks: &[Attack]) {
    header();
    let nothing = attack("nothing", Expected::Returns(0), "call('app:pause') return 0");
    // How slow the machine is without an attack.
    let _ = run_one(&nothing);
    let only = env::var("FRAME_HOSTILE_ONLY").unwrap_or_default();
    let chosen = attacks.iter().filter(|attack| attack.name.contains(&only));
    let failures: Vec<_> = chosen.filter_map(|attack| run_one(attack).err()).collect();
    assert!(failures.is_empty(), "{} attacks were not answered:\n{}", failures.len(), failures.join("\n"));
}

/// Tests that measure run one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a future on a runtime as the program has it: two workers.
pub(crate) fn on_two_workers<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runtime.block_on(future);
    // What an attack holds is not waited for.
    runtime.shutdown_background();
    result
}

fn run_one(attack: &Attack) -> Result<(), String> {
    let _alone = alone();
    // An attack that does not end leaves a thread behind, and fails the test.
    let measured = on_two_workers(measure(attack))?;
    report(attack, &measured);
    check(attack, &measured).map_err(|problem| format!("{}: {problem}", attack.name))
}

/// When an attack has to end.
fn deadline(expected: Expected) -> Duration {
    match expected {
        // It is there to be reached.
        Expected::Deadline | Expected::Ends => Duration::from_millis(200),
        Expected::Stalls => Duration::from_millis(500),
        // It is not.
        Expected::Exhausted | Expected::Fails(_) | Expected::Returns(_) => GENEROUS,
    }
}

async fn measure(attack: &Attack) -> Result<Measured, String> {
    let surroundings = Surroundings::new();
    surroundings.call_honest().await;
    let probes = Probes::start(&surroundings);
    let memory = Memory::reset();
    let config = LuaConfig::default().with_memory(MEMORY).with_time(Duration::MAX);
    let config = config.with_pool(PoolConfig::default().with_size(ATTACKERS));
    let function = surroundings.register("attack", &attack.source, config);
    let limit = deadline(attack.expected);
    let ctx = surroundings.functions.root().with_timeout(limit);
    let began = Instant::now();
    let calls: Vec<_> = (0..ATTACKERS)
        .map(|_| {
            let ctx = ctx.clone();
            tokio::spawn(async move { ctx.call(Task::new(id("app:attack"))).await })
        })
        .collect();
    let mut results = Vec::new();
    for call in calls {
        let ended =
            timeout(limit + GENEROUS, call).await.map_err(|_| format!("{}: it does not end", attack.name))?;
        results.push(ended.expect("a call does not panic"));
    }
    // The caller's future is on time; what counts is when the attack has left its thread.
    let left = async {
        while function.statistics().running > 0 && function.quarantine().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(GENEROUS, left).await.map_err(|_| format!("{}: it does not leave its thread", attack.name))?;
    let late = began.elapsed().saturating_sub(limit);
    let (peak, resident) = (memory.peak(), memory.grown());
    let (script, timer) = probes.stop().await;
    let is_quarantined = function.quarantine().is_some();
    // One that fails tells more than one that does not.
    let result = results.iter().position(Result::is_err).unwrap_or(0);
    Ok(Measured { result: results.swap_remove(result), late, is_quarantined, script, timer, peak, resident })
}

const MIB: usize = 1 << 20;

fn report(attack: &Attack, measured: &Measured) {
    let Measured { result, late, is_quarantined, script, timer, peak, resident } = measured;
    let outcome = match result {
        Ok(_) => "returned".to_owned(),
        Err(error) => error.kind().as_str().to_owned(),
    };
    let mark = if *is_quarantined { ", quarantined" } else { "" };
    println!(
        "| {:<44} | {:<22} | {:>6.1} | {:>6.1} | {:>6.1} | {:>6.1} | {:>4} | {:>4} |",
        attack.name,
        format!("{outcome}{mark}"),
        millis(*late),
        millis(script.p99()),
        millis(script.most()),
        millis(timer.p99()),
        peak / MIB,
        resident / MIB,
    );
}

/// Prints what the columns of the report are.
pub(crate) fn header() {
    println!(
        "| {:<44} | {:<22} | {:>6} | {:>6} | {:>6} | {:>6} | {:>4} | {:>4} |",
        "attack", "outcome", "late", "p99", "most", "timer", "peak", "RSS"
    );
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What a call may make the host hold, beside its VM.
const BESIDE: usize = 34 << 20;

fn check(attack: &Attack, measured: &Measured) -> Result<(), String> {
    let Measured { result, late, is_quarantined, script, timer, peak, .. } = measured;
    let kind = result.as_ref().err().map(CallError::kind);
    let is_expected = match attack.expected {
        Expected::Deadline => kind == Some(ErrorKind::Deadline),
        Expected::Exhausted => kind == Some(ErrorKind::Exhausted),
        Expected::Fails(text) => {
            kind == Some(ErrorKind::Internal)
                && result.as_ref().is_err_and(|error| error.message().contains(text))
        }
        Expected::Returns(value) => {
            result.as_ref().is_ok_and(|result| result.as_json().and_then(Json::as_i64) == Some(value))
        }
        Expected::Ends | Expected::Stalls => {
            matches!(kind, None | Some(ErrorKind::Deadline | ErrorKind::Exhausted | ErrorKind::Internal))
        }
    };
    let require = |is_met: bool, problem: &dyn Fn() -> String| if is_met { Ok(()) } else { Err(problem()) };
    require(is_expected, &|| {
        let shown = match result {
            Ok(value) => format!("{value:?}"),
            Err(error) => format!("{:?}: {error}", error.kind()),
        };
        format!("expected {:?}, was {}", attack.expected, &shown[..shown.floor_char_boundary(300)])
    })?;
    let may_stall = matches!(attack.expected, Expected::Stalls);
    require(may_stall || !is_quarantined, &|| "it was quarantined".to_owned())?;
    require(*peak <= ATTACKERS * (MEMORY + BESIDE), &|| format!("it took {} MiB", peak / MIB))?;
    if is_strict() {
        require(*is_quarantined || *late <= GOAL, &|| format!("it was {late:?} late"))?;
        require(script.p99() <= GOAL, &|| format!("honest scripts were delayed by {:?}", script.p99()))?;
        require(timer.p99() <= GOAL, &|| format!("timers were delayed by {:?}", timer.p99()))?;
    }
    Ok(())
}
