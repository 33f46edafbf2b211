//! What of an app is in place, and putting a plan in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use frame_dispatch::process::supervisor::SupervisorHandle;
use frame_dispatch::process::{
    EntryId, HostId, HostStopped, IntoProcess, Process, ProcessManager, RegisterError,
};
use frame_dispatch::{CallContext, FunctionId, Functions, IntoFunction as _, Retired};
use frame_net::http::HttpClient;
use frame_net::secrets::SecretStore;
use frame_net::{NetworkChanges, NetworkId, NetworkRegistry};
use frame_registry::{BoxError, Frame, FrameBuilder, Options};
use serde_json::Value as Json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::base;
use super::engines::Engines;
use super::plan::{self, Plan, Quarantines, Unit};
use super::supervise::{self, AppDown, Degraded, Top};
use crate::audit::AuditLog;
use crate::manifest::{Given, Manifest, Problem, SupervisorSpec};
use crate::report;
use crate::telemetry::traced;

/// How long the calls of a function that is no more are waited for before somebody is told.
const DRAINED_WITHIN: Duration = Duration::from_mins(1);

/// What the parts of an app are put into.
pub(crate) struct Core {
    pub(crate) networks: NetworkRegistry,
    secrets: SecretStore,
    pub(crate) functions: Functions,
    pub(crate) processes: ProcessManager,
    pub(crate) engines: Arc<Engines>,
    pub(crate) quarantines: Quarantines,
    pub(crate) audit: Option<AuditLog>,
    root: ArcSwap<Frame>,
    /// The first reason for which the app cannot go on.
    pub(crate) down: watch::Sender<Option<Arc<AppDown>>>,
    /// Set while the app is not what its manifest says.
    pub(crate) degraded: watch::Sender<Option<Arc<Degraded>>>,
}

/// A client as `[http]` says.
pub(crate) fn http_client(manifest: &Manifest) -> Result<HttpClient, Problem> {
    HttpClient::new(manifest.http.clone()).map_err(|error| {
        let setting = error.setting().unwrap_or_default();
        Problem::new(&manifest.file, manifest.http_places.value(&setting), report::chain(&error))
    })
}

impl Core {
    /// Nothing runs yet, and nothing can be called. What will be attempted is recorded by `audit`.
    pub(crate) fn new(manifest: &Manifest, audit: Option<AuditLog>) -> Result<Self, Problem> {
        let secrets = SecretStore::default();
        let (app, networks) = base::of(manifest, secrets.clone(), audit.as_ref())?;
        let functions = Functions::with_config(app, manifest.app.functions);
        let processes = ProcessManager::new(functions.clone());
        let engines =
            Engines::new(manifest, &processes, http_client(manifest)?).map_err(|error: BoxError| {
                let why = format!("the engines of the app were not made: {}", report::chain(&*error));
                Problem::new(&manifest.file, 0..0, why)
            })?;
        Ok(Self {
            networks,
            secrets,
            functions,
            processes,
            engines: Arc::new(engines),
            quarantines: Quarantines::default(),
            audit,
            root: ArcSwap::from_pointee(FrameBuilder::new().seal()),
            down: watch::Sender::new(None),
            degraded: watch::Sender::new(None),
        })
    }

    /// What everything is started from: the frame that the default options of the app make.
    pub(crate) fn root(&self) -> CallContext {
        self.functions.root_in(Frame::clone(&self.root.load()))
    }
}

/// What is in place of each kind, by what it is.
#[derive(Default)]
pub(crate) struct Live {
    networks: BTreeMap<NetworkId, Json>,
    hosts: BTreeSet<HostId>,
    functions: BTreeMap<FunctionId, Json>,
    processes: BTreeMap<EntryId, Json>,
    root: Option<Json>,
    pub(crate) supervisors: BTreeMap<EntryId, Family>,
    /// What the children of supervisors were started as, by supervisor and child.
    pub(crate) started_as: BTreeMap<(EntryId, String), Json>,
    /// The supervisors that were started here, and not by others.
    pub(crate) tops: BTreeMap<EntryId, Top>,
    /// Whether supervisors are to run at all.
    pub(crate) is_supervised: bool,
}

/// A supervisor, as it is registered and as it runs.
#[derive(Default)]
pub(crate) struct Family {
    registered: Json,
    /// Those of what is registered, which is the last, and of what was before: that may still run.
    handles: Vec<SupervisorHandle>,
    /// What the one that runs was made of, and made to be since; none where none was started.
    pub(crate) running: Option<SupervisorSpec>,
}

impl Family {
    /// That of the one that runs.
    pub(crate) fn handle(&self) -> Option<SupervisorHandle> {
        self.handles.iter().rev().find(|handle| !handle.running().is_empty()).cloned()
    }

    /// That of the one that is started next.
    pub(crate) fn next_handle(&self) -> Option<SupervisorHandle> {
        self.handles.last().cloned()
    }
}

