//! How hosts are stopped, and all that lives on them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::cell::ProcessCell;
use super::exit::ExitReason;
use super::host::{Host, HostId};
use super::manager::ProcessManager;
use crate::pid::Pid;

/// How long processes that were killed are waited for, if none of them ends in that time. Ending one takes no time unless it
/// blocks its thread.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// The same in steps, each of which begins when the one before was seen to be over. So a pause of the whole program, however
/// long, is one of them.
const LAST_STEPS: u32 = 4;

/// What became of the processes that lived on a host, or on all, when that was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HostStopped {
    /// How many were cancelled.
    pub cancelled: usize,
    /// How many of those did not end in time, and were killed.
    pub killed: usize,
    /// Which of those have not ended yet, because they block their thread.
    pub running: Vec<Pid>,
}

impl ProcessManager {
    /// Stops a host: it admits no more processes, those on it are cancelled, and what has not ended after `grace` is
    /// killed. The id is free again when this is done. None if there is no such host.
    ///
    /// # Panics
    ///
    /// If it is awaited on a runtime without a timer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the host closed, and cancelled what was.
    pub async fn stop_host(&self, id: &HostId, grace: Duration) -> Option<HostStopped> {
        let host = self.host(id)?;
        let stopped = self.stop_hosts(std::slice::from_ref(&host), grace).await;
        self.remove_host(&host);
        Some(stopped)
    }

    /// Stops all hosts, as [`stop_host`](Self::stop_host) does one. Nothing can be registered any more, and what was
    /// registered is dropped: hosts, what can be started, and lifecycle handlers.
    ///
    /// Processes may call functions as they end, so [those](crate::Functions::stop) are stopped behind them.
    ///
    /// # Cancel safety
    ///
    /// As that of [`stop_host`](Self::stop_host).
    pub async fn stop(&self, grace: Duration) -> HostStopped {
        let hosts = self.close();
        let stopped = self.stop_hosts(&hosts, grace).await;
        self.clear();
        stopped
    }

    async fn stop_hosts(&self, hosts: &[Arc<Host>], grace: Duration) -> HostStopped {
        for host in hosts {
            host.close();
        }
        let reason: Arc<str> = "its host is stopping".into();
        let deadline = Instant::now().checked_add(grace);
        let asked = self.living_on(hosts);
        let cancelled = asked.iter().filter(|instance| instance.ask_to_end(&reason, deadline)).count();
        drop(asked);
        let Some(deadline) = deadline else {
            idle(hosts).await;
            return HostStopped { cancelled, ..HostStopped::default() };
        };
        // Whether they ended in time shows in what is left.
        let _ = timeout_at(deadline, idle(hosts)).await;
        let left = self.living_on(hosts);
        // The youngest first, so that each is counted: one that is owned ends with its owner.
        let killed = left.iter().rev().filter(|instance| instance.terminate(ExitReason::HostStopped)).count();
        drop(left);
        let running = self.killed_on(hosts).await.iter().map(|instance| instance.pid).collect();
        HostStopped { cancelled, killed, running }
    }

    /// Waits for processes that were killed as long as there are ever fewer; gives those that are left.
    async fn killed_on(&self, hosts: &[Arc<Host>]) -> Vec<Arc<ProcessCell>> {
        loop {
            let before = self.living_on(hosts);
            for _ in 0..LAST_STEPS {
                if timeout(LAST_WAIT / LAST_STEPS, idle(hosts)).await.is_ok() {
                    return Vec::new();
                }
            }
            let left = self.living_on(hosts);
            if left.len() >= before.len() {
                return left;
            }
        }
    }

    /// The oldest first: who started others, and may start them again, is told that it is to end before they end.
    fn living_on(&self, hosts: &[Arc<Host>]) -> Vec<Arc<ProcessCell>> {
        let lives_there =
            |instance: &Arc<ProcessCell>| hosts.iter().any(|host| Arc::ptr_eq(host, &instance.host));
        let mut living: Vec<_> = self.snapshot().into_iter().filter(lives_there).collect();
        living.sort_unstable_by_key(|instance| instance.pid.number());
        living
    }
}

/// Waits until nothing lives on hosts that are closed.
async fn idle(hosts: &[Arc<Host>]) {
    for host in hosts {
        host.idle().await;
    }
}
