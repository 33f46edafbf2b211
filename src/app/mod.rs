//! An app that runs: made of a manifest, changed into what another says, and stopped.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use frame_runtime::app::RunningApp;
//! use frame_runtime::manifest::Manifest;
//! use tokio::time::Instant;
//!
//! # async fn example(manifest: Manifest, changed: Manifest) -> Result<(), Box<dyn std::error::Error>> {
//! # let wrong = |problems: frame_runtime::manifest::Problems| problems.to_string();
//! let app = RunningApp::boot(manifest).await.map_err(wrong)?;
//! app.supervise().await.map_err(wrong)?;
//!
//! let changes = app.reload(changed, Duration::from_secs(10)).await.map_err(wrong)?;
//! println!("{changes}");
//!
//! let stopped = app.stop(Instant::now() + Duration::from_secs(10)).await;
//! assert!(stopped.is_clean(), "{stopped}");
//! # Ok(())
//! # }
//! ```
//!
//! # Reloading
//!
//! Everything that a manifest says is compiled and made first, and what has not changed is taken over. If anything is wrong
//! nothing changes. Then the new is put in place, networks and functions first, in one step each that leaves no gap; a
//! function that is replaced finishes the calls that it has begun. Then the processes that are supervised, and are now
//! something else, are restarted, each in the way that its supervisor shuts it down. What the manifest does not name any
//! more is removed last. A function or a process that is [quarantined](Quarantines) is compiled anew, even if nothing of
//! it has changed. Children of a dynamic supervisor are restarted without being waited for, and temporary ones not at all. Where a process does not start as what it is now, everything is put back.
//!
//! Where that fails as well, because another process has taken a name for example, the app is [degraded](Degraded). It is put
//! back later, after longer and longer delays, and is [down](RunningApp::down) if that has failed too often. A reload or a
//! stop in the meantime comes before that.
//!
//! What stays as it is while an app runs: its name, and what its frames and modules were given once, which is `[clearnet]`,
//! `[limits]`, `[fs]`, `[audit]`, `[telemetry]` and `[wasm]`; and hosts, which can be added and removed.

mod base;
mod check;
mod compile;
mod engines;
mod live;
mod plan;
mod regroup;
mod reload;
mod secrets;
mod supervise;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::pending;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use frame_dispatch::process::{EntryId, ProcessManager};
use frame_dispatch::{CallContext, Functions};
use frame_net::NetworkRegistry;
use frame_registry::Options;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use self::check::Purpose;
use self::compile::compile;
pub use self::live::Stopped;
use self::live::{Core, Live};
pub use self::plan::{Counts, Plan, Quarantined, Quarantines};
use self::reload::NotReloaded;
pub use self::reload::{Changed, Changes};
pub(crate) use self::supervise::Health;
use self::supervise::{ATTEMPTS, BACKOFF};
pub use self::supervise::{AppDown, Degraded, SupervisorDown};
use crate::manifest::{Manifest, Problem, Problems};
use crate::report;

/// How long the last records may take to be written to the audit log.
const AUDIT_FLUSHED: Duration = Duration::from_secs(5);

/// Everything that a manifest describes, in place. Cloning it is one reference count.
#[derive(Clone)]
pub struct RunningApp {
    inner: Arc<Inner>,
}

struct Inner {
    core: Core,
    state: Mutex<AppState>,
    /// Puts the app back after a reload that failed. Outside of the state, so that it does not hold up who ends it.
    restoring: std::sync::Mutex<Option<AbortHandle>>,
}

struct AppState {
    manifest: Manifest,
    plan: Plan,
    live: Live,
    is_stopped: bool,
}

/// Compiles and makes everything that a manifest says, and runs nothing of it. No VM is kept ready for calls.
///
/// Networks are made as they would be for the app, with the sockets that they begin with.
///
/// # Errors
///
/// All that is wrong: sources that do not compile, options that a resolver refuses, networks that cannot be made,
/// processes that do not run where they are to live.
pub async fn check(manifest: &Manifest) -> Result<Plan, Problems> {
    // Nothing is attempted, so nothing is recorded.
    let core = Core::new(manifest, None).map_err(one)?;
    compile(manifest, &core.networks, &core.engines, None, Purpose::Check).await
}