impl Live {
    /// Registers everything of the plan that is not registered yet. What runs goes on unchanged, and what is not in the plan
    /// stays. Returns whether the root frame is another one, from which everything that is started later inherits.
    ///
    /// # Errors
    ///
    /// The first part that is refused. Parts before it stay registered; applying the earlier plan again undoes that.
    pub(crate) fn apply(&mut self, core: &Core, plan: &Plan) -> Result<bool, Problem> {
        core.secrets.replace(plan.secrets.clone());
        self.apply_networks(core, plan)?;
        for (id, host) in plan.hosts.iter().filter(|(id, _)| !self.hosts.contains(id)).collect::<Vec<_>>() {
            core.processes
                .register_host(id.clone(), host.value.clone())
                .map_err(|error| plan.problem(host, error))?;
            self.hosts.insert(id.clone());
        }
        self.apply_functions(core, plan)?;
        self.apply_processes(core, plan)?;
        core.quarantines.watch(plan);
        self.apply_supervisors(core, plan)?;
        if self.root.as_ref() == Some(&plan.defaults.identity) {
            return Ok(false);
        }
        let root = base::resolve(core.functions.app(), None, &plan.defaults.value);
        core.root.store(Arc::new(root.map_err(|why| plan.problem(&plan.defaults, why))?));
        Ok(self.root.replace(plan.defaults.identity.clone()).is_some())
    }

    fn apply_networks(&mut self, core: &Core, plan: &Plan) -> Result<(), Problem> {
        let new = differing(&self.networks, &plan.networks);
        let mut changes = NetworkChanges::default();
        for (id, made) in &new {
            changes.insert((*id).clone(), Arc::clone(&made.value.network), made.value.is_selectable);
        }
        core.networks.apply(changes).map_err(|error| {
            // There is at least one, or nothing could be wrong.
            let span = new.first().map(|(_, made)| made.span.clone()).unwrap_or_default();
            Problem::new(&plan.file, span, report::chain(&error))
        })?;
        for (id, made) in new {
            if let Some(remark) = made.value.network.remark() {
                if made.value.network.is_degraded() {
                    tracing::warn!(network = %id, "{remark}");
                } else {
                    tracing::info!(network = %id, "{remark}");
                }
            }
            self.networks.insert(id.clone(), made.identity.clone());
        }
        Ok(())
    }

    fn apply_functions(&mut self, core: &Core, plan: &Plan) -> Result<(), Problem> {
        let new = differing(&self.functions, &plan.functions);
        let Some((_, first)) = new.first() else { return Ok(()) };
        let functions = new.iter().map(|(id, function)| {
            let Unit { options, code, .. } = function.value.clone();
            ((*id).clone(), options, traced(id, code).into_function())
        });
        let replaced = core.functions.apply(functions).map_err(|error| plan.problem(first, error))?;
        for (id, retired) in replaced {
            drain(&id, retired);
        }
        let live = new.into_iter().map(|(id, function)| (id.clone(), function.identity.clone()));
        self.functions.extend(live);
        Ok(())
    }

    fn apply_processes(&mut self, core: &Core, plan: &Plan) -> Result<(), Problem> {
        let new = differing(&self.processes, &plan.processes);
        let Some((_, first)) = new.first() else { return Ok(()) };
        let processes = new.iter().map(|(id, process)| {
            let Unit { options, code, .. } = process.value.clone();
            ((*id).clone(), options, traced(id, code).into_process())
        });
        core.processes.apply(processes).map_err(|error| plan.problem(first, error))?;
        let live = new.into_iter().map(|(id, process)| (id.clone(), process.identity.clone()));
        self.processes.extend(live);
        Ok(())
    }

    fn apply_supervisors(&mut self, core: &Core, plan: &Plan) -> Result<(), Problem> {
        for (id, given) in &plan.supervisors {
            if self.supervisors.get(id).is_some_and(|family| family.registered == given.identity) {
                continue;
            }
            let supervisor = plan::supervisor(&given.value).map_err(|error| plan.problem(given, error))?;
            let handle = supervisor.handle();
            self.apply_entry(core, id, Options::new(), supervisor)
                .map_err(|error| plan.problem(given, error))?;
            let family = self.supervisors.entry(id.clone()).or_default();
            family.handles.retain(|handle| !handle.running().is_empty());
            family.handles.push(handle);
            family.registered = given.identity.clone();
        }
        Ok(())
    }

    /// Registers a process or a supervisor, also where a supervisor becomes a process or the other way round.
    fn apply_entry<M>(
        &self,
        core: &Core,
        id: &EntryId,
        options: Options,
        process: impl IntoProcess<M, Process: Process>,
    ) -> Result<(), RegisterError> {
        if self.processes.contains_key(id) || self.supervisors.contains_key(id) {
            core.processes.replace(id.clone(), options, process)
        } else {
            core.processes.register(id.clone(), options, process)
        }
    }

