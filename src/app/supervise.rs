//! The supervisors at the top: starting them, watching them, stopping them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use frame_dispatch::Pid;
use frame_dispatch::process::supervisor::Backoff;
use frame_dispatch::process::{EntryId, ExitReason, ProcessManager, Spawn};
use tokio::sync::watch;
use tokio::time::timeout;

use super::live::{Core, Family, Live};
use super::plan::Plan;
use crate::manifest::{Child, Given, Problem, SupervisorSpec};
use crate::report;

/// How much longer than its grace period the end of a process is waited for. It is killed then, which takes no time unless
/// it blocks its thread.
pub(crate) const KILLED_WAIT: Duration = Duration::from_secs(6);
/// The same in steps, each of which begins when the one before was seen to be over. So a pause of the whole program, however
/// long, is one of them.
const KILLED_STEPS: u32 = 6;

/// A supervisor that is nobody's child has ended, though nobody stopped it: nothing starts again what it was there for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the supervisor `{supervisor}` ended, and nobody starts it again: {reason}")]
#[non_exhaustive]
pub struct SupervisorDown {
    /// The supervisor.
    pub supervisor: EntryId,
    /// How it ended.
    pub reason: ExitReason,
}

/// Reports that an app is down. The first reason counts.
pub(crate) fn report_down(to: &watch::Sender<Option<Arc<AppDown>>>, down: AppDown) {
    to.send_if_modified(|first| {
        let is_first = first.is_none();
        if is_first {
            *first = Some(Arc::new(down));
        }
        is_first
    });
}

/// A supervisor that was started.
pub(crate) struct Top {
    pid: Pid,
    exit: watch::Receiver<Option<ExitReason>>,
    /// Whether its end is nothing to tell anyone of.
    is_expected: Arc<AtomicBool>,
}

/// Starts a supervisor, and waits until it has started its children.
///
/// # Errors
///
/// Why it, or one of its children, does not start.
pub(crate) async fn start(
    core: &Core,
    live: &mut Live,
    plan: &Plan,
    (id, given): (&EntryId, &Given<SupervisorSpec>),
) -> Result<(), Problem> {
    let not_started =
        |why: String| plan.problem(given, format_args!("the supervisor `{id}` was not started: {why}"));
    let handle = live.supervisors.get(id).and_then(Family::next_handle);
    let handle = handle.ok_or_else(|| not_started("it is not registered".to_owned()))?;
    let start = Spawn::new(given.value.host.clone(), id.clone());
    let pid =
        core.processes.spawn(&core.root(), start).map_err(|error| not_started(report::chain(&error)))?;
    let starting = Starting(Some((&core.processes, pid)));
    let monitor = core.processes.monitor(pid).map_err(|error| not_started(report::chain(&error)))?;

    let (sender, exit) = watch::channel(None);
    let is_expected = Arc::new(AtomicBool::new(true));
    let mut ended = exit.clone();
    let watched = Watched { id: id.clone(), is_expected: Arc::clone(&is_expected), down: core.down.clone() };
    tokio::spawn(async move {
        let exit = monitor.await;
        sender.send_replace(Some(exit.reason.clone()));
        watched.ended(exit.reason);
    });
    let of_this = handle.of(pid);
    tokio::select! {
        biased;
        _ = of_this.ready() => (),
        reason = exit_of(&mut ended) => return Err(not_started(reason.to_string())),
    }
    is_expected.store(false, Ordering::SeqCst);
    // Where it ended in the meantime, nobody was told.
    if let Some(reason) = &*exit.borrow() {
        return Err(not_started(reason.to_string()));
    }
    starting.done();
    live.tops.insert(id.clone(), Top { pid, exit, is_expected });
    mark_running(live, plan, id);
    Ok(())
}

/// A supervisor that is being started. Dropping it ends that: no reload would find the supervisor, nor stop it.
struct Starting<'a>(Option<(&'a ProcessManager, Pid)>);

impl Starting<'_> {
    /// The supervisor runs.
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if let Some((processes, pid)) = self.0 {
            // It may have ended.
            let _ = processes.terminate(pid);
        }
    }
}

/// A supervisor runs as the plan says, and all below it.
fn mark_running(live: &mut Live, plan: &Plan, id: &EntryId) {
    let Some(given) = plan.supervisors.get(id) else { return };
    if let Some(family) = live.supervisors.get_mut(id) {
        family.running = Some(given.value.clone());
    }
    for child in given.value.all_children() {
        mark_started(live, plan, id, &child.value);
    }
}

