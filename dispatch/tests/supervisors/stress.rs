//! Random histories of random trees of supervisors: children that trap and ignore what they can, that own others, and that are
//! started and stopped while their supervisor runs; kills of anything, quarantines, pauses of the clock, names that others take,
//! commands, and shutdowns at any time.
//!
//! After every step each process has an owner that lives, and each supervisor knows the children that it owns. A tree that is
//! left alone is whole after a while, or has ended; what ends, ends from the last leaf to the first.
//!
//! | variable | |
//! |---|---|
//! | `FRAME_STRESS_SECONDS` | How long trees are tried. Default: 5. |
//! | `FRAME_STRESS_SEED` | The seed of the first; the next ones follow it. Default: 0. The seed of one that fails is printed. |

use std::collections::HashMap;
use std::env;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use frame_dispatch::process::supervisor::{
    Backoff, ChildSpec, ChildState, DynamicChild, DynamicSpec, Restart, RestartPolicy, Shutdown, Strategy,
    Supervisor, SupervisorHandle,
};
use frame_dispatch::process::{HostConfig, Message, Process, ProcessContext, ProcessManager};
use frame_dispatch::{BoxFuture, CallContext, CallError, Functions, Payload, Pid};
use frame_registry::{App, Options};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{advance, sleep, timeout};

use crate::support::{BOUND, settle, start, within};

/// How many steps a tree is tried for.
const STEPS: usize = 120;
/// How deep supervisors are nested at most.
const DEPTH: usize = 3;
/// Longer than all backoffs and shutdowns of a tree that is left alone.
const CALM: Duration = Duration::from_mins(5);

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn trees_are_whole_or_have_ended_whatever_happens_to_them() {
    let (began, budget) = (Instant::now(), Duration::from_secs(number("FRAME_STRESS_SECONDS", 5)));
    let first = number("FRAME_STRESS_SEED", 0);
    let (mut seed, mut shut_down) = (first, 0);
    while seed == first || began.elapsed() < budget {
        let _shown = ShownSeed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        shut_down += runtime.block_on(async { Forest::new(seed).history().await });
        seed += 1;
    }
    println!("{} trees, {shut_down} shutdowns of trees in which all was calm", seed - first);
}

/// Prints the seed where a history fails.
struct ShownSeed(u64);

impl Drop for ShownSeed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("it failed with FRAME_STRESS_SEED={}", self.0);
        }
    }
}

/// What a leaf does when it is told to end. One that owns others obeys.
const MANNERS: [&str; 5] = ["obeys", "is slow", "ignores", "traps", "owns"];

/// Says that a leaf has ended, however that was.
struct Leaf {
    pid: Pid,
    ended: UnboundedSender<Pid>,
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let _ = self.ended.send(self.pid);
    }
}

/// The code of leaves, which may be quarantined.
struct Leaves {
    ended: UnboundedSender<Pid>,
    are_quarantined: Arc<AtomicBool>,
}

impl Process for Leaves {
    fn is_quarantined(&self) -> bool {
        self.are_quarantined.load(Ordering::SeqCst)
    }

    fn run(&self, ctx: ProcessContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        if self.is_quarantined() {
            return Box::pin(async { Err(CallError::invalid("it is quarantined")) });
        }
        Box::pin(leaf(ctx, payload, self.ended.clone()))
    }
}

async fn leaf(
    mut ctx: ProcessContext,
    payload: Payload,
    ended: UnboundedSender<Pid>,
) -> Result<Payload, CallError> {
    let _leaf = Leaf { pid: ctx.pid(), ended };
    let manner = payload.as_json().and_then(Value::as_str).unwrap_or_default().to_owned();
    if manner == "traps" {
        ctx.trap_links(true);
        if let Some(owner) = ctx.processes().owner(ctx.pid()) {
            ctx.unlink(owner);
        }
    }
    if manner == "owns" {
        for manner in ["traps", "ignores"] {
            // Its host may have stopped.
            let _ = ctx.spawn(start("test:leaf").with_payload(json!(manner)).with_owner());
        }
    }
    loop {
        match ctx.receive().await {
            Message::Cancelled { .. } if manner == "obeys" || manner == "owns" => {
                return Ok(Payload::default());
            }
            Message::Cancelled { .. } if manner == "is slow" => {
                sleep(Duration::from_millis(1_500)).await;
                return Ok(Payload::default());
            }
            Message::Sent { payload, .. } => match payload.as_json().and_then(Value::as_str) {
                Some("done") => return Ok(Payload::default()),
                _ => return Err(CallError::invalid("told to fail")),
            },
            _ => (),
        }
    }
}

