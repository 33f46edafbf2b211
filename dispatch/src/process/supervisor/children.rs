//! The children of a supervisor that runs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use frame_registry::Frame;
use rustc_hash::FxBuildHasher;
use tokio::time::Instant;

use super::super::spawn::Spawn;
use super::dynamic::{DynamicChild, DynamicSpec, StartedChild};
use super::error::{ControlError, DownReason};
use super::handle::{ChildInfo, ChildState, LastExit, Reply};
use super::intensity::Restarts;
use super::spec::{ChildSpec, Restart, Shutdown};
use crate::pid::Pid;

/// A child's place in the order in which they are started; never another's.
pub(super) type Key = u64;

/// The new keys of children, by those that they had.
pub(super) type Rekeyed = HashMap<Key, Key, FxBuildHasher>;

/// The children, found by their place, their id and their process.
#[derive(Default)]
pub(super) struct Children {
    next: Key,
    in_order: BTreeMap<Key, Child>,
    by_id: HashMap<Arc<str>, Key, FxBuildHasher>,
    by_pid: HashMap<Pid, Key, FxBuildHasher>,
}

pub(super) struct Child {
    pub(super) id: Arc<str>,
    pub(super) restart: Restart,
    pub(super) shutdown: Shutdown,
    pub(super) origin: Origin,
    pub(super) parent: Parent,
    pub(super) life: Life,
    /// Whether it was added and has not been started. If it does not start, it is removed.
    pub(super) is_added: bool,
    /// Whether it is down because its code is quarantined.
    pub(super) is_quarantined: bool,
    /// How often it was started.
    pub(super) starts: u64,
    /// How often it failed in a row.
    pub(super) failures: u32,
    /// Why it was down the last time, and since when.
    pub(super) last: Option<(DownReason, Instant)>,
    /// Those that asked for its start.
    pub(super) starting: Vec<Reply<StartedChild>>,
    /// Those that asked for its removal; there are some if it is to be removed.
    pub(super) removing: Vec<Reply<()>>,
}

/// What a child is started from.
pub(super) enum Origin {
    Spec(Box<Spawn>),
    /// The specification of a dynamic supervisor.
    Dynamic(Box<Dynamic>),
}

/// A child of a dynamic supervisor.
pub(super) struct Dynamic {
    pub(super) child: DynamicChild,
    /// The unit that started it.
    pub(super) starter: Option<Pid>,
    /// Its own restarts, if it was started by a guest, whose failures are nothing to others.
    pub(super) own_restarts: Option<Restarts>,
}

/// Whose frame a child's inherits from, each time it is started.
pub(super) enum Parent {
    Supervisor,
    /// Whoever added it; no frame if that was outside of any function.
    Other(Option<Frame>),
}

#[derive(Clone, Copy)]
pub(super) enum Life {
    Running {
        pid: Pid,
        since: Instant,
    },
    /// It was told to end.
    Stopping {
        pid: Pid,
        since: Instant,
        /// How often it is waited for again; none where it was not killed yet.
        waits: Option<u32>,
    },
    Down,
}

/// What was known of a process that has ended.
pub(super) struct Ended {
    /// When it was started.
    pub(super) since: Instant,
    /// Whether its supervisor had told it to end.
    pub(super) was_stopping: bool,
}

impl Life {
    pub(super) const fn pid(self) -> Option<Pid> {
        match self {
            Self::Running { pid, .. } | Self::Stopping { pid, .. } => Some(pid),
            Self::Down => None,
        }
    }

    pub(super) const fn is_down(self) -> bool {
        matches!(self, Self::Down)
    }
}

impl Child {
    pub(super) const fn is_dynamic(&self) -> bool {
        matches!(self.origin, Origin::Dynamic(_))
    }

    /// Whether it is a dynamic one that `unit` started.
    pub(super) fn is_started_by(&self, unit: Pid) -> bool {
        matches!(&self.origin, Origin::Dynamic(dynamic) if dynamic.starter == Some(unit))
    }

