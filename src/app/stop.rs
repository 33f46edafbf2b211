//! Stopping an app.

use std::fmt;

use frame_dispatch::process::{EntryId, HostStopped};
use tokio::time::Instant;

use super::live::{Core, Live};
use super::supervise;

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

pub(super) async fn stop(core: &Core, live: &mut Live, deadline: Instant) -> Stopped {
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