impl RunningApp {
    /// Compiles and makes everything that a manifest says, and puts it in place, so that functions can be called and processes
    /// started. No process runs before [`supervise`](Self::supervise).
    ///
    /// # Errors
    ///
    /// As [`check`], and what is refused as it is put in place.
    ///
    /// # Panics
    ///
    /// Where there is no runtime of tokio with time and I/O, as everything here.
    pub async fn boot(manifest: Manifest) -> Result<Self, Problems> {
        let audit = base::audit_log(&manifest).map_err(one)?;
        let core = Core::new(&manifest, audit).map_err(one)?;
        let plan = compile(&manifest, &core.networks, &core.engines, None, Purpose::Run).await?;
        let mut live = Live::default();
        live.apply(&core, &plan).map_err(one)?;
        plan.log_warnings();
        let state = Mutex::new(AppState { manifest, plan, live, is_stopped: false });
        Ok(Self { inner: Arc::new(Inner { core, state, restoring: std::sync::Mutex::default() }) })
    }

    /// Starts the supervisors that are nobody's child, and waits until each has started its children.
    ///
    /// # Errors
    ///
    /// The first that does not start. Those before it run.
    pub async fn supervise(&self) -> Result<(), Problems> {
        let mut state = self.inner.state.lock().await;
        let AppState { plan, live, .. } = &mut *state;
        live.is_supervised = true;
        for top in plan.tops() {
            if !live.tops.contains_key(top.0) {
                supervise::start(&self.inner.core, live, plan, top).await.map_err(one)?;
            }
        }
        Ok(())
    }

    /// Makes the app what another manifest says, as [the module](self) describes. What has to end for that, such as the
    /// supervisors that are restarted, has `grace` to do so.
    ///
    /// # Errors
    ///
    /// All that is wrong with the manifest; what cannot change while the app runs; and a process that does not start as what
    /// it is now. The app is then what it was before, unless it is [degraded](Self::degraded).
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped the app is something between the two: it can be reloaded again, or stopped.
    pub async fn reload(&self, manifest: Manifest, grace: Duration) -> Result<Changes, Problems> {
        let changes = self.reload_unless(manifest, grace, pending()).await?;
        Ok(changes.unwrap_or_default())
    }

    /// The same, unless `superseded` is done before everything is compiled. The app is then as it was, and this returns `None`.
    /// What is being compiled is compiled to its end, for nothing but the cache.
    pub(crate) async fn reload_unless(
        &self,
        manifest: Manifest,
        grace: Duration,
        superseded: impl Future<Output = ()>,
    ) -> Result<Option<Changes>, Problems> {
        self.restore_no_more();
        let mut state = self.inner.state.lock().await;
        let AppState { manifest: before, plan, live, is_stopped } = &mut *state;
        if *is_stopped {
            return Err(one(Problem::new(&manifest.file, 0..0, "the app has stopped")));
        }
        let core = &self.inner.core;
        match reload::reload(core, live, (before, plan), &manifest, grace, superseded).await {
            Ok(None) => {
                core.engines.compilers.abandon();
                if core.degraded.borrow().is_some() {
                    self.restore_later(grace);
                }
                Ok(None)
            }
            Ok(Some((new, changes))) => {
                core.degraded.send_replace(None);
                new.log_warnings();
                state.plan = new;
                state.manifest = manifest;
                Ok(Some(changes))
            }
            Err(NotReloaded { problems, not_restored }) => {
                if let Some(problem) = not_restored {
                    state.degrade(core, &problem, 1);
                    self.restore_later(grace);
                } else if core.degraded.borrow().is_some() {
                    // What was wrong with the manifest was seen before anything changed.
                    self.restore_later(grace);
                }
                Err(problems)
            }
        }
    }

    /// Puts the app back until that succeeds or was tried too often.
    fn restore_later(&self, grace: Duration) {
        let restoring = tokio::spawn(restore(Arc::downgrade(&self.inner), grace)).abort_handle();
        let earlier = self.restoring().replace(restoring);
        if let Some(earlier) = earlier {
            earlier.abort();
        }
    }

    fn restore_no_more(&self) {
        if let Some(restoring) = self.restoring().take() {
            restoring.abort();
        }
    }

