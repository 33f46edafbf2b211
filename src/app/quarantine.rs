//! Functions and processes whose calls are refused, because they have held a thread for too long.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::engines::{Code, Role};
use super::plan::Plan;

/// A function or a process of an app that is [quarantined](frame_dispatch::Quarantine) until the app is
/// reloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quarantined {
    /// `function` or `process`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// The quarantined functions and processes of an app, as they are now. Asking waits for nothing, not even for
/// a reload.
#[derive(Clone, Default)]
pub struct Quarantines {
    units: Arc<ArcSwap<Vec<(Role, String, Code)>>>,
}

impl Quarantines {
    /// Looks at what `plan` has from now on.
    pub(super) fn watch(&self, plan: &Plan) {
        let functions = plan.functions.iter();
        let functions = functions.map(|(id, unit)| (Role::Function, id.to_string(), unit.value.code.clone()));
        let processes = plan.processes.iter();
        let processes = processes.map(|(id, unit)| (Role::Process, id.to_string(), unit.value.code.clone()));
        self.units.store(Arc::new(functions.chain(processes).collect()));
    }

    /// Lists them: functions, then processes, each sorted by id.
    pub fn list(&self) -> Vec<Quarantined> {
        let units = self.units.load();
        let quarantined = units.iter().filter_map(|(role, id, code)| {
            let reason = code.quarantine()?.to_string();
            Some(Quarantined { kind: role.noun().to_owned(), id: id.clone(), reason })
        });
        quarantined.collect()
    }
}

impl fmt::Debug for Quarantines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}
