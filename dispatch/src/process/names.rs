//! The names of processes.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use rustc_hash::FxBuildHasher;

use super::cell::ProcessCell;
use super::error::ProcessError;
use super::manager::ProcessManager;
use super::name_waiters::NameWaiters;
use crate::pid::Pid;
use crate::printable::is_printable;

/// The longest name, in bytes.
const LONGEST: usize = 255;
/// How many names one process can have.
const MOST: usize = 64;

/// Who has which name. A name is one process's at a time, and free again when that has ended.
pub(super) struct Names {
    holders: DashMap<Arc<str>, Arc<ProcessCell>, FxBuildHasher>,
    waiters: NameWaiters,
}

/// Whether a process can have a name; gives what to show of one that none can have.
pub(super) fn check(name: &str) -> Result<(), String> {
    let is_name =
        !name.is_empty() && name.len() <= LONGEST && !name.starts_with('{') && name.chars().all(is_printable);
    if is_name { Ok(()) } else { Err(name[..name.floor_char_boundary(LONGEST)].to_owned()) }
}

impl ProcessManager {
    /// Gives a process a name, in addition to those it has. It is free again when the process has ended.
    ///
    /// # Errors
    ///
    /// [`ProcessError::NameTaken`] if another has it, [`ProcessError::InvalidName`] if none can,
    /// [`ProcessError::TooManyNames`] if the process has 64, [`ProcessError::Ended`] or [`ProcessError::Unknown`] if the process does not live.
    pub fn register_name(&self, name: &str, pid: Pid) -> Result<(), ProcessError> {
        check(name).map_err(|name| ProcessError::InvalidName { name })?;
        let instance = self.living(pid)?;
        let names = instance.state().relations.as_ref().map_or(0, |relations| relations.names.len());
        if names >= MOST {
            return Err(ProcessError::TooManyNames { pid, limit: MOST });
        }
        let taken = |holder| ProcessError::NameTaken { name: name.to_owned(), holder };
        self.names().claim(name, &instance).map_err(taken)?;
        if instance.has_ended() { Err(self.gone(pid)) } else { Ok(()) }
    }

    /// Takes a name away from whoever has it; says whether somebody had.
    pub fn unregister_name(&self, name: &str) -> bool {
        self.names().take(name)
    }

    /// Takes a name away from a process; says whether that had it.
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(super) fn unregister_name_of(&self, name: &str, pid: Pid) -> bool {
        self.find(pid).is_some_and(|holder| self.names().take_from(name, &holder))
    }

    /// The living process that has a name.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        self.names().holder(name).map(|instance| instance.pid)
    }
}

impl Names {
    pub(super) fn new() -> Self {
        Self { holders: DashMap::default(), waiters: NameWaiters::new() }
    }

    pub(super) const fn waiters(&self) -> &NameWaiters {
        &self.waiters
    }

    /// Gives a name to a process, or says who has it. To one that has it, nothing happens; one that has ended gets none.
    pub(super) fn claim(&self, name: &str, instance: &Arc<ProcessCell>) -> Result<(), Pid> {
        let name: Arc<str> = name.into();
        // The state is locked first, so that a process that ends releases it, or has ended before.
        let mut state = instance.state();
        if state.has_ended() {
            return Ok(());
        }
        match self.holders.entry(Arc::clone(&name)) {
            Entry::Occupied(holder) if Arc::ptr_eq(holder.get(), instance) => return Ok(()),
            Entry::Occupied(holder) if !holder.get().has_ended() => return Err(holder.get().pid),
            Entry::Occupied(mut ended) => _ = ended.insert(Arc::clone(instance)),
            Entry::Vacant(free) => _ = free.insert(Arc::clone(instance)),
        }
        state.relations().names.push(Arc::clone(&name));
        drop(state);
        self.waiters.bound(&name);
        Ok(())
    }

    /// Who has a name, and lives.
    pub(super) fn holder(&self, name: &str) -> Option<Arc<ProcessCell>> {
        let holder = self.holders.get(name)?;
        (!holder.has_ended()).then(|| Arc::clone(&holder))
    }

    /// Takes a name away from whoever has it; says whether somebody had.
    pub(super) fn take(&self, name: &str) -> bool {
        self.holder(name).is_some_and(|holder| self.take_from(name, &holder))
    }

    /// Takes a name away from a process; says whether that had it.
    pub(super) fn take_from(&self, name: &str, holder: &ProcessCell) -> bool {
        let mut state = holder.state();
        if let Some(relations) = &mut state.relations {
            relations.names.retain(|other| &**other != name);
        }
        self.release(name, holder)
    }

    /// Takes a name away from a process, if that has it.
    pub(super) fn release(&self, name: &str, instance: &ProcessCell) -> bool {
        self.holders.remove_if(name, |_, holder| std::ptr::eq(&raw const **holder, instance)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::process::Destination;

    proptest! {
        /// Whatever a name may be, it is told from a PID.
        #[test]
        fn a_name_is_no_text_of_a_pid(name in any::<String>()) {
            match check(&name) {
                Ok(()) => {
                    prop_assert!((1..=LONGEST).contains(&name.len()));
                    prop_assert!(matches!(Destination::from_text(&name), Ok(Destination::Name(it)) if it == name));
                }
                Err(shown) => prop_assert!(name.starts_with(&shown) && shown.len() <= LONGEST),
            }
        }
    }

    #[test]
    fn of_a_name_that_is_too_long_the_beginning_is_shown() {
        assert_eq!(check(&"n".repeat(LONGEST)), Ok(()));
        assert_eq!(check(&"n".repeat(LONGEST + 1)), Err("n".repeat(LONGEST)));
        // Not in the middle of a character.
        assert_eq!(check(&"é".repeat(LONGEST)), Err("é".repeat(LONGEST / 2)));
    }
}
