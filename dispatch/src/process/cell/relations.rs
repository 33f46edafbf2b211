//! What a process has to do with others: links, owners, watchers, and who is notified of its exit.
//!
//! A link notifies each of two processes of the failure of the other, and both may trap or remove it. An owner is above what it
//! owns: however it ends, all that it owns is terminated, which can be neither trapped nor undone. [`terminate`] is the one place
//! where a process is terminated with what it owns, and [`terminate_owned`] the one for what a process owned that ended by itself.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, MutexGuard};

use rustc_hash::FxBuildHasher;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::monitor::{self, MonitorRef};
use super::{CellState, ProcessCell, Traps, catch_and_log};
use crate::pid::Pid;
use crate::process::group::GroupUses;
use crate::process::message::{Exit, ExitReason, Message};
use crate::process::timer::Timers;

/// The relations of a process. Most processes have none.
#[derive(Default)]
pub(crate) struct Relations {
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) groups: GroupUses,
    pub(crate) links: HashSet<Pid, FxBuildHasher>,
    /// The process that spawned it with a link. It stays when that process ends, and is removed with the link.
    pub(super) starter: Option<Pid>,
    /// Its monitors of other processes. An exit is delivered only while its monitor is here.
    pub(crate) monitored: HashSet<MonitorRef, FxBuildHasher>,
    /// Who is notified of its exit, by [key](MonitorRef::watcher_key).
    pub(crate) watchers: HashMap<u64, Watcher, FxBuildHasher>,
    pub(crate) timers: Option<Box<Timers>>,
    owner: Option<Owner>,
    /// The processes that end with it, by rank. The last is terminated first.
    owned: BTreeSet<(u64, Pid)>,
    /// Its exit, as long as that waits for the end of what it owned.
    pending_exit: Option<Exit>,
}

impl Relations {
    /// Returns the owned processes, lowest rank first.
    pub(super) fn owned(&self) -> Vec<Pid> {
        self.owned.iter().map(|&(_, pid)| pid).collect()
    }

    /// Returns the PID of the owner.
    pub(crate) fn owner(&self) -> Option<Pid> {
        self.owner.as_ref().map(|owner| owner.cell.pid)
    }
}

/// The receiver of an exit.
pub(crate) enum Watcher {
    /// A process, in its mailbox, with the reference of its monitor.
    Process(Pid, MonitorRef),
    /// A [`Monitor`](monitor::Monitor).
    Monitor(oneshot::Sender<Exit>),
}

struct Owner {
    /// A strong reference, because the owner's exit is delivered after the last process that it owned has ended.
    cell: Arc<ProcessCell>,
    /// The place among what the owner owns. The highest is terminated first, and the youngest of equal ones.
    rank: u64,
}

/// The process that spawned another with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkedStarter {
    /// There is none, or one of the two ended the link.
    None,
    Alive(Pid),
    Ended,
}

/// The process that spawned another has ended, or is about to.
pub(crate) struct StarterEnded;

/// How a process is related to the process that spawns it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SpawnRelations {
    /// The rank, if the spawning process is the owner.
    pub(crate) owner_rank: Option<u64>,
    pub(crate) link: bool,
    pub(crate) monitor: bool,
}

impl SpawnRelations {
    pub(crate) const fn is_empty(self) -> bool {
        self.owner_rank.is_none() && !self.link && !self.monitor
    }
}

/// Relates a process to the one that spawns it, before it runs. Fails if the starter has ended or is being terminated.
pub(crate) fn begin(
    starter: &Arc<ProcessCell>,
    child: &ProcessCell,
    relations: SpawnRelations,
) -> Result<(), StarterEnded> {
    let (mut a, mut b) = lock_both(starter, child);
    // A terminated process has no relation to what it spawned afterwards.
    if a.is_ending() {
        return Err(StarterEnded);
    }
    if let Some(rank) = relations.owner_rank {
        a.relations().owned.insert((rank, child.pid));
        b.relations().owner = Some(Owner { cell: Arc::clone(starter), rank });
    }
    if relations.link {
        b.relations().starter = Some(starter.pid);
    }
    join((starter.pid, &mut a), (child.pid, &mut b), relations.link, relations.monitor);
    Ok(())
}

