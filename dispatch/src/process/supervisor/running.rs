//! The supervisors that run, found by what they are registered as.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::entry::EntryId;
use super::super::manager::ProcessManager;
use super::handle::SupervisorHandle;

/// A handle for each entry of which a supervisor has run. It is of every process of that entry, whichever version of the
/// supervisor it was started from.
#[derive(Default)]
pub(in crate::process) struct Supervisors(Mutex<BTreeMap<EntryId, SupervisorHandle>>);

impl Supervisors {
    fn handles(&self) -> MutexGuard<'_, BTreeMap<EntryId, SupervisorHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle for an entry, which is one of a supervisor.
    pub(super) fn of(&self, id: &EntryId) -> SupervisorHandle {
        self.handles().entry(id.clone()).or_insert_with(SupervisorHandle::new).clone()
    }
}

impl ProcessManager {
    /// Returns what asks the supervisor that is registered as `id`, if a process of it has run. It asks whichever process of that
    /// id runs, also after the supervisor was [replaced](Self::replace).
    pub fn supervisor(&self, id: &EntryId) -> Option<SupervisorHandle> {
        self.supervisors_table().handles().get(id).cloned()
    }

    /// Lists the supervisors of which processes run, sorted by id.
    pub fn supervisors(&self) -> Vec<(EntryId, SupervisorHandle)> {
        let handles = self.supervisors_table().handles();
        let running = handles.iter().filter(|(_, handle)| !handle.running().is_empty());
        running.map(|(id, handle)| (id.clone(), handle.clone())).collect()
    }
}
