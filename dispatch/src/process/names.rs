//! The names of processes.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use rustc_hash::FxBuildHasher;

use super::instance::Instance;
use crate::pid::Pid;

/// The longest name, in bytes.
const LONGEST: usize = 255;

/// Who has which name. A name is one process's at a time, and free again when that has ended.
#[derive(Default)]
pub(super) struct Names {
    holders: DashMap<Arc<str>, Arc<Instance>, FxBuildHasher>,
}

/// Whether a process can have a name; gives what to show of one that none can have.
pub(super) fn check(name: &str) -> Result<(), String> {
    let is_name = !name.is_empty()
        && name.len() <= LONGEST
        && !name.starts_with('{')
        && !name.chars().any(char::is_control);
    if is_name { Ok(()) } else { Err(name[..name.floor_char_boundary(LONGEST)].to_owned()) }
}

impl Names {
    /// Gives a name to a process, or says who has it. To one that has it, nothing happens; one that has ended gets none.
    pub(super) fn claim(&self, name: &str, instance: &Arc<Instance>) -> Result<(), Pid> {
        let name: Arc<str> = name.into();
        // The state is locked first, so that a process that ends releases it, or has ended before.
        let mut state = instance.state();
        if state.exit.is_some() {
            return Ok(());
        }
        match self.holders.entry(Arc::clone(&name)) {
            Entry::Occupied(holder) if Arc::ptr_eq(holder.get(), instance) => return Ok(()),
            Entry::Occupied(holder) if !holder.get().has_ended() => return Err(holder.get().pid),
            Entry::Occupied(mut ended) => _ = ended.insert(Arc::clone(instance)),
            Entry::Vacant(free) => _ = free.insert(Arc::clone(instance)),
        }
        state.relations().names.push(name);
        Ok(())
    }

    /// Who has a name, and lives.
    pub(super) fn holder(&self, name: &str) -> Option<Arc<Instance>> {
        let holder = self.holders.get(name)?;
        (!holder.has_ended()).then(|| Arc::clone(&holder))
    }

    /// Takes a name away from whoever has it; says whether somebody had.
    pub(super) fn take(&self, name: &str) -> bool {
        let Some(holder) = self.holder(name) else { return false };
        let mut state = holder.state();
        if let Some(relations) = &mut state.relations {
            relations.names.retain(|other| &**other != name);
        }
        self.release(name, &holder)
    }

    /// Takes a name away from a process, if that has it.
    pub(super) fn release(&self, name: &str, instance: &Instance) -> bool {
        self.holders.remove_if(name, |_, holder| std::ptr::eq(&raw const **holder, instance)).is_some()
    }
}