/// Links a process to another and monitors it, as is asked for. Existing relations stay. Returns the exit of one that has ended.
pub(crate) fn relate(one: &ProcessCell, other: &ProcessCell, link: bool, monitor: bool) -> Result<(), Exit> {
    let (mut a, mut b) = lock_both(one, other);
    let exit = a.exit_of(one.pid).or_else(|| b.exit_of(other.pid));
    if let Some(exit) = exit {
        return Err(exit);
    }
    join((one.pid, &mut a), (other.pid, &mut b), link, monitor);
    Ok(())
}

fn join((one, a): (Pid, &mut CellState), (other, b): (Pid, &mut CellState), link: bool, monitor: bool) {
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

/// Links two processes. Returns the exit of one that has ended.
pub(crate) fn link(one: &ProcessCell, other: &ProcessCell) -> Result<(), Exit> {
    if one.pid == other.pid {
        return Ok(());
    }
    relate(one, other, true, false)
}

/// Ends a link. From now on the end of one process does not reach the other.
pub(crate) fn unlink(one: &ProcessCell, other: Pid, found: Option<&ProcessCell>) {
    let Some(found) = found.filter(|found| found.pid != one.pid) else {
        remove_link(&mut one.state(), other);
        return;
    };
    let (mut a, mut b) = lock_both(one, found);
    remove_link(&mut a, other);
    remove_link(&mut b, one.pid);
}

fn remove_link(state: &mut CellState, other: Pid) {
    state.removes(|relations| {
        relations.starter = relations.starter.filter(|&starter| starter != other);
        relations.links.remove(&other)
    });
}

/// Locks the states of two processes. They must not be the same.
fn lock_both<'a>(
    a: &'a ProcessCell,
    b: &'a ProcessCell,
) -> (MutexGuard<'a, CellState>, MutexGuard<'a, CellState>) {
    if a.pid < b.pid {
        let a = a.state();
        (a, b.state())
    } else {
        let b = b.state();
        (a.state(), b)
    }
}

/// A process whose end is decided.
struct Marked {
    reason: ExitReason,
    task: Option<AbortHandle>,
    owned: Vec<Pid>,
}

/// Decides the end of a process, unless it is decided or the process has ended. Returns what it owns, lowest rank first.
fn mark(mut state: MutexGuard<'_, CellState>, reason: ExitReason) -> Option<Marked> {
    if !state.decide_end(&reason) {
        return None;
    }
    let owned = state.relations.as_deref().map(Relations::owned).unwrap_or_default();
    Some(Marked { reason, task: state.task.clone(), owned })
}

/// Terminates a process and all that it owns: the highest rank first, each after what it owns itself. The first reason counts.
/// Returns whether this was the first.
pub(super) fn terminate(cell: &ProcessCell, state: MutexGuard<'_, CellState>, reason: ExitReason) -> bool {
    let Some(Marked { reason, task, owned }) = mark(state, reason) else { return false };
    if !owned.is_empty() {
        terminate_below(cell, owned, &reason);
    }
    cell.abort(task);
    true
}

fn terminate_below(cell: &ProcessCell, owned: Vec<Pid>, reason: &ExitReason) {
    // All are marked from the top down, so that none of them spawns another process meanwhile.
    let reason = reason.to_link_down(cell.pid);
    let (mut marked, mut next) = (Vec::new(), owned);
    next.reverse();
    while let Some(pid) = next.pop() {
        let Some(child) = cell.manager.cells().find(pid) else { continue };
        let Some(Marked { task, owned, .. }) = mark(child.state(), reason.clone()) else { continue };
        marked.push((child, task));
        next.extend(owned.into_iter().rev());
    }
    for (child, task) in marked.into_iter().rev() {
        child.abort(task);
    }
}

/// Terminates what a process owned that has ended by itself.
pub(super) fn terminate_owned(cell: &ProcessCell, owned: Vec<Pid>, reason: &ExitReason) {
    for pid in owned.into_iter().rev() {
        if let Some(child) = cell.manager.cells().find(pid) {
            child.terminate(reason.to_link_down(cell.pid));
        }
    }
}

