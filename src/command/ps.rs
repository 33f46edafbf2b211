//! `frame ps`.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comfy_table::ColumnConstraint;
use humantime::format_duration;

use super::{Failure, Format};
use crate::app::Quarantined;
use crate::control::{AskError, ControlAddress, LastExit, Process, RunInfo, Supervised, ask};
use crate::exit::Exit;
use crate::report;

/// Lists the processes of an app that `frame run` runs. Shows also the children of its supervisors that were restarted or are
/// down, what is quarantined, and whether the app is degraded: a reload failed and could not be undone.
///
/// The run is found by its manifest, or by the socket that it was given with `--control`. Only its user and root can ask.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Exits with 8 if the app is not running.")]
pub(super) struct PsArgs {
    /// The manifest that is run.
    #[arg(default_value = "app.toml", value_hint = clap::ValueHint::FilePath)]
    manifest: PathBuf,
    /// The control socket of the run, where it was given one.
    #[arg(long, value_name = "PATH", conflicts_with = "manifest", value_hint = clap::ValueHint::FilePath)]
    socket: Option<PathBuf>,
    /// Shows each process below its parent.
    #[arg(long)]
    tree: bool,
    /// Shows whole PIDs, engines, parents and frames, too.
    #[arg(long)]
    wide: bool,
    /// How to print them.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl PsArgs {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let (place, whose) = match self.socket {
            Some(socket) => (ControlAddress::At(socket), None),
            None => (of_manifest(&self.manifest)?, Some(self.manifest)),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let running = runtime.block_on(ask(&place)).map_err(|error| unanswered(&error, whose.as_deref()))?;
        match self.format {
            Format::Json => report::print(&serde_json::to_string_pretty(&running)?)?,
            Format::Table => print(running, Columns { is_tree: self.tree, is_wide: self.wide })?,
        }
        Ok(Exit::Done)
    }
}

fn of_manifest(manifest: &Path) -> Result<ControlAddress, Failure> {
    ControlAddress::of_manifest(manifest).map_err(|error| {
        Failure::usage(format_args!(
            "the manifest {} cannot be found: {error}; a run whose manifest is gone is found with `--socket`",
            manifest.display()
        ))
    })
}

fn unanswered(error: &AskError, manifest: Option<&Path>) -> Failure {
    let message = report::chain(error);
    let message = match (error, manifest) {
        (AskError::NotRunning { .. }, Some(manifest)) => {
            let manifest = manifest.display();
            format!("{manifest}: {message}; start it with `frame run {manifest}`")
        }
        _ => message,
    };
    Failure::new(Exit::Unavailable, message)
}

fn print(running: RunInfo<Process>, columns: Columns) -> io::Result<()> {
    let (app, manifest, pid) = (&running.app, &running.manifest, running.pid);
    let count = running.processes.len() + running.omitted;
    let header = format!(
        "{app} ({manifest}), process {pid}, up {}, {count} {}",
        uptime(running.uptime),
        if count == 1 { "process" } else { "processes" }
    );
    report::print(&report::one_line(&header))?;
    if let Some(degraded) = &running.degraded {
        report::print(&report::one_line(&format!("degraded: {degraded}")))?;
    }
    let (omitted, quarantined) = (running.omitted, running.quarantined);
    let children: Vec<_> = running
        .processes
        .iter()
        .filter_map(|process| restarted(process, columns))
        .chain(running.down.iter().map(|child| child_row(child, "")))
        .collect();
    if count > 0 {
        print_processes(&running.processes, omitted, columns)?;
    }
    if !children.is_empty() {
        print_children(children, running.down_omitted)?;
    }
    for Quarantined { kind, id, reason, .. } in quarantined {
        report::print(&report::one_line(&format!("{kind} {id}: {reason}")))?;
    }
    Ok(())
}

