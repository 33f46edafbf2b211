//! Does each step of a history to real processes and to the model, and compares.
//!
//! The runtime has one thread and a clock that stands still: it goes on only when nothing else is left to do. So when a
//! step's sleep is over everything that follows from the step has happened, and nothing more will.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use frame_dispatch::process::{
    Destination, Exit, HostConfig, HostId, Lifecycle, ManagerConfig, Monitor, MonitorRef, ProcessManager,
    ProcessRef, ProcessState, Spawn, Spawned,
};
use frame_dispatch::{CallContext, Functions, Host, Payload, Pid};
use frame_registry::{App, BoxError, Options};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use crate::model::{EXITS, Model, PROCESSES, Process};
use crate::operation::{OnCancel, Operation, To, Which};
use crate::puppet::{Command, Did, Heard, Refusal, Report, Strings, Why, on_cancel_to_payload, puppet};

/// How long a step takes.
const STEP: Duration = Duration::from_millis(10);
/// How long after a deadline all is said and done.
const LATER: Duration = Duration::from_millis(2);
/// How long hosts wait for their processes as they stop. See [`GRACES`](crate::operation::GRACES).
const HOST_GRACE: Duration = Duration::from_millis(1_003);
const HOST_REASON: &str = "its host is stopping";
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Writes down which process ends, and how.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<(Pid, Why)>>>);

impl Lifecycle for Ends {
    fn name(&self) -> &'static str {
        "ends"
    }

    fn order(&self) -> i32 {
        0
    }

    fn starting(&self, _: &ProcessRef<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    fn ended(&self, process: &ProcessRef<'_>, exit: Option<&Exit>) {
        let exit = exit.expect("nothing refuses a process that has a place");
        self.0.lock().unwrap().push((process.pid(), Why::of(&exit.reason)));
    }
}

struct Watch {
    monitor: Monitor,
    /// The process lived when it was made.
    has_result: bool,
}

pub(crate) struct World {
    manager: ProcessManager,
    root: CallContext,
    strings: Arc<Strings>,
    reports: UnboundedReceiver<(Pid, Report)>,
    ends: Ends,
    watches: Vec<Watch>,
    model: Model,
    /// Hosts that stop, and when they kill what is left.
    stops: Vec<(u8, Instant)>,
    unknown: Pid,
    sent: u64,
    heard: BTreeMap<Pid, Vec<Heard>>,
    did: Vec<(Pid, Did)>,
}

fn host(index: u8) -> HostId {
    format!("test:host-{index}").parse().unwrap()
}

fn name(index: u8) -> String {
    NAMES[usize::from(index)].to_owned()
}

impl World {
    pub(crate) fn new() -> Self {
        let functions = Functions::new(App::builder().build());
        let root = functions.root();
        let manager = ProcessManager::with_config(functions, ManagerConfig::default().with_exits(EXITS));
        let ends = Ends::default();
        manager.register_lifecycle(ends.clone()).unwrap();
        let (sender, reports) = unbounded_channel();
        let strings = Arc::new(Strings::new(sender));
        let of_puppets = Arc::clone(&strings);
        let process = move |ctx, payload| {
            let strings = Arc::clone(&of_puppets);
            async move { puppet(ctx, payload, &strings).await }
        };
        manager.register("test:puppet".parse().unwrap(), Options::new(), process).unwrap();
        let world = Self {
            manager,
            root,
            strings,
            reports,
            ends,
            watches: Vec::new(),
            model: Model::default(),
            stops: Vec::new(),
            unknown: Pid::next(Host::named("local@test:nowhere")),
            sent: 0,
            heard: BTreeMap::new(),
            did: Vec::new(),
        };
        world.register_host(0);
        world.register_host(1);
        world
    }

    fn register_host(&self, index: u8) {
        let config = HostConfig::default().with_processes(PROCESSES);
        self.manager.register_host(host(index), config).unwrap();
    }

    pub(crate) async fn run(mut self, history: &[Operation]) {
        for operation in history {
            self.apply(operation).await;
            self.pass(STEP).await;
        }
        self.stop().await;
    }

