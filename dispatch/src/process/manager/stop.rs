//! How hosts are stopped, with the processes on them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use crate::pid::Pid;
use crate::process::cell::{ProcessCell, ProcessCells};
use crate::process::host::Host;
use crate::process::message::ExitReason;

/// How long terminated processes are waited for if none of them ends in that time. A process ends at once unless it blocks its
/// thread.
const TERMINATED_WAIT: Duration = Duration::from_secs(1);
/// The steps of that wait. Each begins when the end of the one before was observed, so a pause of the whole program, however long,
/// counts as one step.
const TERMINATED_WAIT_STEPS: u32 = 4;

/// The outcome of stopping a host or all hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HostStopped {
    /// The number of processes that were cancelled.
    pub cancelled: usize,
    /// The number of them that did not end in time and were terminated.
    pub killed: usize,
    /// The terminated processes that have not ended, because they block their threads.
    pub running: Vec<Pid>,
}

/// Stops hosts: closes them, cancels their processes, and terminates those that have not ended after `grace`.
pub(super) async fn stop(cells: &ProcessCells, hosts: &[Arc<Host>], grace: Duration) -> HostStopped {
    for host in hosts {
        host.close();
    }
    let reason: Arc<str> = "its host is stopping".into();
    let deadline = Instant::now().checked_add(grace);
    let asked = processes_on(cells, hosts);
    let cancelled = asked.iter().filter(|cell| cell.ask_to_end(&reason, deadline)).count();
    drop(asked);
    let Some(deadline) = deadline else {
        idle(hosts).await;
        return HostStopped { cancelled, ..HostStopped::default() };
    };
    // The processes that are left show whether they ended in time.
    let _ = timeout_at(deadline, idle(hosts)).await;
    let left = processes_on(cells, hosts);
    // The youngest first, so that each is counted: an owned process ends with its owner.
    let killed = left.iter().rev().filter(|cell| cell.terminate(ExitReason::HostStopped)).count();
    drop(left);
    let running = wait_for_terminated(cells, hosts).await.iter().map(|cell| cell.pid).collect();
    HostStopped { cancelled, killed, running }
}

/// Waits for terminated processes as long as their number decreases. Returns those that are left.
async fn wait_for_terminated(cells: &ProcessCells, hosts: &[Arc<Host>]) -> Vec<Arc<ProcessCell>> {
    loop {
        let before = processes_on(cells, hosts);
        for _ in 0..TERMINATED_WAIT_STEPS {
            if timeout(TERMINATED_WAIT / TERMINATED_WAIT_STEPS, idle(hosts)).await.is_ok() {
                return Vec::new();
            }
        }
        let left = processes_on(cells, hosts);
        if left.len() >= before.len() {
            return left;
        }
    }
}

/// Returns the processes on hosts, the oldest first: a process that may spawn others again is asked to end before they are.
fn processes_on(cells: &ProcessCells, hosts: &[Arc<Host>]) -> Vec<Arc<ProcessCell>> {
    let is_there = |cell: &Arc<ProcessCell>| hosts.iter().any(|host| Arc::ptr_eq(host, &cell.host));
    let mut found: Vec<_> = cells.snapshot().into_iter().filter(is_there).collect();
    found.sort_unstable_by_key(|cell| cell.pid.number());
    found
}

/// Waits until no process is on hosts, which are closed.
async fn idle(hosts: &[Arc<Host>]) {
    for host in hosts {
        host.idle().await;
    }
}
