//! The children of a supervisor that runs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use frame_registry::Frame;
use rustc_hash::FxBuildHasher;
use tokio::time::Instant;

use super::error::{ControlError, DownReason};
use super::handle::{ChildInfo, ChildState, Reply};
use super::spec::ChildSpec;
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
    pub(super) spec: ChildSpec,
    pub(super) parent: Parent,
    pub(super) life: Life,
    /// How often it was started.
    pub(super) starts: u64,
    /// How often it failed in a row.
    pub(super) failures: u32,
    pub(super) last: Option<DownReason>,
    /// Those that asked for its start.
    pub(super) starting: Vec<Reply<Pid>>,
    /// Those that asked for its removal; there are some if it is to be removed.
    pub(super) removing: Vec<Reply<()>>,
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
    pub(super) const fn is_new(&self) -> bool {
        self.starts == 0
    }

    pub(super) fn info(&self, is_recovering: bool) -> ChildInfo {
        let state = match self.life {
            Life::Running { .. } => ChildState::Running,
            Life::Stopping { .. } => ChildState::Stopping,
            Life::Down if is_recovering => ChildState::Waiting,
            Life::Down => ChildState::Done,
        };
        ChildInfo {
            id: self.spec.id().to_owned(),
            pid: self.life.pid(),
            restart: self.spec.restart,
            state,
            restarts: self.starts.saturating_sub(1),
            last: self.last.clone(),
        }
    }

    /// Answers those that asked for its start.
    pub(super) fn answer(&mut self, outcome: &Result<Pid, ControlError>) {
        for reply in self.starting.drain(..) {
            let _ = reply.send(outcome.clone());
        }
    }
}

impl Children {
    /// Adds one behind the others; none if its id is taken.
    pub(super) fn add(&mut self, spec: ChildSpec, parent: Parent) -> Option<Key> {
        if self.by_id.contains_key(&spec.id) {
            return None;
        }
        let key = self.next;
        self.next += 1;
        self.by_id.insert(Arc::clone(&spec.id), key);
        let child = Child {
            spec,
            parent,
            life: Life::Down,
            starts: 0,
            failures: 0,
            last: None,
            starting: Vec::new(),
            removing: Vec::new(),
        };
        self.in_order.insert(key, child);
        Some(key)
    }

    /// Forgets one, and tells those who asked for anything about it.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(mut child) = self.in_order.remove(&key) else { return };
        self.by_id.remove(&child.spec.id);
        if let Some(pid) = child.life.pid() {
            self.by_pid.remove(&pid);
        }
        child.answer(&Err(ControlError::Removed { id: Arc::clone(&child.spec.id) }));
        for reply in child.removing {
            let _ = reply.send(Ok(()));
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Child> {
        self.in_order.get_mut(&key)
    }

    pub(super) fn is_down(&self, key: Key) -> bool {
        self.in_order.get(&key).is_none_or(|child| child.life.is_down())
    }

    pub(super) fn find(&self, id: &str) -> Option<Key> {
        self.by_id.get(id).copied()
    }

    /// A child's process runs.
    pub(super) fn started(&mut self, key: Key, pid: Pid, now: Instant) {
        let Some(child) = self.in_order.get_mut(&key) else { return };
        child.life = Life::Running { pid, since: now };
        child.starts += 1;
        self.by_pid.insert(pid, key);
        child.answer(&Ok(pid));
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
            self.by_id.insert(Arc::clone(&child.spec.id), new);
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

    pub(super) fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }
}