/// A tree, those that take names from it, and the history of both.
struct Forest {
    random: Rng,
    processes: ProcessManager,
    root: CallContext,
    /// All supervisors of the tree; the first is at the top.
    supervisors: Vec<SupervisorHandle>,
    /// Those of them that are dynamic, with what they start.
    dynamic: Vec<(SupervisorHandle, DynamicSpec)>,
    are_quarantined: Arc<AtomicBool>,
    /// Names of leaves.
    names: Vec<String>,
    names_leaves: bool,
    /// Those that hold such a name and are no part of the tree.
    squatters: Vec<Pid>,
    top: Option<Pid>,
    /// Leaves that have ended, in order.
    ended: UnboundedReceiver<Pid>,
    added: usize,
    shut_down_in_order: usize,
}

impl Forest {
    fn new(seed: u64) -> Self {
        let functions = Functions::new(App::builder().build());
        let processes = ProcessManager::new(functions.clone());
        processes.register_host("test:host".parse().unwrap(), HostConfig::default()).unwrap();
        let (to, ended) = unbounded_channel();
        let are_quarantined = Arc::new(AtomicBool::new(false));
        let leaves = Leaves { ended: to, are_quarantined: Arc::clone(&are_quarantined) };
        processes.register("test:leaf".parse().unwrap(), Options::new(), leaves).unwrap();
        let (root, random) = (functions.root(), Rng::with_seed(seed));
        let mut forest = Self {
            random,
            processes,
            root,
            supervisors: Vec::new(),
            dynamic: Vec::new(),
            are_quarantined,
            names: Vec::new(),
            names_leaves: true,
            squatters: Vec::new(),
            top: None,
            ended,
            added: 0,
            shut_down_in_order: 0,
        };
        forest.grow(0);
        forest
    }