fn print_processes(processes: &[Process], omitted: usize, columns: Columns) -> io::Result<()> {
    let rows: Vec<_> = if columns.is_tree {
        tree(processes).into_iter().map(|(depth, process)| columns.row(process, depth)).collect()
    } else {
        processes.iter().map(|process| columns.row(process, 0)).collect()
    };
    let mut table = report::table(columns.header(), rows);
    // A PID is of use only in one piece.
    for column in columns.pids() {
        if let Some(column) = table.column_mut(*column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    report::print(&table)?;
    if omitted > 0 {
        report::print(&format_args!("and {omitted} that are younger"))?;
    }
    Ok(())
}

/// Which columns are printed.
#[derive(Debug, Clone, Copy)]
struct Columns {
    is_tree: bool,
    is_wide: bool,
}

impl Columns {
    const fn header(self) -> &'static [&'static str] {
        if self.is_wide {
            &["pid", "entry", "name", "engine", "state", "uptime", "mailbox", "restarts", "parent", "frame"]
        } else {
            &["pid", "entry", "name", "state", "uptime", "mailbox", "restarts"]
        }
    }

    const fn pids(self) -> &'static [usize] {
        if self.is_wide { &[0, 8] } else { &[0] }
    }

    fn pid(self, pid: &str) -> String {
        if self.is_wide { pid.to_owned() } else { report::short_pid(pid).into_owned() }
    }

    fn row(self, process: &Process, depth: usize) -> Vec<String> {
        let Process { pid, names, entry, engine, state, mailbox, frame, parent, uptime: age, .. } = process;
        let branch = depth.checked_sub(1).map_or_else(String::new, |depth| "  ".repeat(depth) + "└ ");
        let (entry, names, mailbox) = (format!("{branch}{entry}"), names.join(" "), mailbox.to_string());
        let restarts =
            process.supervised.as_ref().map_or_else(String::new, |child| child.restarts.to_string());
        let (pid, age) = (self.pid(pid), uptime(*age));
        if !self.is_wide {
            return vec![pid, entry, names, state.clone(), age, mailbox, restarts];
        }
        let parent = parent.clone().unwrap_or_default();
        vec![
            pid,
            entry,
            names,
            engine.clone(),
            state.clone(),
            age,
            mailbox,
            restarts,
            parent,
            frame.join(" "),
        ]
    }
}

/// Processes below their parents, each with its depth. One whose parent is not among them is at the top.
fn tree(processes: &[Process]) -> Vec<(usize, &Process)> {
    let by_pid: HashMap<&str, usize> =
        processes.iter().enumerate().map(|(index, process)| (process.pid.as_str(), index)).collect();
    let mut children = vec![Vec::new(); processes.len()];
    let mut pending = Vec::new();
    for (index, process) in processes.iter().enumerate() {
        match process.parent.as_deref().and_then(|parent| by_pid.get(parent)) {
            Some(&parent) if parent < index => children[parent].push(index),
            _ => pending.push((0, index)),
        }
    }
    pending.reverse();
    let mut rows = Vec::with_capacity(processes.len());
    while let Some((depth, index)) = pending.pop() {
        rows.push((depth, &processes[index]));
        pending.extend(children[index].iter().rev().map(|&child| (depth + 1, child)));
    }
    rows
}

/// Children that have no process, and those that had another before.
fn print_children(rows: Vec<Vec<String>>, omitted: usize) -> io::Result<()> {
    let mut table = report::table(&["supervisor", "child", "pid", "state", "restarts", "last exit"], rows);
    if let Some(column) = table.column_mut(2) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    report::print(&table)?;
    if omitted > 0 {
        report::print(&format_args!("and {omitted} more that have no process"))?;
    }
    Ok(())
}

fn restarted(process: &Process, columns: Columns) -> Option<Vec<String>> {
    let child = process.supervised.as_ref().filter(|child| child.last_exit.is_some())?;
    Some(child_row(child, &columns.pid(&process.pid)))
}

fn child_row(child: &Supervised, pid: &str) -> Vec<String> {
    let last_exit = child.last_exit.as_ref().map_or_else(String::new, |LastExit { message, ago, .. }| {
        format!("{} ago: {}", uptime(*ago), report::one_line(message))
    });
    vec![
        child.supervisor.clone(),
        child.id.clone(),
        pid.to_owned(),
        child.state.clone(),
        child.restarts.to_string(),
        last_exit,
    ]
}

/// A time in whole seconds, of which the two largest units are shown. One that no run can have had is zero.
fn uptime(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let time = format_duration(Duration::from_secs(time.as_secs())).to_string();
    time.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
