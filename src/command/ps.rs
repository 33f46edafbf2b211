//! `frame ps`.

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
            Format::Table => print(running)?,
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

fn print(running: RunInfo<Process>) -> io::Result<()> {
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
        .filter_map(restarted)
        .chain(running.down.iter().map(|child| child_row(child, "")))
        .collect();
    if count > 0 {
        print_processes(running.processes, omitted)?;
    }
    if !children.is_empty() {
        print_children(children, running.down_omitted)?;
    }
    for Quarantined { kind, id, reason, .. } in quarantined {
        report::print(&report::one_line(&format!("{kind} {id}: {reason}")))?;
    }
    Ok(())
}

fn print_processes(processes: Vec<Process>, omitted: usize) -> io::Result<()> {
    let header = ["pid", "name", "entry", "engine", "state", "mailbox", "parent", "uptime", "frame"];
    let mut table = report::table(&header, processes.into_iter().map(row));
    // A PID, which names the host as well, is of use only in one piece.
    for column in [0, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    report::print(&table)?;
    if omitted > 0 {
        report::print(&format_args!("and {omitted} that are younger"))?;
    }
    Ok(())
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

fn restarted(process: &Process) -> Option<Vec<String>> {
    let child = process.supervised.as_ref().filter(|child| child.last_exit.is_some())?;
    Some(child_row(child, &process.pid))
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

fn row(process: Process) -> Vec<String> {
    vec![
        process.pid,
        process.names.join(" "),
        process.entry,
        process.engine,
        process.state,
        process.mailbox.to_string(),
        process.parent.unwrap_or_default(),
        uptime(process.uptime),
        process.frame.join(" "),
    ]
}

/// A time in whole seconds. One that no run can have had is none.
fn uptime(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    format_duration(Duration::from_secs(time.as_secs())).to_string()
}
