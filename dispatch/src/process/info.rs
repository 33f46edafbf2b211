//! Information about processes, as data and as a table.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::cell::ProcessCell;
use super::cell::monitor::MonitorRef;
use super::host::HostId;
use super::spawn::EntryId;
use crate::pid::Pid;

/// A snapshot of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProcessInfo {
    /// Its PID.
    pub pid: Pid,
    /// Its names, sorted.
    pub names: Vec<String>,
    /// The id of its definition.
    #[serde(serialize_with = "text")]
    pub entry: EntryId,
    /// Its host.
    #[serde(serialize_with = "text")]
    pub host: HostId,
    /// The engine that it runs in.
    pub engine: &'static str,
    /// Its state.
    pub state: ProcessState,
    /// The number of messages in its mailbox.
    pub mailbox: usize,
    /// The names of the keys on its frame, in the order in which they were last set.
    pub frame: Vec<&'static str>,
    /// The unit that spawned it. `None` if it was spawned from a root context.
    pub parent: Option<Pid>,
    /// The process that ends this one with its own end, such as its supervisor.
    pub owner: Option<Pid>,
    /// The processes that it is linked to, sorted.
    pub links: Vec<Pid>,
    /// The processes that it monitors, sorted.
    pub monitors: Vec<Pid>,
    /// The time since it was spawned. Its serialised form is a number of seconds.
    #[serde(serialize_with = "seconds")]
    pub uptime: Duration,
}

impl ProcessInfo {
    pub(crate) fn of(cell: &ProcessCell) -> Self {
        let (mailbox, is_receiving) = (cell.mailbox.len(), cell.mailbox.is_waited_at());
        let state = cell.state();
        let is_spawned = state.task.is_some() || state.has_ended();
        let process_state = match () {
            () if cell.is_terminated() => ProcessState::Ending,
            () if state.cancelled.is_some() => ProcessState::Cancelled,
            () if !is_spawned => ProcessState::Starting,
            () if is_receiving => ProcessState::Receiving,
            () => ProcessState::Running,
        };
        let (mut names, mut links, mut monitors) = (Vec::new(), Vec::new(), Vec::new());
        let mut owner = None;
        if let Some(relations) = &state.relations {
            owner = relations.owner();
            names.extend(relations.names.iter().map(ToString::to_string));
            links.extend(&relations.links);
            monitors.extend(relations.monitored.iter().map(MonitorRef::pid));
        }
        drop(state);
        names.sort_unstable();
        links.sort_unstable();
        monitors.sort_unstable();
        monitors.dedup();
        Self {
            pid: cell.pid,
            names,
            entry: (*cell.definition.id).clone(),
            host: cell.host.id.clone(),
            engine: cell.definition.process.engine(),
            state: process_state,
            mailbox,
            frame: cell.frame().iter().map(frame_registry::Pair::name).collect(),
            parent: cell.parent,
            owner,
            links,
            monitors,
            uptime: Duration::from_nanos(cell.manager.age().saturating_sub(cell.spawned_at)),
        }
    }
}

/// The state of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProcessState {
    /// It is not spawned yet.
    Starting,
    /// It runs, or waits for something other than a message.
    Running,
    /// It waits for a message.
    Receiving,
    /// It was asked to end.
    Cancelled,
    /// It is being terminated, or has ended.
    Ending,
}

impl ProcessState {
    /// Returns its name: `starting`, `running`, `receiving`, `cancelled` or `ending`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Receiving => "receiving",
            Self::Cancelled => "cancelled",
            Self::Ending => "ending",
        }
    }
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

fn text<S: Serializer>(id: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// Processes, the oldest first. Its `Display` is a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ProcessTable {
    processes: Vec<ProcessInfo>,
}

impl ProcessTable {
    pub(crate) const fn new(processes: Vec<ProcessInfo>) -> Self {
        Self { processes }
    }
}

impl Deref for ProcessTable {
    type Target = [ProcessInfo];

    fn deref(&self) -> &[ProcessInfo] {
        &self.processes
    }
}

impl IntoIterator for ProcessTable {
    type Item = ProcessInfo;
    type IntoIter = std::vec::IntoIter<ProcessInfo>;

    fn into_iter(self) -> Self::IntoIter {
        self.processes.into_iter()
    }
}

impl<'a> IntoIterator for &'a ProcessTable {
    type Item = &'a ProcessInfo;
    type IntoIter = std::slice::Iter<'a, ProcessInfo>;

    fn into_iter(self) -> Self::IntoIter {
        self.processes.iter()
    }
}

impl fmt::Display for ProcessTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header([
            "PID", "NAME", "ENTRY", "HOST", "ENGINE", "STATE", "MAILBOX", "PARENT", "LINKS", "MONITORS",
            "UPTIME", "FRAME",
        ]);
        let list = |pids: &[Pid]| pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        for process in self {
            table.add_row([
                process.pid.to_string(),
                process.names.join(" "),
                process.entry.to_string(),
                process.host.to_string(),
                process.engine.to_owned(),
                process.state.to_string(),
                process.mailbox.to_string(),
                process.parent.map_or_else(String::new, |pid| pid.to_string()),
                list(&process.links),
                list(&process.monitors),
                humantime::format_duration(Duration::from_secs(process.uptime.as_secs())).to_string(),
                process.frame.join(" "),
            ]);
        }
        for line in table.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
