//! Names of processes: who has which, and waiting for one.

pub(crate) mod spawn_or_signal;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use frame_registry::text;
use rustc_hash::FxBuildHasher;
use tokio::time::timeout;

use self::spawn_or_signal::KeyedMutex;
use self::waiters::NameWaiters;
use super::cell::{ProcessCell, ProcessCells};
use super::error::ProcessError;
use super::sync;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::pid::Pid;

/// The longest name in bytes.
const MAX_NAME: usize = 255;
/// The most names of one process.
const MAX_NAMES: usize = 64;

/// The names of processes. A name belongs to one process at a time, and is free when that has ended.
pub(crate) struct Names {
    holders: DashMap<Arc<str>, Arc<ProcessCell>, FxBuildHasher>,
    waiters: NameWaiters,
    /// Held while a process is spawned by a name.
    spawning: KeyedMutex,
}

/// Checks whether a process can have a name. The error is what to show of an invalid one.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let is_valid = !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with('{')
        && name.chars().all(text::is_printable);
    if is_valid { Ok(()) } else { Err(name[..name.floor_char_boundary(MAX_NAME)].to_owned()) }
}

/// No process was found by a name.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No process was registered by the name in time.
    #[error("no process is registered as {name:?}, after a wait of {time:?}")]
    NotFound {
        /// The name.
        name: String,
        /// The time that the caller waited.
        time: Duration,
    },
    /// The name is not valid.
    #[error(
        "{name:?} is not a valid name for a process; a name has 1 to 255 bytes, no control or format characters, and does not begin with `{{`"
    )]
    InvalidName {
        /// The name. A long one is cut off.
        name: String,
    },
    /// The caller's context ended.
    #[error("the caller's context has ended")]
    ContextEnded {
        /// The reason.
        source: CallError,
    },
}

impl From<LookupError> for CallError {
    fn from(error: LookupError) -> Self {
        let kind = match error {
            LookupError::NotFound { .. } => ErrorKind::NotFound,
            LookupError::InvalidName { .. } => ErrorKind::Invalid,
            LookupError::ContextEnded { source } => return source,
        };
        Self::new(kind, error.to_string())
    }
}

impl Names {
    pub(crate) fn new() -> Self {
        Self { holders: DashMap::default(), waiters: NameWaiters::new(), spawning: KeyedMutex::default() }
    }

    /// Gives a process a further name.
    pub(crate) fn register(&self, name: &str, cells: &ProcessCells, pid: Pid) -> Result<(), ProcessError> {
        check(name).map_err(|name| ProcessError::InvalidName { name })?;
        let cell = cells.get_alive(pid)?;
        let names = cell.state().relations.as_ref().map_or(0, |relations| relations.names.len());
        if names >= MAX_NAMES {
            return Err(ProcessError::TooManyNames { pid, limit: MAX_NAMES });
        }
        self.claim(name, &cell)
            .map_err(|holder| ProcessError::NameTaken { name: name.to_owned(), holder })?;
        if cell.has_ended() { Err(cells.exit_error(pid)) } else { Ok(()) }
    }

    /// Gives a process a name, or returns the process that has it. Does nothing for a process that has the name or has ended.
    pub(crate) fn claim(&self, name: &str, cell: &Arc<ProcessCell>) -> Result<(), Pid> {
        let name: Arc<str> = name.into();
        // The state is locked first, so that a process that ends releases the name, or has ended before.
        let mut state = cell.state();
        if state.has_ended() {
            return Ok(());
        }
        match self.holders.entry(Arc::clone(&name)) {
            Entry::Occupied(holder) if Arc::ptr_eq(holder.get(), cell) => return Ok(()),
            Entry::Occupied(holder) if !holder.get().has_ended() => return Err(holder.get().pid),
            Entry::Occupied(mut ended) => _ = ended.insert(Arc::clone(cell)),
            Entry::Vacant(free) => _ = free.insert(Arc::clone(cell)),
        }
        state.relations().names.push(Arc::clone(&name));
        drop(state);
        self.waiters.bound(&name);
        Ok(())
    }

    /// Returns the process that has a name and is alive.
    pub(crate) fn holder(&self, name: &str) -> Option<Arc<ProcessCell>> {
        let holder = self.holders.get(name)?;
        (!holder.has_ended()).then(|| Arc::clone(&holder))
    }

    /// Returns the process that has a name. Waits for one for at most `time`.
    pub(crate) async fn lookup(
        &self,
        ctx: &CallContext,
        name: &str,
        time: Duration,
    ) -> Result<Pid, LookupError> {
        check(name).map_err(|name| LookupError::InvalidName { name })?;
        ctx.check().map_err(|source| LookupError::ContextEnded { source })?;
        let find = || self.holder(name).map(|holder| holder.pid);
        if let Some(pid) = find() {
            return Ok(pid);
        }
        let not_found = || LookupError::NotFound { name: name.to_owned(), time };
        if time.is_zero() {
            return Err(not_found());
        }
        match ctx.bound(timeout(time, self.waiters.wait(name, find))).await {
            Ok(found) => found.map_err(|_elapsed| not_found()),
            Err(source) => Err(LookupError::ContextEnded { source }),
        }
    }

    /// Takes a name from the process that has it. Returns whether one had it.
    pub(crate) fn unregister(&self, name: &str) -> bool {
        self.holder(name).is_some_and(|holder| self.unregister_from(name, &holder))
    }

    /// Takes a name from a process. Returns whether it had the name.
    pub(crate) fn unregister_from(&self, name: &str, holder: &ProcessCell) -> bool {
        let mut state = holder.state();
        if let Some(relations) = &mut state.relations {
            relations.names.retain(|other| &**other != name);
        }
        self.release(name, holder)
    }

    /// Frees a name if this process has it.
    pub(crate) fn release(&self, name: &str, cell: &ProcessCell) -> bool {
        self.holders.remove_if(name, |_, holder| std::ptr::eq(&raw const **holder, cell)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::process::Destination;

    proptest! {
        #[test]
        fn no_name_can_be_read_as_a_pid(name in any::<String>()) {
            match check(&name) {
                Ok(()) => {
                    prop_assert!((1..=MAX_NAME).contains(&name.len()));
                    prop_assert!(matches!(Destination::from_text(&name), Ok(Destination::Name(it)) if it == name));
                }
                Err(shown) => prop_assert!(name.starts_with(&shown) && shown.len() <= MAX_NAME),
            }
        }
    }

    #[test]
    fn a_name_that_is_too_long_is_shown_cut_off() {
        assert_eq!(check(&"n".repeat(MAX_NAME)), Ok(()));
        assert_eq!(check(&"n".repeat(MAX_NAME + 1)), Err("n".repeat(MAX_NAME)));
        // Never within a character.
        assert_eq!(check(&"é".repeat(MAX_NAME)), Err("é".repeat(MAX_NAME / 2)));
    }
}
