//! What takes part in the start and the end of every process.

use frame_registry::{BoxError, Frame};

use super::cell::ProcessCell;
use super::entry::EntryId;
use super::exit::Exit;
use super::host::HostId;
use crate::pid::Pid;

/// Something that takes part in the start and the end of every process: accounts for it, or makes what it needs.
///
/// It runs on the thread that starts or ends the process, so it does not block.
pub trait Lifecycle: Send + Sync + 'static {
    /// What it is called, unique among the handlers.
    fn name(&self) -> &'static str;

    /// Where it stands: the lowest is first when a process starts, and last when it ends. Ties stand in name order.
    fn order(&self) -> i32;

    /// A process is about to start, with its frame sealed. Nothing of it has run, and nobody can find it.
    ///
    /// # Errors
    ///
    /// Why it shall not start. Those before this one are then told that it [ended](Self::ended), the last first; this one
    /// is not. A panic counts as an error.
    fn starting(&self, process: &ProcessRef<'_>) -> Result<(), BoxError>;

    /// A process that this one let start has ended, and all of it is dropped; those that monitor it are not told yet. `exit`
    /// is none if it did not start after all. A panic is logged, and changes nothing.
    fn ended(&self, process: &ProcessRef<'_>, exit: Option<&Exit>);
}

/// A process, as a [`Lifecycle`] sees it.
#[derive(Debug, Clone, Copy)]
pub struct ProcessRef<'a>(pub(super) &'a ProcessCell);

impl<'a> ProcessRef<'a> {
    /// Its PID.
    pub const fn pid(&self) -> Pid {
        self.0.pid
    }

    /// What it is a process of.
    pub fn entry(&self) -> &'a EntryId {
        &self.0.entry.id
    }

    /// What it lives on.
    pub fn host(&self) -> &'a HostId {
        &self.0.host.id
    }

    /// The unit that started it; none if that was no function and no process.
    pub const fn parent(&self) -> Option<Pid> {
        self.0.parent
    }

    /// Its frame.
    pub const fn frame(&self) -> &'a Frame {
        self.0.frame()
    }
}
