//! The children of a running supervisor.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use frame_registry::Frame;
use rustc_hash::FxBuildHasher;
use serde::ser::{Serialize, SerializeMap, Serializer};
use tokio::time::Instant;

use super::error::{ControlError, DownReason};
use super::handle::{Reply, StartedChild};
use super::restarts::RestartCounter;
use super::spec::{ChildSpec, DynamicChild, DynamicSpec, Restart, Shutdown};
use crate::pid::Pid;
use crate::process::Spawn;

/// The place of a child in the start order. It is never reused.
pub(crate) type Key = u64;

/// The new keys of children, by their old keys.
pub(crate) type Rekeyed = HashMap<Key, Key, FxBuildHasher>;

/// The children, by place, id and process.
#[derive(Default)]
pub(crate) struct ChildTable {
    next: Key,
    in_order: BTreeMap<Key, Child>,
    by_id: HashMap<Arc<str>, Key, FxBuildHasher>,
    by_pid: HashMap<Pid, Key, FxBuildHasher>,
}

pub(crate) struct Child {
    pub(crate) id: Arc<str>,
    pub(crate) restart: Restart,
    pub(crate) shutdown: Shutdown,
    pub(crate) origin: Origin,
    pub(crate) parent: Parent,
    pub(crate) phase: ChildPhase,
    /// Whether it was added and has not been started. It is removed if it does not start.
    pub(crate) is_added: bool,
    /// Whether it is down because its code is quarantined.
    pub(crate) is_quarantined: bool,
    /// The number of its starts.
    pub(crate) starts: u64,
    /// The number of its failures in a row.
    pub(crate) failures: u32,
    /// Why and since when it was down the last time.
    pub(crate) last: Option<(DownReason, Instant)>,
    /// The callers that wait for its start.
    pub(crate) starting: Vec<Reply<StartedChild>>,
    /// The callers that wait for its removal. It is to be removed if there are any.
    pub(crate) removing: Vec<Reply<()>>,
}

/// The origin of a child's process.
pub(crate) enum Origin {
    Spec(Box<Spawn>),
    /// The specification of a dynamic supervisor.
    Dynamic(Box<Dynamic>),
}

/// A child of a dynamic supervisor.
pub(crate) struct Dynamic {
    pub(crate) child: DynamicChild,
    /// The unit that started it.
    pub(crate) starter: Option<Pid>,
    /// Its own restarts, if it was started by a guest, whose failures must not end the supervisor.
    pub(crate) own_restarts: Option<RestartCounter>,
}

/// The unit whose frame the frame of a child inherits from, at each start.
pub(crate) enum Parent {
    Supervisor,
    /// The unit that added it. `None` for a root context.
    Other(Option<Frame>),
}

/// The phase of a child's process.
#[derive(Clone, Copy)]
pub(crate) enum ChildPhase {
    Running {
        pid: Pid,
        since: Instant,
    },
    /// Asked to end.
    Stopping {
        pid: Pid,
        since: Instant,
        /// How many more waits it is given. `None` if it was not terminated yet.
        waits: Option<u32>,
    },
    Down,
}

/// A child's process that has ended.
pub(crate) struct EndedChild {
    /// The time of its start.
    pub(crate) since: Instant,
    /// Whether its supervisor had asked it to end.
    pub(crate) was_stopping: bool,
}

impl ChildPhase {
    pub(crate) const fn pid(self) -> Option<Pid> {
        match self {
            Self::Running { pid, .. } | Self::Stopping { pid, .. } => Some(pid),
            Self::Down => None,
        }
    }

    pub(crate) const fn is_down(self) -> bool {
        matches!(self, Self::Down)
    }
}

impl Child {
    pub(crate) const fn is_dynamic(&self) -> bool {
        matches!(self.origin, Origin::Dynamic(_))
    }

    /// Returns whether it is a dynamic child that `unit` started.
    pub(crate) fn is_started_by(&self, unit: Pid) -> bool {
        matches!(&self.origin, Origin::Dynamic(dynamic) if dynamic.starter == Some(unit))
    }