    fn restoring(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.inner.restoring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the app is not what its manifest says, if so.
    pub fn degraded(&self) -> Option<Arc<Degraded>> {
        self.inner.core.degraded.borrow().clone()
    }

    /// The same, with each change.
    pub(crate) fn health(&self) -> Health {
        self.inner.core.degraded.subscribe()
    }

    /// Stops everything: supervisors, each with its children, the last first; then what else lives on the hosts; then calls
    /// of functions; then networks. All of them together have until `deadline`; what has not ended then is killed.
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped some of it is stopped.
    pub async fn stop(&self, deadline: Instant) -> Stopped {
        self.restore_no_more();
        let mut state = self.inner.state.lock().await;
        state.is_stopped = true;
        let stopped = live::stop_all(&self.inner.core, &mut state.live, deadline).await;
        state.plan.networks.clear();
        if let Some(audit) = &self.inner.core.audit {
            audit.finish(AUDIT_FLUSHED).await;
        }
        stopped
    }

    /// Opens the audit log anew if it was moved away, such as by logrotate. The next record would
    /// do that, too.
    pub fn reopen_audit_log(&self) {
        if let Some(audit) = &self.inner.core.audit {
            audit.reopen();
        }
    }

    /// Waits until the app cannot go on: a supervisor at the top has ended though nothing stopped it, or the app could not be put
    /// back after a reload that failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn down(&self) -> Arc<AppDown> {
        let mut down = self.inner.core.down.subscribe();
        let first = down.wait_for(Option::is_some).await.ok().and_then(|first| first.clone());
        match first {
            Some(first) => first,
            // The other side is here.
            None => pending().await,
        }
    }

    /// What is called and started with this inherits what the app's default options decide, as they are now.
    pub fn root(&self) -> CallContext {
        self.inner.core.root()
    }

    /// The functions of the app.
    pub fn functions(&self) -> &Functions {
        &self.inner.core.functions
    }

    /// The processes of the app.
    pub fn processes(&self) -> &ProcessManager {
        &self.inner.core.processes
    }

    /// The overlay networks of the app.
    pub fn networks(&self) -> &NetworkRegistry {
        &self.inner.core.networks
    }

    /// The functions and processes of the app that are quarantined.
    pub fn quarantines(&self) -> Quarantines {
        self.inner.core.quarantines.clone()
    }

    /// The default options of the app: what [`Explain`](crate::explain::Explain) knows them by.
    pub async fn default_options(&self) -> Options {
        self.inner.state.lock().await.plan.all_defaults.clone()
    }

    /// How much there is of everything.
    pub async fn counts(&self) -> Counts {
        self.inner.state.lock().await.plan.counts()
    }
}

impl fmt::Debug for RunningApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningApp")
            .field("functions", self.functions())
            .field("processes", self.processes())
            .field("networks", self.networks())
            .finish()
    }
}

impl AppState {
    /// The app is not what the plan says, since the `attempts`-th time that it was to be put back.
    fn degrade(&self, core: &Core, problem: &Problem, attempts: u32) {
        let is_down = |id: &&EntryId| self.live.is_supervised && !self.live.tops.contains_key(*id);
        let supervisors = self.plan.tops().map(|(id, _)| id).filter(is_down).cloned().collect();
        let reason = problem.message.clone();
        core.degraded.send_replace(Some(Arc::new(Degraded { supervisors, reason, attempts })));
    }
}

/// Puts an app back, later and later, until it is what its plan says or that was tried too often.
async fn restore(app: Weak<Inner>, grace: Duration) {
    for attempts in 2..=ATTEMPTS {
        sleep(BACKOFF.delay(attempts - 1, 0.0)).await;
        let Some(app) = app.upgrade() else { return };
        let mut state = app.state.lock().await;
        let AppState { plan, live, is_stopped, .. } = &mut *state;
        if *is_stopped {
            return;
        }
        let Err(problem) = reload::restore(&app.core, live, plan, grace).await else {
            app.core.degraded.send_replace(None);
            tracing::info!(attempts, "the app is what it was before the reload that failed");
            return;
        };
        tracing::warn!(attempts, "the app was not put back: {}", report::one_line(&problem.message));
        state.degrade(&app.core, &problem, attempts);
        if attempts == ATTEMPTS {
            let reason = problem.message;
            supervise::report_down(&app.core.down, AppDown::NotRestored { reason, attempts });
        }
    }
}

fn one(problem: Problem) -> Problems {
    problem.into()
}