    fn choose<T: Clone + Debug>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.random.usize(..all.len())].clone())
    }

    /// Registers a supervisor with all below it; returns its entry.
    fn grow(&mut self, depth: usize) -> String {
        let strategies = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];
        let strategy = self.choose(&strategies).unwrap();
        let supervisor = Supervisor::builder(strategy).restart_policy(
            RestartPolicy::default()
                .with_backoff(
                    Backoff::new(Duration::from_millis(50), Duration::from_secs(2)).with_jitter(0.0),
                )
                .with_intensity(self.random.u32(2..20), Duration::from_secs(30)),
        );
        let number = self.supervisors.len();
        // Its place, before those below it take theirs.
        let placeholder = Supervisor::builder(strategy).build().unwrap().handle();
        self.supervisors.push(placeholder);
        let mut built = supervisor;
        for child in 0..self.random.usize(1..5) {
            let id = format!("c{child}");
            let spec = if depth < DEPTH && self.random.u8(..) < 90 {
                let entry = match self.random.u8(..4) {
                    0 => self.grow_dynamic(depth + 1),
                    _ => self.grow(depth + 1),
                };
                let shutdown = match self.random.u8(..3) {
                    0 => Shutdown::Within(Duration::from_secs(3)),
                    _ => Shutdown::Unlimited,
                };
                ChildSpec::new(id, start(&entry)).with_shutdown(shutdown)
            } else {
                self.leaf(&id)
            };
            built = built.child(spec);
        }
        let built = built.build().unwrap();
        self.supervisors[number] = built.handle();
        let entry = format!("test:s{number}");
        self.processes.register(entry.parse().unwrap(), Options::new(), built).unwrap();
        entry
    }

    /// Registers a dynamic supervisor of leaves, or of supervisors; returns its entry.
    fn grow_dynamic(&mut self, depth: usize) -> String {
        let number = self.supervisors.len();
        let placeholder = Supervisor::builder(Strategy::OneForOne).build().unwrap().handle();
        self.supervisors.push(placeholder);
        let template = if depth < DEPTH && self.random.bool() {
            // There may be several of each, so they cannot have names.
            let could_name = std::mem::replace(&mut self.names_leaves, false);
            let entry = self.grow(depth + 1);
            self.names_leaves = could_name;
            ChildSpec::new("d", start(&entry)).with_shutdown(Shutdown::Unlimited)
        } else {
            self.leaf_without_name("d")
        };
        let spec = DynamicSpec::new(template).with_max_children(self.random.usize(1..6)).with_restart_policy(
            RestartPolicy::default()
                .with_backoff(
                    Backoff::new(Duration::from_millis(50), Duration::from_secs(2)).with_jitter(0.0),
                )
                .with_intensity(self.random.u32(2..20), Duration::from_secs(30)),
        );
        let built = Supervisor::dynamic(spec.clone()).unwrap();
        self.supervisors[number] = built.handle();
        self.dynamic.push((built.handle(), spec));
        let entry = format!("test:s{number}");
        self.processes.register(entry.parse().unwrap(), Options::new(), built).unwrap();
        entry
    }

    fn leaf_without_name(&mut self, id: &str) -> ChildSpec {
        let manner = self.choose(&MANNERS).unwrap();
        self.with_rules(ChildSpec::new(id, start("test:leaf").with_payload(json!(manner))))
    }

    fn leaf(&mut self, id: &str) -> ChildSpec {
        let mut start = start("test:leaf").with_payload(json!(self.choose(&MANNERS).unwrap()));
        if self.names_leaves && self.random.u8(..3) == 0 {
            let name = format!("n{}", self.names.len());
            start = start.with_name(name.as_str());
            self.names.push(name);
        }
        self.with_rules(ChildSpec::new(id, start))
    }

    fn with_rules(&mut self, child: ChildSpec) -> ChildSpec {
        let shutdown = match self.random.u8(..4) {
            0 => Shutdown::AtOnce,
            seconds => Shutdown::Within(Duration::from_secs(seconds.into())),
        };
        let restart = match self.random.u8(..6) {
            0 => Restart::Temporary,
            1 => Restart::Transient,
            _ => Restart::Permanent,
        };
        child.with_shutdown(shutdown).with_restart(restart)
    }

    /// Returns how often the order of a shutdown was known.
    async fn history(mut self) -> usize {
        for step in 0..STEPS {
            if self.top.is_none() {
                let top = self.processes.spawn(&self.root, start("test:s0")).unwrap();
                self.top = Some(top);
            }
            let what = self.step().await;
            settle().await;
            self.check(&format!("{what}, step {step}")).await;
            if self.random.u8(..20) == 0 {
                self.calm(step).await;
            }
        }
        self.calm(STEPS).await;
        self.shut_down(self.top, Duration::MAX).await;
        self.shut_down_in_order
    }

    async fn step(&mut self) -> String {
        let all: Vec<_> = self.processes.processes().iter().map(|process| process.pid).collect();
        let pid = self.choose(&all);
        match self.random.u8(..20) {
            0..4 => {
                let (Some(pid), how) = (pid, self.choose(&["done", "fail"]).unwrap()) else {
                    return "nothing".to_owned();
                };
                let _ = self.processes.try_send(&self.root, pid, json!(how));
                format!("{pid} is told: {how}")
            }
            4 | 5 => {
                let Some(pid) = pid else { return "nothing".to_owned() };
                let _ = self.processes.terminate(pid);
                format!("{pid} is terminated")
            }
            6 => {
                let (Some(pid), grace) = (pid, self.random.u64(..6_000)) else { return "nothing".to_owned() };
                let _ = self.processes.cancel(pid, "a test", Duration::from_millis(grace));
                format!("{pid} is cancelled, with {grace} ms")
            }
            7 => {
                // All timers that pass meanwhile are due at once.
                let pause = Duration::from_millis(self.random.u64(..20_000));
                advance(pause).await;
                format!("a pause of {pause:?}")
            }
            8 | 9 => {
                let time = Duration::from_millis(self.random.u64(..3_000));
                sleep(time).await;
                format!("{time:?} pass")
            }
            10 => {
                let names = self.names.clone();
                let Some(name) = self.choose(&names) else { return "nothing".to_owned() };
                let squatter = start("test:leaf").with_payload(json!("ignores")).with_name(name.as_str());
                self.squatters.extend(self.processes.spawn(&self.root, squatter));
                format!("{name} is taken")
            }
            11 => {
                let squatters = self.squatters.clone();
                let Some(squatter) = self.choose(&squatters) else { return "nothing".to_owned() };
                let _ = self.processes.terminate(squatter);
                format!("{squatter} is terminated, which has a name")
            }
            12..15 => self.command(),
            15..18 => self.dynamic_command(),
            18 => {
                let are_quarantined =
                    !self.are_quarantined.load(Ordering::SeqCst) && self.random.u8(..3) == 0;
                self.are_quarantined.store(are_quarantined, Ordering::SeqCst);
                format!("the code of leaves is quarantined: {are_quarantined}")
            }
            _ => {
                let grace = Duration::from_millis(self.random.u64(..10_000));
                self.shut_down(self.top, grace).await;
                format!("a shutdown within {grace:?}")
            }
        }
    }

    /// Has a supervisor do something, and does not wait for that.
    fn command(&mut self) -> String {
        let running: Vec<_> = self
            .supervisors
            .iter()
            .flat_map(|handle| handle.running().into_iter().map(|pid| handle.of(pid)))
            .collect();
        let Some(handle) = self.choose(&running) else { return "nothing".to_owned() };
        let (id, root) = (format!("c{}", self.random.u8(..6)), self.root.clone());
        let shown = format!("{:?} {id}", handle.running());
        match self.random.u8(..4) {
            0 => {
                tokio::spawn(async move { handle.restart(&id).await });
                format!("restart {shown}")
            }
            1 => {
                tokio::spawn(async move { handle.remove(&id).await });
                format!("remove {shown}")
            }
            2 => {
                let leaf = self.leaf(&format!("c{}", 4 + self.added % 3));
                self.added += 1;
                tokio::spawn(async move { handle.add(&root, leaf).await });
                format!("add {shown}")
            }
            _ => {
                let mut ids: Vec<Arc<str>> = (0..5).map(|id| format!("c{id}").into()).collect();
                self.random.shuffle(&mut ids);
                tokio::spawn(async move { handle.arrange(ids).await });
                format!("arrange {shown}")
            }
        }
    }

    /// Has a dynamic supervisor do something, and does not wait for that.
    fn dynamic_command(&mut self) -> String {
        let running: Vec<_> = self
            .dynamic
            .iter()
            .flat_map(|(handle, spec)| handle.running().into_iter().map(|pid| (handle.of(pid), spec.clone())))
            .collect();
        let Some((handle, spec)) = self.choose(&running) else { return "nothing".to_owned() };
        let (root, shown) = (self.root.clone(), format!("{:?}", handle.running()));
        match self.random.u8(..8) {
            0..5 => {
                let mut child = DynamicChild::new();
                if self.random.u8(..4) == 0 {
                    self.added += 1;
                    child = child.with_name(format!("d{}", self.added));
                }
                if self.random.bool() {
                    child = child.with_restart(Restart::Permanent);
                }
                tokio::spawn(async move { handle.start_child(&root, child).await });
                format!("start a child of {shown}")
            }
            5 => {
                let all: Vec<_> = self.processes.processes().iter().map(|process| process.pid).collect();
                let Some(pid) = self.choose(&all) else { return "nothing".to_owned() };
                tokio::spawn(async move { handle.stop_child(pid).await });
                format!("stop {pid}, a child of {shown}")
            }
            6 => {
                tokio::spawn(async move { handle.restart_children().await });
                format!("restart the children of {shown}")
            }
            _ => {
                let spec = spec.with_max_children(self.random.usize(..6));
                tokio::spawn(async move { handle.reconfigure(spec).await });
                format!("reconfigure {shown}")
            }
        }
    }

    /// Asks the top to end, as a reload does, and sees that nothing is left, and in which order all ended.
    async fn shut_down(&mut self, top: Option<Pid>, grace: Duration) {
        let Some(top) = top else { return };
        let expected = self.groups_in_order(top).await;
        while self.ended.try_recv().is_ok() {}
        if let Ok(exit) = self.processes.monitor(top) {
            let _ = self.processes.cancel(top, "a test", grace);
            within("a monitor of the top", exit).await;
        }
        self.top = None;
        self.forget_squatters();
        assert_eq!(
            self.processes.len(),
            self.squatters.len(),
            "left behind:\n{}",
            self.processes.processes()
        );
        let mut ended = Vec::new();
        while let Ok(pid) = self.ended.try_recv() {
            ended.push(pid);
        }
        if let Some((mut expected, group_of)) = expected {
            expected.reverse();
            self.shut_down_in_order += 1;
            // A process outside the tree that was cancelled before may end meanwhile.
            let mut ended: Vec<_> = ended.iter().filter_map(|pid| group_of.get(pid).copied()).collect();
            ended.dedup();
            assert_eq!(ended, expected, "the last first");
        }
    }

    /// The groups of leaves in the tree, and that of each leaf, if each child runs and nothing is to end. Those below a dynamic
    /// supervisor end in any order, so they are one group, which is called by that. Any other leaf is a group with those that it
    /// owns.
    async fn groups_in_order(&self, supervisor: Pid) -> Option<(Vec<Pid>, HashMap<Pid, Pid>)> {
        let (mut groups, mut group_of) = (Vec::new(), HashMap::new());
        let mut next = vec![(supervisor, None)];
        while let Some((pid, group)) = next.pop() {
            let Some(handle) = self.supervisors.iter().find(|handle| handle.running().contains(&pid)) else {
                let info = self.processes.info(pid)?;
                if info.entry.as_str() != "test:leaf" {
                    return None;
                }
                let group = group.unwrap_or(pid);
                groups.push(group);
                group_of.insert(pid, group);
                let owned = self.processes.processes();
                let owned = owned.iter().filter(|info| info.owner == Some(pid));
                group_of.extend(owned.map(|info| (info.pid, group)));
                continue;
            };
            let is_dynamic = self.dynamic.iter().any(|(handle, _)| handle.running().contains(&pid));
            let group = group.or(is_dynamic.then_some(pid));
            let children = within("the test for children", handle.of(pid).children()).await.ok()?;
            if children.iter().any(|child| !matches!(child.state, ChildState::Running | ChildState::Done)) {
                return None;
            }
            next.extend(children.iter().rev().filter_map(|child| Some((child.pid?, group))));
        }
        groups.dedup();
        // What was told to end otherwise ends when it likes.
        let is_calm = |pid: &Pid| {
            let info = self.processes.info(*pid);
            info.is_some_and(|info| {
                matches!(info.state.as_str(), "receiving" | "starting") && info.mailbox == 0
            })
        };
        group_of.keys().all(is_calm).then_some((groups, group_of))
    }

    fn forget_squatters(&mut self) {
        self.squatters.retain(|&pid| self.processes.info(pid).is_some());
    }

    async fn check(&mut self, when: &str) {
        self.forget_squatters();
        if self.top.is_some_and(|top| self.processes.info(top).is_none()) {
            self.top = None;
        }
        for process in self.processes.processes() {
            let pid = process.pid;
            if self.top == Some(pid) || self.squatters.contains(&pid) {
                continue;
            }
            let owner = self.processes.owner(pid);
            let is_owned = owner.is_some_and(|owner| self.processes.info(owner).is_some());
            assert!(is_owned, "{pid} is an orphan after {when}:\n{}", self.processes.processes());
        }
        for handle in &self.supervisors {
            for pid in handle.running() {
                // Before it is asked, since it goes on once it has answered.
                let list = self.processes.processes();
                let owned: Vec<_> = list
                    .iter()
                    .map(|info| info.pid)
                    .filter(|&other| self.processes.owner(other) == Some(pid))
                    .collect();
                let children = within("the test for children", handle.of(pid).children()).await;
                let Ok(children) = children else { continue };
                let children: Vec<_> = children.iter().filter_map(|child| child.pid).collect();
                let lives = |pid: &&Pid| self.processes.info(**pid).is_some();
                for other in owned.iter().filter(lives) {
                    assert!(children.contains(other), "{other} is not known to {pid} after {when}");
                }
                for child in children.iter().filter(lives) {
                    assert_eq!(
                        self.processes.owner(*child),
                        Some(pid),
                        "{child} is a child of {pid} after {when}"
                    );
                }
            }
        }
    }

    /// A reload has replaced the code of the leaves.
    async fn restart_quarantined(&self) {
        for handle in &self.supervisors {
            for pid in handle.running() {
                let handle = handle.of(pid);
                let children = within("the test for children", handle.children()).await;
                for child in children.iter().flatten() {
                    if child.state == ChildState::Quarantined {
                        // The supervisor may give up meanwhile.
                        let _ = within("the test for a restart", handle.restart(&child.id)).await;
                    }
                }
            }
        }
    }

    /// Leaves the tree alone, upon which it is whole or has ended.
    async fn calm(&mut self, step: usize) {
        for squatter in std::mem::take(&mut self.squatters) {
            let _ = self.processes.terminate(squatter);
        }
        sleep(CALM).await;
        self.are_quarantined.store(false, Ordering::SeqCst);
        self.restart_quarantined().await;
        sleep(CALM).await;
        self.check(&format!("all is calm, step {step}")).await;
        let Some(top) = self.top else {
            assert!(self.processes.is_empty(), "left behind:\n{}", self.processes.processes());
            return;
        };
        let mut next = vec![top];
        while let Some(pid) = next.pop() {
            let Some(handle) = self.supervisors.iter().find(|handle| handle.running().contains(&pid)) else {
                continue;
            };
            let children =
                timeout(BOUND, handle.of(pid).children()).await.expect("it answers").expect("it runs");
            for child in &children {
                let is_right = match child.state {
                    ChildState::Running => true,
                    ChildState::Done => child.restart == Restart::Transient,
                    _ => false,
                };
                assert!(
                    is_right,
                    "{child:?} of {pid} is not whole at step {step}:\n{}",
                    self.processes.processes()
                );
            }
            next.extend(children.iter().filter_map(|child| child.pid));
        }
    }
}
