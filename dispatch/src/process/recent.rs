//! The exits that are remembered.

use std::collections::{HashMap, VecDeque};

use rustc_hash::FxBuildHasher;

use super::exit::Exit;
use crate::pid::Pid;

/// The last so many exits, for whoever asks about a process that has ended.
pub(super) struct RecentExits {
    capacity: usize,
    exits: HashMap<Pid, Exit, FxBuildHasher>,
    order: VecDeque<Pid>,
}

impl RecentExits {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, exits: HashMap::default(), order: VecDeque::new() }
    }

    /// Remembers one, and gives the one that is forgotten for it. A result can be large, so none is kept.
    pub(super) fn remember(&mut self, exit: &Exit) -> Option<Exit> {
        let exit = Exit { result: None, ..exit.clone() };
        if self.capacity == 0 {
            return Some(exit);
        }
        let oldest = if self.order.len() == self.capacity { self.order.pop_front() } else { None };
        let forgotten = oldest.and_then(|pid| self.exits.remove(&pid));
        self.order.push_back(exit.pid);
        self.exits.insert(exit.pid, exit);
        forgotten
    }

    pub(super) fn get(&self, pid: Pid) -> Option<Exit> {
        self.exits.get(&pid).cloned()
    }
}