    /// Makes a dynamic one what its specification says, which may be another, from its next end on.
    pub(super) fn take_rules(&mut self, template: &ChildSpec) {
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
            life: Life::Down,
            is_added: false,
            is_quarantined: false,
            starts: 0,
            failures: 0,
            last: None,
            starting: Vec::new(),
            removing: Vec::new(),
        }
    }

    /// A child of a dynamic supervisor.
    pub(super) fn dynamic(id: Arc<str>, spec: &DynamicSpec, dynamic: Dynamic, parent: Parent) -> Self {
        let ChildSpec { restart, shutdown, .. } = spec.template;
        let restart = dynamic.child.restart.unwrap_or(restart);
        Self::new(id, (restart, shutdown), Origin::Dynamic(Box::new(dynamic)), parent)
    }

    pub(super) fn info(&self, is_recovering: bool) -> ChildInfo {
        let state = match self.life {
            Life::Running { .. } => ChildState::Running,
            Life::Stopping { .. } => ChildState::Stopping,
            Life::Down if is_recovering => ChildState::Waiting,
            Life::Down if self.is_quarantined => ChildState::Quarantined,
            Life::Down => ChildState::Done,
        };
        ChildInfo {
            id: self.id.to_string(),
            pid: self.life.pid(),
            restart: self.restart,
            state,
            restarts: self.starts.saturating_sub(1),
            last: self
                .last
                .as_ref()
                .map(|(reason, then)| LastExit { reason: reason.clone(), ago: then.elapsed() }),
        }
    }

    /// Answers those that asked for its start.
    pub(super) fn answer(&mut self, outcome: &Result<StartedChild, ControlError>) {
        for reply in self.starting.drain(..) {
            let _ = reply.send(outcome.clone());
        }
    }
}

impl Children {
    /// Adds one behind the others; none if its id is taken.
    pub(super) fn add(&mut self, spec: ChildSpec, parent: Parent) -> Option<Key> {
        let ChildSpec { id, start, restart, shutdown } = spec;
        self.insert(Child::new(id, (restart, shutdown), Origin::Spec(Box::new(start)), parent))
    }

    pub(super) fn insert(&mut self, child: Child) -> Option<Key> {
        if self.by_id.contains_key(&child.id) {
            return None;
        }
        let key = self.next;
        self.next += 1;
        self.by_id.insert(Arc::clone(&child.id), key);
        self.in_order.insert(key, child);
        Some(key)
    }

    /// Forgets one, and tells those who asked for anything about it.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(mut child) = self.in_order.remove(&key) else { return };
        self.by_id.remove(&child.id);
        if let Some(pid) = child.life.pid() {
            self.by_pid.remove(&pid);
        }
        child.answer(&Err(ControlError::Removed { id: Arc::clone(&child.id) }));
        for reply in child.removing {
            let _ = reply.send(Ok(()));
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Child> {
        self.in_order.get_mut(&key)
    }

    pub(super) fn get(&self, key: Key) -> Option<&Child> {
        self.in_order.get(&key)
    }

    pub(super) fn is_down(&self, key: Key) -> bool {
        self.in_order.get(&key).is_none_or(|child| child.life.is_down())
    }

    pub(super) fn find(&self, id: &str) -> Option<Key> {
        self.by_id.get(id).copied()
    }

    pub(super) fn find_process(&self, pid: Pid) -> Option<Key> {
        self.by_pid.get(&pid).copied()
    }

    /// A child's process runs.
    pub(super) fn started(&mut self, key: Key, pid: Pid, now: Instant) {
        let Some(child) = self.in_order.get_mut(&key) else { return };
        child.life = Life::Running { pid, since: now };
        child.starts += 1;
        child.is_added = false;
        child.is_quarantined = false;
        self.by_pid.insert(pid, key);
        let started = StartedChild { id: Arc::clone(&child.id), pid };
        child.answer(&Ok(started));
    }

    /// A process has ended. Gives the child whose it was, which is down, and what was known of it.
    pub(super) fn ended(&mut self, pid: Pid) -> Option<(Key, &mut Child, Ended)> {
        let key = self.by_pid.remove(&pid)?;
        let child = self.in_order.get_mut(&key)?;
        let ended = match child.life {
            Life::Running { since, .. } => Ended { since, was_stopping: false },
            Life::Stopping { since, .. } => Ended { since, was_stopping: true },
            Life::Down => return None,
        };
        child.life = Life::Down;
        Some((key, child, ended))
    }

    /// Puts the children of these ids first, in this order; the others stay behind them in theirs. Returns the new key of each;
    /// none where all are in order.
    pub(super) fn arrange(&mut self, ids: &[Arc<str>]) -> Rekeyed {
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
            if let Some(pid) = child.life.pid() {
                self.by_pid.insert(pid, new);
            }
            self.in_order.insert(new, child);
            rekeyed.insert(old, new);
        }
        rekeyed
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Child)> {
        self.in_order.iter().map(|(&key, child)| (key, child))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Child> {
        self.in_order.values_mut()
    }

    /// In order, from one on.
    pub(super) fn keys_from(&self, first: Key) -> impl Iterator<Item = Key> {
        self.in_order.range(first..).map(|(&key, _)| key)
    }

    pub(super) fn last(&self) -> Option<Key> {
        self.in_order.last_key_value().map(|(&key, _)| key)
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }
}