    fn pick(&self, which: Which) -> Pid {
        let nth = |pids: &[Pid], index: u8| pids.get(usize::from(index) % pids.len().max(1)).copied();
        let found = match which {
            Which::Living(index) => nth(&self.model.living().map(|(pid, _)| pid).collect::<Vec<_>>(), index),
            Which::Any(index) => nth(&self.model.processes.keys().copied().collect::<Vec<_>>(), index),
            Which::Unknown => None,
        };
        found.unwrap_or(self.unknown)
    }

    /// Who does something; none if that is nobody who lives.
    fn actor(&self, by: Option<Which>) -> Option<Pid> {
        by.map(|by| self.pick(by)).filter(|pid| *pid != self.unknown)
    }

    async fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Spawn { by, host, name: index, link, monitor, on_cancel } => {
                self.start((by, host, index.map(name)), (link, monitor), on_cancel).await;
            }
            Operation::StartOrSignal { host, name: index } => self.spawn_or_signal(host, name(index)).await,
            Operation::Link { by, one, other } => {
                let (one, other) = (self.actor(by).unwrap_or(self.pick(one)), self.pick(other));
                let expected = self.model.link(one, other);
                let linked = match self.actor(by) {
                    Some(by) => self.outcome(by, Command::Link(other)).await,
                    None => self.manager.link(one, other).map_err(Refusal::from),
                };
                assert_eq!(linked, expected);
            }
            Operation::Unlink { by, one, other } => {
                let (one, other) = (self.actor(by).unwrap_or(self.pick(one)), self.pick(other));
                self.model.unlink(one, other);
                match self.actor(by) {
                    Some(by) => self.outcome(by, Command::Unlink(other)).await.unwrap(),
                    None => self.manager.unlink(one, other),
                }
            }
            Operation::Monitor { by, other } => {
                let (by, other) = (self.pick(by), self.pick(other));
                if let Some(Did::Monitored(monitored)) = self.tell(by, Command::Monitor(other)).await {
                    let expected = self.model.can_monitor(by, other);
                    assert_eq!(monitored.clone().map(|_| ()), expected);
                    if let Ok(monitor) = monitored {
                        self.model.monitor(by, monitor);
                    }
                }
            }
            Operation::Demonitor { by, other } => {
                let (by, other) = (self.pick(by), self.pick(other));
                let monitor = self.model.last_monitor(by, other);
                let told = self.tell(by, Command::Demonitor(monitor)).await;
                if let Some(Did::Demonitored(was_there)) = told {
                    assert_eq!(was_there, self.model.demonitor(by, monitor));
                }
            }
            Operation::Watch { process } => {
                let pid = self.pick(process);
                match (self.manager.monitor(pid), self.model.find(pid)) {
                    (Ok(monitor), expected) => {
                        assert!(!matches!(expected, Err(Refusal::Unknown)), "{pid} is forgotten");
                        let has_result = expected.is_ok();
                        self.watches.push(Watch { monitor, has_result });
                    }
                    (Err(error), expected) => {
                        assert_eq!(expected.err(), Some(error.into()));
                    }
                }
            }
            Operation::DropWatch { index } => {
                if !self.watches.is_empty() {
                    self.watches.swap_remove(usize::from(index) % self.watches.len());
                }
            }
            Operation::Register { name: index, process } => {
                let (name, pid) = (name(index), self.pick(process));
                let registered = self.manager.register_name(&name, pid).map_err(Refusal::from);
                assert_eq!(registered, self.model.register(&name, pid));
            }
            Operation::Unregister { name: index } => {
                let was_there = self.manager.unregister_name(&name(index));
                assert_eq!(was_there, self.model.names.remove(&name(index)).is_some());
            }
            Operation::Trap { by, traps } => {
                let by = self.pick(by);
                if self.tell(by, Command::Trap(traps)).await.is_some() {
                    self.model.find(by).unwrap().traps = traps;
                }
            }
            Operation::Deafen { by, is_deaf } => {
                let by = self.pick(by);
                if self.tell(by, Command::Deafen(is_deaf)).await.is_some() {
                    self.model.find(by).unwrap().deafen(is_deaf);
                }
            }
            Operation::Send { by, to } => self.send(by, to).await,
            Operation::Cancel { process, grace } => self.cancel(self.pick(process), grace),
            Operation::Terminate { process } => {
                let pid = self.pick(process);
                let expected = self.model.find(pid).map(|process| process.terminate(Why::Killed));
                assert_eq!(self.manager.terminate(pid).map_err(Refusal::from), expected);
            }
            Operation::End { process, ending } => {
                let pid = self.pick(process);
                if self.post(pid, Command::End(ending)) {
                    self.model.find(pid).unwrap().end(ending);
                }
            }
            Operation::Pass { time } => self.pass(time).await,
            Operation::StopHost { host } => self.stop_host(host).await,
        }
    }

    async fn start(
        &mut self,
        (by, on, name): (Option<Which>, u8, Option<String>),
        (link, monitor): (bool, bool),
        on_cancel: OnCancel,
    ) {
        let mut start = Spawn::new(host(on), "test:puppet".parse().unwrap())
            .with_payload(on_cancel_to_payload(on_cancel));
        if let Some(name) = &name {
            start = start.with_name(name);
        }
        let expected = self.model.can_start(on, name.as_ref());
        let by = self.actor(by);
        let started = match by {
            None => self.manager.spawn(&self.root, start).map_err(Refusal::from),
            Some(by) => {
                start = if link { start.with_link() } else { start };
                start = if monitor { start.with_monitor() } else { start };
                match self.tell(by, Command::Start(Box::new(start), monitor)).await {
                    Some(Did::Started(started)) => started,
                    other => panic!("{by} lives and was told to start something, which did {other:?}"),
                }
            }
        };
        assert_eq!(started.clone().map(|_| ()), expected);
        let Ok(pid) = started else { return };
        self.model.add(pid, Process::new(on, by, on_cancel), name);
        let Some(by) = by else { return };
        if link {
            self.model.link(by, pid).unwrap();
        }
        if monitor {
            self.model.monitor(by, pid.into());
        }
    }

    async fn spawn_or_signal(&mut self, on: u8, name: String) {
        let value = self.next_value();
        let start = Spawn::new(host(on), "test:puppet".parse().unwrap()).with_name(&name);
        let started = self.manager.spawn_or_signal(&self.root, start.with_message(json!(value))).await;
        let started = started.map_err(Refusal::from);
        let expected = match self.model.can_start(on, Some(&name)) {
            Err(Refusal::NameTaken(holder)) => Ok(Some(holder)),
            other => other.map(|()| None),
        };
        let signalled = started.clone().map(|started| match started {
            Spawned::Signalled(pid) => Some(pid),
            _ => None,
        });
        assert_eq!(signalled, expected);
        let Ok(started) = started else { return };
        if let Spawned::New(pid) = started {
            self.model.add(pid, Process::new(on, None, OnCancel::GoOn), Some(name));
        }
        self.model.find(started.pid()).unwrap().hear(Heard::Sent { from: None, value });
    }

    async fn send(&mut self, by: Option<Which>, to: To) {
        let value = self.next_value();
        let (to, pid) = match to {
            To::Process(which) => (Destination::Pid(self.pick(which)), Some(self.pick(which))),
            To::Name(index) => {
                (Destination::Name(name(index).into()), self.model.names.get(&name(index)).copied())
            }
        };
        let from = self.actor(by);
        let sent = match from {
            Some(by) => self.outcome(by, Command::Send(to, value)).await,
            None => self.manager.try_send(&self.root, to, json!(value)).map_err(Refusal::from),
        };
        let receiver = pid.ok_or(Refusal::Unknown).and_then(|pid| self.model.receiver(pid));
        assert_eq!(sent, receiver.map(|receiver| receiver.hear(Heard::Sent { from, value })));
    }

    fn cancel(&mut self, pid: Pid, grace: Duration) {
        let reason = format!("reason {}", self.next_value());
        let expected = self.model.find(pid).map(|process| {
            process.cancel(&reason);
            if grace.is_zero() {
                process.terminate(Why::Killed);
            } else if let Some(at) = Instant::now().checked_add(grace) {
                process.kill_at = Some(process.kill_at.map_or(at, |before| before.min(at)));
            }
        });
        assert_eq!(self.manager.cancel(pid, &reason, grace).map_err(Refusal::from), expected);
    }

    async fn stop_host(&mut self, index: u8) {
        let stop = tokio::spawn({
            let manager = self.manager.clone();
            async move { manager.stop_host(&host(index), HOST_GRACE).await }
        });
        let cancelled = self.model.living_on(index);
        let killed = self.stopping(&[index]).await;
        assert!(stop.is_finished(), "the host waits for nothing any more");
        let stopped = stop.await.unwrap().expect("it is registered");
        assert_eq!((stopped.cancelled, stopped.killed, stopped.running.len()), (cancelled, killed, 0));
        self.register_host(index);
    }

    /// Ends the history.
    async fn stop(mut self) {
        let stop = tokio::spawn({
            let manager = self.manager.clone();
            async move { manager.stop(HOST_GRACE).await }
        });
        let cancelled = self.model.living().count();
        let killed = self.stopping(&[0, 1]).await;
        assert!(stop.is_finished(), "the manager waits for nothing any more");
        let stopped = stop.await.unwrap();
        assert_eq!((stopped.cancelled, stopped.killed, stopped.running.len()), (cancelled, killed, 0));
        assert!(self.manager.is_empty() && self.manager.host_ids().is_empty());
        assert_eq!(self.model.living().count(), 0);
    }

    /// Goes through the stop of hosts; says how many of their processes did not end of themselves.
    async fn stopping(&mut self, hosts: &[u8]) -> usize {
        let at = Instant::now() + HOST_GRACE;
        for process in self.model.living_mut().filter(|process| hosts.contains(&process.host)) {
            process.cancel(HOST_REASON);
        }
        self.pass(HOST_GRACE.saturating_sub(STEP)).await;
        self.stops.extend(hosts.iter().map(|host| (*host, at)));
        let left = hosts.iter().map(|host| self.model.living_on(*host)).sum();
        self.pass(STEP * 2).await;
        left
    }

    fn next_value(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Tells a process to do something, if it lives; says whether it does.
    fn post(&mut self, pid: Pid, command: Command) -> bool {
        let payload: Payload = self.strings.tell(command);
        let told = self.manager.try_send(&self.root, pid, payload).map_err(Refusal::from);
        assert_eq!(told, self.model.receiver(pid).map(|_| ()));
        told.is_ok()
    }

    /// The same, and gives what came of it.
    async fn tell(&mut self, pid: Pid, command: Command) -> Option<Did> {
        if !self.post(pid, command) {
            return None;
        }
        sleep_until(Instant::now() + Duration::from_millis(1)).await;
        self.collect();
        match self.did.pop() {
            Some((by, did)) if by == pid => Some(did),
            other => panic!("{pid} was told to do something, but did {other:?}"),
        }
    }

    async fn outcome(&mut self, pid: Pid, command: Command) -> Result<(), Refusal> {
        match self.tell(pid, command).await {
            Some(Did::Outcome(outcome)) => outcome,
            other => panic!("{pid} lives and was told to do something, which did {other:?}"),
        }
    }

    /// Lets time pass, and compares at every moment at which something happens.
    async fn pass(&mut self, time: Duration) {
        let mut until = Instant::now() + time;
        loop {
            let stops = self.stops.iter().map(|(_, at)| *at);
            let next = self.model.living().filter_map(|(_, process)| process.kill_at).chain(stops).min();
            let Some(at) = next.filter(|at| *at <= until) else { break };
            if at > Instant::now() {
                // What is there to do is done before.
                sleep_until(at - Duration::from_millis(1)).await;
                self.compare();
            }
            sleep_until(at + LATER).await;
            for process in self.model.living_mut() {
                if process.kill_at.is_some_and(|kill_at| kill_at <= at) {
                    process.kill_at = None;
                    process.terminate(Why::Killed);
                }
                if self.stops.iter().any(|(host, stop_at)| *host == process.host && *stop_at <= at) {
                    process.terminate(Why::HostStopped);
                }
            }
            self.stops.retain(|(_, stop_at)| *stop_at > at);
            self.compare();
        }
        // Steps stay in step.
        while until < Instant::now() {
            until += STEP;
        }
        sleep_until(until).await;
        self.compare();
    }

    fn collect(&mut self) {
        while let Ok((pid, report)) = self.reports.try_recv() {
            match report {
                Report::Heard(heard) => self.heard.entry(pid).or_default().push(heard),
                Report::Did(did) => self.did.push((pid, did)),
            }
        }
    }

    /// Everything that should have happened has, and nothing else.
    fn compare(&mut self) {
        self.collect();
        assert_eq!(self.did, [], "nothing was told");
        for (pid, why) in std::mem::take(&mut *self.ends.0.lock().unwrap()) {
            self.model.ended(pid, &why);
        }
        for (pid, process) in &mut self.model.processes {
            process.assert_settled(*pid);
            let heard = self.heard.remove(pid).unwrap_or_default();
            let mut expected = std::mem::take(&mut process.heard);
            for heard in &mut expected {
                if let Heard::Exited { monitor, .. } = heard {
                    *monitor = None;
                }
            }
            if process.is_alive() {
                assert_eq!(heard, expected, "what {pid} received");
            } else {
                // What was there for it as it ended it may not have received.
                assert!(expected.starts_with(&heard), "{pid} received {heard:?} of {expected:?}");
            }
        }
        assert!(self.heard.is_empty(), "heard by nobody: {:?}", self.heard);
        self.compare_tables();
        self.compare_watches();
    }

    fn compare_tables(&self) {
        let list = self.manager.processes();
        let pids: Vec<_> = list.iter().map(|info| info.pid).collect();
        assert_eq!(pids, self.model.living().map(|(pid, _)| pid).collect::<Vec<_>>(), "who lives");
        for (info, (pid, process)) in list.iter().zip(self.model.living()) {
            assert!(info.links.iter().eq(&process.links), "links of {pid}: {info:?}, {process:?}");
            let mut monitored: Vec<_> = process.monitors.iter().map(MonitorRef::pid).collect();
            monitored.dedup();
            assert_eq!(info.monitors, monitored, "monitors of {pid}: {info:?}, {process:?}");
            assert_eq!(info.mailbox, process.mailbox.len(), "the mailbox of {pid}");
            assert_eq!((info.parent, &info.host), (process.parent, &host(process.host)));
            let is_cancelled = process.cancelled.is_some();
            let state = if is_cancelled { ProcessState::Cancelled } else { ProcessState::Receiving };
            assert_eq!(info.state, state, "the state of {pid}");
            let names = self.model.names.iter().filter(|(_, holder)| **holder == pid).map(|(name, _)| name);
            assert!(info.names.iter().eq(names), "the names of {pid}: {:?}", info.names);
        }
        for name in NAMES {
            assert_eq!(self.manager.whereis(name), self.model.names.get(name).copied(), "who is {name:?}");
        }
        for host_index in 0..2 {
            assert!(self.model.living_on(host_index) <= PROCESSES);
        }
    }

    fn compare_watches(&mut self) {
        let model = &self.model;
        self.watches.retain_mut(|watch| {
            let pid = watch.monitor.pid();
            let exit = &model.processes[&pid].exit;
            match Pin::new(&mut watch.monitor).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => {
                    assert_eq!(*exit, None, "a watcher of {pid} was not told");
                    true
                }
                Poll::Ready(told) => {
                    let why = Why::of(&told.reason);
                    let has_result = watch.has_result && why == Why::Normal;
                    assert_eq!((Some(&why), told.result.is_some()), (exit.as_ref(), has_result));
                    false
                }
            }
        });
    }
}