/// Delivers an exit once nothing that the process owned is left. Then delivers that of its owner, if it waited for this.
pub(super) fn deliver_exit(cell: &ProcessCell, exit: Exit) {
    if let Some(relations) = cell.state().relations.as_deref_mut() {
        relations.pending_exit = Some(exit);
    }
    // In a loop, because processes may own each other to any depth.
    let mut delivered = deliver_pending(cell);
    while let Some((owner, rank, pid)) = delivered {
        if let Some(relations) = owner.state().relations.as_deref_mut() {
            relations.owned.remove(&(rank, pid));
        }
        delivered = deliver_pending(&owner);
    }
}

/// Returns the owner whose exit may be next, with the place of this process among what it owns.
fn deliver_pending(cell: &ProcessCell) -> Option<(Arc<ProcessCell>, u64, Pid)> {
    let mut state = cell.state();
    let exit = state
        .relations
        .as_deref_mut()
        .filter(|relations| relations.owned.is_empty())
        .and_then(|relations| relations.pending_exit.take())?;
    let mut relations = state.relations.take()?;
    drop(state);
    let owner = relations.owner.take();
    notify(cell, &exit, *relations);
    owner.map(|Owner { cell: owner, rank }| (owner, rank, cell.pid))
}

/// Notifies watchers and linked processes of an exit.
fn notify(cell: &ProcessCell, exit: &Exit, relations: Relations) {
    for watcher in relations.watchers.into_values() {
        match watcher {
            Watcher::Process(pid, monitor) => {
                if let Some(watcher) = cell.manager.cells().find(pid) {
                    catch_and_log(|| monitor::deliver(&watcher, monitor, exit));
                }
            }
            // The receiver may have been dropped.
            Watcher::Monitor(watcher) => catch_and_log(|| _ = watcher.send(exit.clone())),
        }
    }
    for pid in relations.links {
        if let Some(linked) = cell.manager.cells().find(pid) {
            catch_and_log(|| link_ended(&linked, exit));
        }
    }
    monitor::end_monitors(cell, relations.monitored);
}

/// Notifies a process of the exit of another that it is, or was, linked to.
fn link_ended(linked: &ProcessCell, exit: &Exit) {
    let mut state = linked.state();
    let is_linked = !state.has_ended() && state.removes(|relations| relations.links.remove(&exit.pid));
    if !is_linked {
        return;
    }
    match state.traps_links {
        Traps::Exits => linked.push_system(state, Message::LinkDown(Box::new(exit.clone()))),
        _ if exit.reason.is_normal() => (),
        Traps::Failures => linked.push_system(state, Message::LinkDown(Box::new(exit.clone()))),
        Traps::Nothing => _ = terminate(linked, state, exit.reason.to_link_down(exit.pid)),
    }
}

/// Ends the ownership of a process, such as one that was terminated and does not end.
pub(crate) fn disown(cell: &ProcessCell, pid: Pid) {
    let Some(child) = cell.manager.cells().find(pid) else { return };
    let (mut own, mut state) = lock_both(cell, &child);
    let owner = state
        .relations
        .as_deref_mut()
        .and_then(|relations| relations.owner.take_if(|owner| owner.cell.pid == cell.pid));
    if let (Some(owner), Some(relations)) = (&owner, own.relations.as_deref_mut()) {
        relations.owned.remove(&(owner.rank, pid));
    }
    drop((own, state));
    // Outside of the locks, because it may be the last reference to a process.
    drop(owner);
}

/// Sets the rank of an owned process.
pub(crate) fn set_rank(cell: &ProcessCell, pid: Pid, rank: u64) {
    let Some(child) = cell.manager.cells().find(pid) else { return };
    let (mut own, mut state) = lock_both(cell, &child);
    let owner = state.relations.as_deref_mut().and_then(|relations| relations.owner.as_mut());
    let Some(owner) = owner.filter(|owner| owner.cell.pid == cell.pid) else { return };
    let relations = own.relations();
    relations.owned.remove(&(owner.rank, pid));
    relations.owned.insert((rank, pid));
    owner.rank = rank;
}
