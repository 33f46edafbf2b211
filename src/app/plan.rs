//! What an app is to be: all that a manifest says, made, and nothing of it running.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use frame_dispatch::FunctionId;
use frame_dispatch::process::supervisor::{
    ChildSpec, DynamicSpec, RestartPolicy, SpecError, Supervisor, SupervisorBuilder,
};
use frame_dispatch::process::{EntryId, HostConfig, HostId, Spawn};
use frame_net::{Network, NetworkId};
use frame_registry::Options;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::engines::Code;
use super::secrets::Secrets;
use crate::manifest::{Child, Given, Problem, Role, SourceFile, SupervisorSpec};

/// An app whose sources are compiled and whose networks are made, ready to be put in place; see [`check`](super::check).
pub struct Plan {
    pub(crate) file: Arc<SourceFile>,
    pub(crate) networks: BTreeMap<NetworkId, Given<Made>>,
    pub(crate) secrets: Secrets,
    /// What is most likely not meant.
    pub(crate) warnings: Vec<Problem>,
    pub(crate) hosts: BTreeMap<HostId, Given<HostConfig>>,
    pub(crate) functions: BTreeMap<FunctionId, Given<Unit>>,
    pub(crate) processes: BTreeMap<EntryId, Given<Unit>>,
    pub(crate) supervisors: BTreeMap<EntryId, Given<SupervisorSpec>>,
    /// What the root frame is made of.
    pub(crate) defaults: Given<Options>,
    /// All default options of the app, those that are preset for each function included.
    pub(crate) all_defaults: Options,
}

/// A network, not yet in its place.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) network: Arc<dyn Network>,
    pub(crate) is_selectable: bool,
}

/// A function, or what processes are started from.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) code: Code,
    /// What the code was compiled from: equal where it need not be compiled again.
    pub(crate) compiled_from: Json,
    /// How often it was compiled again from that, because it was quarantined.
    pub(crate) generation: u32,
    pub(crate) options: Options,
}

/// How many parts of each kind an app has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Overlay networks.
    pub networks: usize,
    /// Functions.
    pub functions: usize,
    /// Hosts of processes.
    pub hosts: usize,
    /// What processes are started from.
    pub processes: usize,
    /// Supervisors.
    pub supervisors: usize,
}

impl Plan {
    /// How much there is of everything.
    pub fn counts(&self) -> Counts {
        Counts {
            networks: self.networks.len(),
            functions: self.functions.len(),
            hosts: self.hosts.len(),
            processes: self.processes.len(),
            supervisors: self.supervisors.len(),
        }
    }

    /// What is not wrong, and most likely not what the operator means.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Writes the warnings to the log.
    pub(crate) fn log_warnings(&self) {
        for Problem { file, span, message, help, .. } in &self.warnings {
            let (line, column) = file.position(span.start);
            tracing::warn!(file = file.name, line, column, help, "{message}");
        }
    }

    /// What the operator should know about how networks work on this host.
    pub fn remarks(&self) -> BTreeMap<NetworkId, String> {
        let remarks = self.networks.iter();
        remarks.filter_map(|(id, made)| Some((id.clone(), made.value.network.remark()?))).collect()
    }

    /// The supervisors that are nobody's child.
    pub(crate) fn tops(&self) -> impl Iterator<Item = (&EntryId, &Given<SupervisorSpec>)> {
        let children: BTreeSet<_> = self
            .supervisors
            .values()
            .flat_map(|supervisor| supervisor.value.all_children())
            .map(|child| &child.value.process)
            .collect();
        self.supervisors.iter().filter(move |(id, _)| !children.contains(id))
    }

    pub(crate) fn problem<T>(&self, part: &Given<T>, message: impl fmt::Display) -> Problem {
        Problem::new(&self.file, part.span.clone(), message)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Plan").field(&self.counts()).finish()
    }
}

/// The supervisor that a manifest describes.
pub(crate) fn supervisor(spec: &SupervisorSpec) -> Result<Supervisor, SpecError> {
    if let Some(dynamic) = dynamic(spec) {
        return Supervisor::dynamic(dynamic);
    }
    let builder = Supervisor::builder(spec.strategy).restart_policy(restart_policy(spec));
    spec.children.iter().map(|given| child(&given.value)).fold(builder, SupervisorBuilder::child).build()
}

/// What a dynamic supervisor starts, if it is one.
pub(crate) fn dynamic(spec: &SupervisorSpec) -> Option<DynamicSpec> {
    let dynamic = spec.dynamic.as_ref()?;
    let children = DynamicSpec::new(child(&dynamic.template.value)).with_restart_policy(restart_policy(spec));
    Some(match dynamic.max_children {
        Some(max) => children.with_max_children(max),
        None => children,
    })
}

fn restart_policy(spec: &SupervisorSpec) -> RestartPolicy {
    let (restarts, window) = spec.intensity;
    RestartPolicy::default().with_intensity(restarts, window).with_backoff(spec.backoff)
}

/// The child that a manifest describes.
pub(crate) fn child(child: &Child) -> ChildSpec {
    let start = Spawn::new(child.host.clone(), child.process.clone())
        .with_payload(child.payload.clone())
        .with_options(child.options.clone());
    let start = match &child.name {
        Some(name) => start.with_name(name),
        None => start,
    };
    ChildSpec::new(child.id.as_str(), start).with_restart(child.restart).with_shutdown(child.shutdown)
}

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
    pub(crate) fn watch(&self, plan: &Plan) {
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
