//! What supervisors tell of their children.

use std::collections::HashMap;
use std::time::Duration;

use frame_dispatch::Pid;
use frame_dispatch::process::supervisor::ChildInfo;
use frame_dispatch::process::{ProcessInfo, ProcessManager};
use frame_registry::text::shorten;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// How long supervisors have to answer. One that does not is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many bytes of a reason are told.
const LONGEST_REASON: usize = 256;

/// A child of a supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Supervised {
    /// The id of the supervisor.
    pub(crate) supervisor: String,
    /// The id of the child in the supervisor.
    pub(crate) id: String,
    /// `permanent`, `transient` or `temporary`.
    pub(crate) restart: String,
    /// `running`, `stopping`, `waiting`, `done` or `quarantined`.
    pub(crate) state: String,
    /// How often it was started again.
    pub(crate) restarts: u64,
    /// How it ended the last time.
    pub(crate) last_exit: Option<LastExit>,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastExit {
    /// A word: that of an exit, `not_started` or `blocked`.
    pub(crate) reason: String,
    /// The same in a sentence, of which a long one is cut.
    pub(crate) message: String,
    /// How long ago, in seconds.
    pub(crate) ago: f64,
}

impl Supervised {
    fn new(supervisor: &str, child: ChildInfo) -> Self {
        let last_exit = child.last.map(|last| {
            let message = shorten(&last.to_string(), LONGEST_REASON).into_owned();
            LastExit { reason: last.reason.as_str().to_owned(), message, ago: last.ago.as_secs_f64() }
        });
        Self {
            supervisor: supervisor.to_owned(),
            id: child.id,
            restart: child.restart.to_string(),
            state: child.state.to_string(),
            restarts: child.restarts,
            last_exit,
        }
    }
}

/// The children of all supervisors that run.
#[derive(Default)]
pub(crate) struct Family {
    running: HashMap<Pid, Supervised>,
    /// Those without a process.
    pub(crate) down: Vec<Supervised>,
}

impl Family {
    /// Asks all supervisors at the same time.
    pub(crate) async fn of(processes: &ProcessManager) -> Self {
        let mut asked = JoinSet::new();
        for (id, handle) in processes.supervisors() {
            for pid in handle.running() {
                let (id, handle) = (id.to_string(), handle.of(pid));
                asked.spawn(async move { (id, pid, handle.children().await) });
            }
        }
        let until = Instant::now() + PATIENCE;
        let mut told = Vec::new();
        while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
            // One that ends meanwhile has no children any more.
            if let Ok((id, pid, Ok(children))) = answer {
                told.push((pid, id, children));
            }
        }
        told.sort_unstable_by_key(|(pid, ..)| pid.number());
        let mut family = Self::default();
        for (_, id, children) in told {
            for child in children {
                match child.pid {
                    Some(pid) => _ = family.running.insert(pid, Supervised::new(&id, child)),
                    None => family.down.push(Supervised::new(&id, child)),
                }
            }
        }
        family
    }

    /// A process as it is told of.
    pub(crate) fn member<'a>(&'a self, process: &'a ProcessInfo) -> Member<'a> {
        Member { process, supervised: self.running.get(&process.pid) }
    }
}

/// A process, with what its supervisor tells of it if it has one.
#[derive(Serialize)]
pub(crate) struct Member<'a> {
    #[serde(flatten)]
    process: &'a ProcessInfo,
    supervised: Option<&'a Supervised>,
}
