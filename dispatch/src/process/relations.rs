//! Links between processes, and what one has to the one that starts it.

use std::sync::Arc;

use super::cell::{ProcessCell, State, Watcher, both};
use super::error::ProcessError;
use super::exit::Exit;
use super::manager::ProcessManager;
use super::monitor::MonitorRef;
use super::owner;
use crate::pid::Pid;

/// Relates a process to the one that starts it, before anything of it runs: makes that the owner, with a rank, links both, and
/// has the starter monitor it. Fails where the starter has ended or is being terminated.
pub(super) fn begin(
    starter: &Arc<ProcessCell>,
    child: &ProcessCell,
    (owner, link, monitor): (Option<u64>, bool, bool),
) -> Result<(), StarterEnded> {
    let (mut a, mut b) = both(starter, child);
    // A terminated process has no relation to what it started afterwards.
    if a.is_ending() {
        return Err(StarterEnded);
    }
    if let Some(rank) = owner {
        owner::own((starter, &mut a), (child, &mut b), rank);
    }
    if link {
        b.relations().starter = Some(starter.pid);
    }
    join((starter.pid, &mut a), (child.pid, &mut b), link, monitor);
    Ok(())
}

/// The process that starts another has ended, or is about to.
pub(super) struct StarterEnded;

/// Links a process to another, and has it monitor that; what is so already stays. Fails where one of them has ended.
pub(super) fn relate(one: &ProcessCell, other: &ProcessCell, link: bool, monitor: bool) -> Result<(), Exit> {
    let (mut a, mut b) = both(one, other);
    living((one.pid, &a), (other.pid, &b))?;
    join((one.pid, &mut a), (other.pid, &mut b), link, monitor);
    Ok(())
}

fn join((one, a): (Pid, &mut State), (other, b): (Pid, &mut State), link: bool, monitor: bool) {
    if link {
        a.relations().links.insert(other);
        b.relations().links.insert(one);
    }
    if monitor {
        let monitor = MonitorRef::from(other);
        a.relations().monitored.insert(monitor);
        b.relations().watchers.insert(monitor.watcher_key(one), Watcher::Process(one, monitor));
    }
}

/// Links two processes; fails with the exit of one that has ended.
pub(super) fn link(one: &ProcessCell, other: &ProcessCell) -> Result<(), Exit> {
    if one.pid == other.pid {
        return Ok(());
    }
    relate(one, other, true, false)
}

/// Ends a link. The end of one is nothing to the other from now on.
pub(super) fn unlink(one: &ProcessCell, other: Pid, found: Option<&ProcessCell>) {
    let Some(found) = found.filter(|found| found.pid != one.pid) else {
        remove_link(&mut one.state(), other);
        return;
    };
    let (mut a, mut b) = both(one, found);
    remove_link(&mut a, other);
    remove_link(&mut b, one.pid);
}

fn remove_link(state: &mut State, other: Pid) {
    state.removes(|relations| {
        relations.starter = relations.starter.filter(|&starter| starter != other);
        relations.links.remove(&other)
    });
}

fn living(one: (Pid, &State), other: (Pid, &State)) -> Result<(), Exit> {
    [one, other].into_iter().find_map(|(pid, state)| state.exit_of(pid)).map_or(Ok(()), Err)
}

impl ProcessManager {
    /// Links two processes: where one fails, the other ends, too, unless it
    /// [traps](super::ProcessContext::trap_links) that. Linking again changes nothing, nor does linking one to itself.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] or [`ProcessError::Unknown`] if one of them does not live; the other goes on.
    pub fn link(&self, one: Pid, other: Pid) -> Result<(), ProcessError> {
        link(&*self.living(one)?, &*self.living(other)?).map_err(|exit| ProcessError::Ended { exit })
    }

    /// Ends a link, if there is one. The end of one of the processes is nothing to the other from now on; what one that
    /// traps was told before is still in its mailbox.
    pub fn unlink(&self, one: Pid, other: Pid) {
        let (found_one, found_other) = (self.find(one), self.find(other));
        match (&found_one, &found_other) {
            (Some(found), _) => unlink(found, other, found_other.as_deref()),
            (None, Some(found)) => unlink(found, one, None),
            (None, None) => (),
        }
    }
}