    /// Applies a changed specification to a dynamic child, from its next exit on.
    pub(crate) fn take_rules(&mut self, template: &ChildSpec) {
        if let Origin::Dynamic(dynamic) = &self.origin {
            self.restart = dynamic.child.restart.unwrap_or(template.restart);
            self.shutdown = template.shutdown;
        }
    }

    fn new(id: Arc<str>, (restart, shutdown): (Restart, Shutdown), origin: Origin, parent: Parent) -> Self {
        Self {
            id,
            restart,
            shutdown,
            origin,
            parent,
            phase: ChildPhase::Down,
            is_added: false,
            is_quarantined: false,
            starts: 0,
            failures: 0,
            last: None,
            starting: Vec::new(),
            removing: Vec::new(),
        }
    }

    /// Creates a child of a dynamic supervisor.
    pub(crate) fn dynamic(id: Arc<str>, spec: &DynamicSpec, dynamic: Dynamic, parent: Parent) -> Self {
        let ChildSpec { restart, shutdown, .. } = spec.template;
        let restart = dynamic.child.restart.unwrap_or(restart);
        Self::new(id, (restart, shutdown), Origin::Dynamic(Box::new(dynamic)), parent)
    }

    pub(crate) fn info(&self, is_recovering: bool) -> ChildInfo {
        let state = match self.phase {
            ChildPhase::Running { .. } => ChildState::Running,
            ChildPhase::Stopping { .. } => ChildState::Stopping,
            ChildPhase::Down if is_recovering => ChildState::Waiting,
            ChildPhase::Down if self.is_quarantined => ChildState::Quarantined,
            ChildPhase::Down => ChildState::Done,
        };
        ChildInfo {
            id: self.id.to_string(),
            pid: self.phase.pid(),
            restart: self.restart,
            state,
            restarts: self.starts.saturating_sub(1),
            last: self
                .last
                .as_ref()
                .map(|(reason, then)| LastExit { reason: reason.clone(), ago: then.elapsed() }),
        }
    }

    /// Replies to the callers that wait for its start.
    pub(crate) fn reply_started(&mut self, outcome: &Result<StartedChild, ControlError>) {
        for reply in self.starting.drain(..) {
            let _ = reply.send(outcome.clone());
        }
    }
}

impl ChildTable {
    /// Adds a child after the others. Returns `None` if its id is taken.
    pub(crate) fn add(&mut self, spec: ChildSpec, parent: Parent) -> Option<Key> {
        let ChildSpec { id, spawn, restart, shutdown } = spec;
        self.insert(Child::new(id, (restart, shutdown), Origin::Spec(Box::new(spawn)), parent))
    }

    pub(crate) fn insert(&mut self, child: Child) -> Option<Key> {
        if self.by_id.contains_key(&child.id) {
            return None;
        }
        let key = self.next;
        self.next += 1;
        self.by_id.insert(Arc::clone(&child.id), key);
        self.in_order.insert(key, child);
        Some(key)
    }

