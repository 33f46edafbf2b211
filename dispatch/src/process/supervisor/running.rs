//! The supervisors that run, found by what they are registered as.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::entry::EntryId;
use super::super::manager::ProcessManager;
use super::handle::SupervisorHandle;

/// A handle for each entry that is, or was, a supervisor. It is of every process of that entry, whichever version of the supervisor
/// it was started from.
#[derive(Default)]
pub(in crate::process) struct Supervisors(Mutex<BTreeMap<EntryId, SupervisorHandle>>);

impl Supervisors {
    fn handles(&self) -> MutexGuard<'_, BTreeMap<EntryId, SupervisorHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle for an entry, which is that of a supervisor.
    pub(super) fn of(&self, id: &EntryId) -> SupervisorHandle {
        self.handles().entry(id.clone()).or_insert_with(SupervisorHandle::new).clone()
    }
}

impl ProcessManager {
    /// Returns the handle of the supervisor that is registered as `id`, if there is one. It asks whichever process of that id runs,
    /// also after the supervisor was [replaced](Self::replace).
    pub fn supervisor(&self, id: &EntryId) -> Option<SupervisorHandle> {
        let is_registered = self.entry(id).is_some_and(|entry| entry.is_supervisor);
        let supervisors = self.supervisors_table();
        if is_registered { Some(supervisors.of(id)) } else { supervisors.handles().get(id).cloned() }
    }

    /// Lists the supervisors of which processes run, sorted by id.
    pub fn supervisors(&self) -> Vec<(EntryId, SupervisorHandle)> {
        let handles = self.supervisors_table().handles();
        let running = handles.iter().filter(|(_, handle)| !handle.running().is_empty());
        running.map(|(id, handle)| (id.clone(), handle.clone())).collect()
    }
}