/// A child was started as what the plan says.
pub(crate) fn mark_started(live: &mut Live, plan: &Plan, supervisor: &EntryId, child: &Child) {
    if let Some(process) = plan.processes.get(&child.process) {
        live.started_as.insert((supervisor.clone(), child.id.clone()), process.identity.clone());
    }
    mark_running(live, plan, &child.process);
}

/// Stops supervisors at the same time, each of which stops its children, the last first. Gives those that did not end within
/// `grace`, and were killed with all that they supervise.
pub(crate) async fn stop(
    core: &Core,
    live: &mut Live,
    ids: impl IntoIterator<Item = EntryId>,
    reason: &str,
    grace: Duration,
) -> Vec<EntryId> {
    let tops: Vec<_> = ids.into_iter().filter_map(|id| live.tops.remove(&id).map(|top| (id, top))).collect();
    for (_, top) in &tops {
        top.is_expected.store(true, Ordering::SeqCst);
        // It may have ended, which its exit tells.
        let _ = core.processes.cancel(top.pid, reason, grace);
    }
    let mut killed = Vec::new();
    for (id, mut top) in tops {
        let ended = ended_within(&mut top.exit, grace).await;
        if matches!(ended, None | Some(ExitReason::Killed | ExitReason::HostStopped)) {
            killed.push(id);
        }
    }
    killed
}

/// Waits for the end of a process that has `grace` to end and is killed then; none if it does not end for all that.
async fn ended_within(exit: &mut watch::Receiver<Option<ExitReason>>, grace: Duration) -> Option<ExitReason> {
    if let Ok(reason) = timeout(grace, exit_of(exit)).await {
        return Some(reason);
    }
    for _ in 0..KILLED_STEPS {
        if let Ok(reason) = timeout(KILLED_WAIT / KILLED_STEPS, exit_of(exit)).await {
            return Some(reason);
        }
    }
    None
}

async fn exit_of(exit: &mut watch::Receiver<Option<ExitReason>>) -> ExitReason {
    let ended = exit.wait_for(Option::is_some).await.ok();
    // The other side is dropped only behind what it sends, or with the runtime.
    ended.and_then(|reason| reason.clone()).unwrap_or(ExitReason::HostStopped)
}

/// Who is told of an end that nobody expects.
struct Watched {
    id: EntryId,
    is_expected: Arc<AtomicBool>,
    down: watch::Sender<Option<Arc<AppDown>>>,
}

impl Watched {
    fn ended(self, reason: ExitReason) {
        if self.is_expected.load(Ordering::SeqCst) {
            return;
        }
        report_down(&self.down, SupervisorDown { supervisor: self.id, reason }.into());
    }
}

/// How often it is tried to put an app back, the time that is part of the reload included. The delays in between add up to about
/// 20 seconds, for which a service manager waits for a reload.
pub(crate) const ATTEMPTS: u32 = 10;

/// How long to wait before each time.
pub(crate) const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5)).with_jitter(0.0);

/// An app is not what its manifest says: a reload failed, and so did putting back what was before. That is tried again, with
/// longer and longer delays.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.shown())]
#[non_exhaustive]
pub struct Degraded {
    /// The supervisors that do not run, though nothing above them starts them.
    pub supervisors: Vec<EntryId>,
    /// Why the app was not put back the last time.
    pub reason: String,
    /// How often that was tried.
    pub attempts: u32,
}

impl Degraded {
    fn shown(&self) -> String {
        let Self { supervisors, reason, attempts } = self;
        let lacks = match supervisors.as_slice() {
            [] => "the app is not what its manifest says".to_owned(),
            ids => {
                let ids: Vec<_> = ids.iter().map(|id| format!("`{id}`")).collect();
                format!("without {}", ids.join(", "))
            }
        };
        format!(
            "{lacks} since a reload that failed and was not undone, attempt {attempts} of {ATTEMPTS}: {reason}"
        )
    }
}

/// Nothing starts again what an app is there for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppDown {
    /// A supervisor at the top ended.
    #[error(transparent)]
    Supervisor(#[from] SupervisorDown),
    /// The app was not put back after a reload that failed.
    #[error("the app was not put back after a reload that failed, in {attempts} attempts: {reason}")]
    NotRestored {
        /// Why not, the last time.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
}

/// Whether an app is degraded, with each change.
pub(crate) type Health = watch::Receiver<Option<Arc<Degraded>>>;