    /// Removes a child, and replies to all callers that wait for it.
    pub(crate) fn remove(&mut self, key: Key) {
        let Some(mut child) = self.in_order.remove(&key) else { return };
        self.by_id.remove(&child.id);
        if let Some(pid) = child.phase.pid() {
            self.by_pid.remove(&pid);
        }
        child.reply_started(&Err(ControlError::Removed { id: Arc::clone(&child.id) }));
        for reply in child.removing {
            let _ = reply.send(Ok(()));
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Child> {
        self.in_order.get_mut(&key)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Child> {
        self.in_order.get(&key)
    }

    pub(crate) fn is_down(&self, key: Key) -> bool {
        self.in_order.get(&key).is_none_or(|child| child.phase.is_down())
    }

    pub(crate) fn find(&self, id: &str) -> Option<Key> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn find_process(&self, pid: Pid) -> Option<Key> {
        self.by_pid.get(&pid).copied()
    }

    /// Notes that a child was started.
    pub(crate) fn started(&mut self, key: Key, pid: Pid, now: Instant) {
        let Some(child) = self.in_order.get_mut(&key) else { return };
        child.phase = ChildPhase::Running { pid, since: now };
        child.starts += 1;
        child.is_added = false;
        child.is_quarantined = false;
        self.by_pid.insert(pid, key);
        let started = StartedChild { id: Arc::clone(&child.id), pid };
        child.reply_started(&Ok(started));
    }

    /// Notes that a process has ended. Returns its child, which is down now.
    pub(crate) fn ended(&mut self, pid: Pid) -> Option<(Key, &mut Child, EndedChild)> {
        let key = self.by_pid.remove(&pid)?;
        let child = self.in_order.get_mut(&key)?;
        let ended = match child.phase {
            ChildPhase::Running { since, .. } => EndedChild { since, was_stopping: false },
            ChildPhase::Stopping { since, .. } => EndedChild { since, was_stopping: true },
            ChildPhase::Down => return None,
        };
        child.phase = ChildPhase::Down;
        Some((key, child, ended))
    }

    /// Puts the children with these ids first, in this order, and keeps the order of the others after them. Returns all new keys, or
    /// none if the order is unchanged.
    pub(crate) fn arrange(&mut self, ids: &[Arc<str>]) -> Rekeyed {
        let mut order: Vec<Key> = ids.iter().filter_map(|id| self.find(id)).collect();
        let mut is_placed = HashSet::with_hasher(FxBuildHasher);
        order.retain(|&key| is_placed.insert(key));
        order.extend(self.in_order.keys().filter(|key| !is_placed.contains(key)));
        if self.in_order.keys().eq(&order) {
            return Rekeyed::default();
        }
        let mut rekeyed = Rekeyed::default();
        for old in order {
            let Some(child) = self.in_order.remove(&old) else { continue };
            let new = self.next;
            self.next += 1;
            self.by_id.insert(Arc::clone(&child.id), new);
            if let Some(pid) = child.phase.pid() {
                self.by_pid.insert(pid, new);
            }
            self.in_order.insert(new, child);
            rekeyed.insert(old, new);
        }
        rekeyed
    }

    /// Returns the children in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Child)> {
        self.in_order.iter().map(|(&key, child)| (key, child))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Child> {
        self.in_order.values_mut()
    }

    /// Returns the keys in order, from `first` on.
    pub(crate) fn keys_from(&self, first: Key) -> impl Iterator<Item = Key> {
        self.in_order.range(first..).map(|(&key, _)| key)
    }

    pub(crate) fn last(&self) -> Option<Key> {
        self.in_order.last_key_value().map(|(&key, _)| key)
    }

    pub(crate) fn len(&self) -> usize {
        self.in_order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }
}

/// A snapshot of a child of a supervisor.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct ChildInfo {
    /// Its id in its supervisor.
    pub id: String,
    /// Its process, if one is alive.
    pub pid: Option<Pid>,
    /// After which exits it is restarted.
    pub restart: Restart,
    /// Its state.
    pub state: ChildState,
    /// How often it was restarted, for any reason.
    pub restarts: u64,
    /// Why it was down the last time.
    pub last: Option<LastExit>,
}

/// The last time that a child was down. Its `Display` is the reason.
///
/// Its serialised form is an object: `reason`, the [name](DownReason::as_str) of the reason; `message`, the reason in words; and
/// `ago`, in seconds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LastExit {
    /// How it ended, or why it did not start.
    pub reason: DownReason,
    /// How long ago that was.
    pub ago: Duration,
}

impl fmt::Display for LastExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl Serialize for LastExit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("reason", self.reason.as_str())?;
        map.serialize_entry("message", &self.reason.to_string())?;
        map.serialize_entry("ago", &self.ago.as_secs_f64())?;
        map.end()
    }
}

/// The state of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChildState {
    /// Its process runs.
    Running,
    /// Its process was asked to end, and has not ended.
    Stopping,
    /// It will be started after its [backoff](super::Backoff), and after the children that have to end or start before it.
    Waiting,
    /// It has ended, and is not restarted automatically.
    Done,
    /// It has ended, and is not restarted, because its code is [quarantined](crate::Quarantine). A
    /// [restart](super::SupervisorHandle::restart) starts it after its code was replaced.
    Quarantined,
}

impl ChildState {
    /// Returns its name: `running`, `stopping`, `waiting`, `done` or `quarantined`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Quarantined => "quarantined",
        }
    }
}

impl fmt::Display for ChildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
