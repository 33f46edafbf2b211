//! The exits that are remembered.

use std::collections::{HashMap, VecDeque};

use rustc_hash::FxBuildHasher;

use super::exit::Exit;
use crate::pid::Pid;

/// The last so many exits, for callers that ask about a process that has ended.
pub(super) struct RecentExits {
    capacity: usize,
    /// The oldest first.
    exits: VecDeque<Remembered>,
    /// How many were forgotten.
    forgotten: u64,
    /// By the number of the PID, how many exits came before. Apart from the exits, because all of it is in use at random, and so
    /// small it stays in the cache.
    places: HashMap<u64, u64, FxBuildHasher>,
}

struct Remembered {
    exit: Exit,
    /// What started the process.
    parent: Option<Pid>,
}

impl RecentExits {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, exits: VecDeque::new(), forgotten: 0, places: HashMap::default() }
    }

    /// Remembers an exit, and returns the one that is forgotten for it. A result can be large, so none is kept.
    pub(super) fn remember(&mut self, exit: &Exit, parent: Option<Pid>) -> Option<Exit> {
        let exit = Exit { pid: exit.pid, reason: exit.reason.clone(), result: None };
        if self.capacity == 0 {
            return Some(exit);
        }
        let oldest = if self.exits.len() == self.capacity { self.exits.pop_front() } else { None };
        if let Some(oldest) = &oldest {
            self.places.remove(&oldest.exit.pid.number());
            self.forgotten += 1;
        }
        // Twice the room, or the traces of what was forgotten would make the table grow once more at some time.
        if self.places.capacity() < 2 * (self.places.len() + 1) {
            self.places.reserve(self.places.len() + 2);
        }
        let before = u64::try_from(self.exits.len()).unwrap_or(u64::MAX);
        self.places.insert(exit.pid.number(), self.forgotten.saturating_add(before));
        self.exits.push_back(Remembered { exit, parent });
        oldest.map(|it| it.exit)
    }

    pub(super) fn get(&self, pid: Pid) -> Option<Exit> {
        self.find(pid).map(|it| it.exit.clone())
    }

    /// What started a process.
    pub(super) fn parent(&self, pid: Pid) -> Option<Pid> {
        self.find(pid)?.parent
    }

    fn find(&self, pid: Pid) -> Option<&Remembered> {
        let before = *self.places.get(&pid.number())?;
        let place = usize::try_from(before.checked_sub(self.forgotten)?).ok()?;
        // A PID in text may have the number of another.
        self.exits.get(place).filter(|it| it.exit.pid == pid)
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
