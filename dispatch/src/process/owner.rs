//! The owner of a process: its end is the end of what it owns.
//!
//! A link tells each of two processes of the failure of the other, and both may trap or remove it. An owner is above what it
//! owns: however it ends, all that it owns is terminated, which can be neither trapped nor undone. [`ProcessCell::terminate_in`]
//! is the one place where that is done for a process that is terminated, and [`ProcessCell::end_owned`] for one that ends by itself.

use std::sync::{Arc, MutexGuard};

use tokio::task::AbortHandle;

use super::cell::{ProcessCell, Relations, State, both};
use super::exit::{Exit, ExitReason};
use crate::pid::Pid;

/// The owner of a process.
pub(super) struct Owner {
    /// Kept here because the owner is told when its last owned process has ended, after its own end.
    instance: Arc<ProcessCell>,
    /// The place among what the owner owns: the highest is terminated first, and of equal ones the youngest.
    rank: u64,
}

impl Owner {
    pub(super) fn pid(&self) -> Pid {
        self.instance.pid
    }
}

/// A process whose end is decided, and what has to end with it.
struct Marked {
    reason: ExitReason,
    task: Option<AbortHandle>,
    owned: Vec<Pid>,
}

/// Makes `owner` the owner of a process that is not spawned yet. The caller holds both states, and neither has ended.
pub(super) fn own(
    (owner, owner_state): (&Arc<ProcessCell>, &mut State),
    (child, child_state): (&ProcessCell, &mut State),
    rank: u64,
) {
    owner_state.relations().owned.insert((rank, child.pid));
    child_state.relations().owner = Some(Owner { instance: Arc::clone(owner), rank });
}

impl ProcessCell {
    /// Ends this process and all that it owns, wherever they are: the last first, each after what it owns itself. The first
    /// reason counts. Returns whether this is the first.
    pub(super) fn terminate_in(&self, state: MutexGuard<'_, State>, reason: ExitReason) -> bool {
        let Some(Marked { reason, task, owned }) = mark(state, reason) else { return false };
        if !owned.is_empty() {
            self.terminate_below(owned, &reason);
        }
        self.abort(task);
        true
    }

    fn terminate_below(&self, owned: Vec<Pid>, reason: &ExitReason) {
        // All are marked from the top down, so that none of them starts another process in the meantime.
        let reason = reason.to_link_down(self.pid);
        let (mut marked, mut next) = (Vec::new(), owned);
        next.reverse();
        while let Some(pid) = next.pop() {
            let Some(child) = self.manager.find(pid) else { continue };
            let Some(Marked { task, owned, .. }) = mark(child.state(), reason.clone()) else { continue };
            marked.push((child, task));
            next.extend(owned.into_iter().rev());
        }
        for (child, task) in marked.into_iter().rev() {
            child.abort(task);
        }
    }

    /// Terminates what a process owned that has ended by itself.
    pub(super) fn end_owned(&self, owned: Vec<Pid>, reason: &ExitReason) {
        for pid in owned.into_iter().rev() {
            if let Some(child) = self.manager.find(pid) {
                child.terminate(reason.to_link_down(self.pid));
            }
        }
    }

    /// Tells of an exit, once nothing that the process owned is left; and then of that of its owner, if that waited for it.
    pub(super) fn tell_exit(&self, exit: Exit) {
        if let Some(relations) = self.state().relations.as_deref_mut() {
            relations.untold = Some(exit);
        }
        // In a loop, because processes may own each other to any depth.
        let mut told = self.tell_untold();
        while let Some((owner, rank, pid)) = told {
            if let Some(relations) = owner.state().relations.as_deref_mut() {
                relations.owned.remove(&(rank, pid));
            }
            told = owner.tell_untold();
        }
    }

    /// Returns the owner that is to be told next, with the place of this process there.
    fn tell_untold(&self) -> Option<(Arc<Self>, u64, Pid)> {
        let mut state = self.state();
        let exit = state
            .relations
            .as_deref_mut()
            .filter(|relations| relations.owned.is_empty())
            .and_then(|relations| relations.untold.take())?;
        let mut relations = state.relations.take()?;
        drop(state);
        let owner = relations.owner.take();
        self.tell_related(&exit, *relations);
        owner.map(|Owner { instance, rank }| (instance, rank, self.pid))
    }

    /// The process that ends this one with its own end.
    pub(super) fn owner(&self) -> Option<Pid> {
        self.state().relations.as_deref().and_then(|relations| Some(relations.owner.as_ref()?.instance.pid))
    }

    /// Owns a process no more, such as one that was terminated and does not end.
    pub(super) fn disown(&self, pid: Pid) {
        let Some(child) = self.manager.find(pid) else { return };
        let (mut own, mut state) = both(self, &child);
        let owner = state
            .relations
            .as_deref_mut()
            .and_then(|relations| relations.owner.take_if(|owner| owner.instance.pid == self.pid));
        if let (Some(owner), Some(relations)) = (&owner, own.relations.as_deref_mut()) {
            relations.owned.remove(&(owner.rank, pid));
        }
        drop((own, state));
        // Outside of the locks, because it may be the last reference to a process.
        drop(owner);
    }

    /// Gives an owned process another place.
    pub(super) fn rank(&self, pid: Pid, rank: u64) {
        let Some(child) = self.manager.find(pid) else { return };
        let (mut own, mut state) = both(self, &child);
        let owner = state.relations.as_deref_mut().and_then(|relations| relations.owner.as_mut());
        let Some(owner) = owner.filter(|owner| owner.instance.pid == self.pid) else { return };
        let relations = own.relations();
        relations.owned.remove(&(owner.rank, pid));
        relations.owned.insert((rank, pid));
        owner.rank = rank;
    }
}

/// Decides the end of a process, unless it is decided or the process has ended. Returns what it owns, the first first.
fn mark(mut state: MutexGuard<'_, State>, reason: ExitReason) -> Option<Marked> {
    if !state.decide_end(&reason) {
        return None;
    }
    let owned = state.relations.as_deref().map(Relations::owned).unwrap_or_default();
    Some(Marked { reason, task: state.task.clone(), owned })
}