    /// Removes what is not in the plan. What others rely on is removed last.
    pub(crate) async fn remove_retired(&mut self, core: &Core, plan: &Plan, grace: Duration) {
        for id in take_unplanned(&mut self.functions, |id| plan.functions.contains_key(id)) {
            if let Some(retired) = core.functions.unregister(&id) {
                drain(&id, retired);
            }
        }
        let retired = take_unplanned(&mut self.processes, |id| plan.processes.contains_key(id));
        let supervisors = take_unplanned(&mut self.supervisors, |id| plan.supervisors.contains_key(id));
        for id in retired.into_iter().chain(supervisors) {
            if !plan.processes.contains_key(&id) && !plan.supervisors.contains_key(&id) {
                core.processes.unregister(&id);
            }
        }
        let hosts: Vec<_> = self.hosts.iter().filter(|id| !plan.hosts.contains_key(id)).cloned().collect();
        for id in hosts {
            if let Some(stopped) = core.processes.stop_host(&id, grace).await {
                tracing::info!(host = %id, ?stopped, "a host was removed");
            }
            self.hosts.remove(&id);
        }
        for id in take_unplanned(&mut self.networks, |id| plan.networks.contains_key(id)) {
            core.networks.unregister(&id);
        }
    }

    /// Unregisters all networks, at the end.
    fn close_networks(&mut self, core: &Core) {
        for id in take_unplanned(&mut self.networks, |_| false) {
            core.networks.unregister(&id);
        }
    }
}

/// What of a plan is not in place as it is.
fn differing<'a, K: Ord, T>(
    live: &BTreeMap<K, Json>,
    plan: &'a BTreeMap<K, Given<T>>,
) -> Vec<(&'a K, &'a Given<T>)> {
    plan.iter().filter(|(id, given)| live.get(id) != Some(&given.identity)).collect()
}

fn take_unplanned<K: Ord + Clone, V>(live: &mut BTreeMap<K, V>, is_planned: impl Fn(&K) -> bool) -> Vec<K> {
    let unplanned: Vec<_> = live.keys().filter(|id| !is_planned(id)).cloned().collect();
    for id in &unplanned {
        live.remove(id);
    }
    unplanned
}

/// Waits, in the background, for the calls that a function has begun.
fn drain(id: &impl Display, retired: Retired) {
    let function = id.to_string();
    tokio::spawn(async move {
        if timeout(DRAINED_WITHIN, retired.drained()).await.is_ok() {
            tracing::info!(function, "the old version is done");
        } else {
            tracing::warn!(function, after = ?DRAINED_WITHIN, "the old version still runs calls");
        }
    });
}

/// What became of what ran when the app was stopped.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stopped {
    /// The supervisors that did not end in time, and were killed with all that they supervised.
    pub supervisors: Vec<EntryId>,
    /// The processes that lived after that.
    pub processes: HostStopped,
    /// The calls of functions.
    pub functions: frame_dispatch::Stopped,
}

impl Stopped {
    /// Whether all ended by itself in time.
    pub fn is_clean(&self) -> bool {
        self.supervisors.is_empty() && self.processes.killed == 0 && self.functions.cancelled == 0
    }

    /// Whether something goes on, because it blocks its thread.
    pub fn is_blocked(&self) -> bool {
        !self.processes.running.is_empty() || self.functions.running > 0
    }
}

/// Stops everything that runs, in the reverse order of its start.
pub(crate) async fn stop_all(core: &Core, live: &mut Live, deadline: Instant) -> Stopped {
    let left = || deadline.saturating_duration_since(Instant::now());
    let tops: Vec<_> = live.tops.keys().cloned().collect();
    let supervisors = supervise::stop(core, live, tops, "the app is stopping", left()).await;
    let processes = core.processes.stop(left()).await;
    let functions = core.functions.stop(deadline).await;
    live.close_networks(core);
    Stopped { supervisors, processes, functions }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("all ended in time");
        }
        let mut said = Vec::new();
        if !self.supervisors.is_empty() {
            let ids: Vec<_> = self.supervisors.iter().map(ToString::to_string).collect();
            said.push(format!("killed with all that they supervise: {}", ids.join(", ")));
        }
        if self.processes.killed > 0 {
            said.push(format!("{} other processes killed", self.processes.killed));
        }
        if self.functions.cancelled > 0 {
            said.push(match self.functions.cancelled {
                1 => "1 call cancelled".to_owned(),
                count => format!("{count} calls cancelled"),
            });
        }
        let running = self.processes.running.len().saturating_add(self.functions.running);
        if running > 0 {
            said.push(format!("{running} of them block their threads, and go on"));
        }
        f.write_str(&said.join("; "))
    }
}
