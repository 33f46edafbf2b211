//! The exits that are remembered.

use std::collections::{HashMap, VecDeque};

use rustc_hash::FxBuildHasher;

use super::exit::Exit;
use crate::pid::Pid;

/// The last so many exits, for whoever asks about a process that has ended.
pub(super) struct RecentExits {
    capacity: usize,
    exits: HashMap<Pid, Remembered, FxBuildHasher>,
    order: VecDeque<Pid>,
}

struct Remembered {
    exit: Exit,
    /// What started the process.
    parent: Option<Pid>,
}

impl RecentExits {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, exits: HashMap::default(), order: VecDeque::new() }
    }

    /// Remembers one, and gives the one that is forgotten for it. A result can be large, so none is kept.
    pub(super) fn remember(&mut self, exit: &Exit, parent: Option<Pid>) -> Option<Exit> {
        let exit = Exit { result: None, ..exit.clone() };
        if self.capacity == 0 {
            return Some(exit);
        }
        let oldest = if self.order.len() == self.capacity { self.order.pop_front() } else { None };
        let forgotten = oldest.and_then(|pid| self.exits.remove(&pid)).map(|it| it.exit);
        // Twice the room, or the traces of what was forgotten would make the table grow once more at some time.
        if self.exits.capacity() < 2 * (self.exits.len() + 1) {
            self.exits.reserve(self.exits.len() + 2);
        }
        self.order.push_back(exit.pid);
        self.exits.insert(exit.pid, Remembered { exit, parent });
        forgotten
    }

    pub(super) fn get(&self, pid: Pid) -> Option<Exit> {
        self.exits.get(&pid).map(|it| it.exit.clone())
    }

    /// What started a process.
    pub(super) fn parent(&self, pid: Pid) -> Option<Pid> {
        self.exits.get(&pid)?.parent
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::payload::Payload;
    use crate::pid::Host;
    use crate::process::exit::ExitReason;

    fn exit() -> Exit {
        let pid = Pid::next(Host::named("local@test:host"));
        Exit { pid, reason: ExitReason::Normal, result: Some(Arc::new(Payload::default())) }
    }

    #[test]
    fn the_last_so_many_are_remembered_without_their_results() {
        let mut recent = RecentExits::new(3);
        let (parent, exits) = (exit().pid, [(); 10].map(|()| exit()));
        for (index, exit) in exits.iter().enumerate() {
            let forgotten = recent.remember(exit, Some(parent)).map(|exit| exit.pid);
            assert_eq!(forgotten, index.checked_sub(3).map(|oldest| exits[oldest].pid));
            for (other, exit) in exits.iter().enumerate() {
                let is_known = other <= index && other + 3 > index;
                assert_eq!(recent.get(exit.pid).is_some(), is_known);
                assert_eq!(recent.parent(exit.pid), is_known.then_some(parent));
            }
            assert!(recent.get(exit.pid).unwrap().result.is_none());
        }
    }

    #[test]
    fn where_none_are_to_be_remembered_none_is() {
        let mut recent = RecentExits::new(0);
        let exit = exit();
        assert_eq!(recent.remember(&exit, None).map(|exit| exit.pid), Some(exit.pid));
        assert!(recent.get(exit.pid).is_none() && recent.parent(exit.pid).is_none());
    }
}
