//! What a component may do with processes. It names them in text, and is not trusted.

use std::time::Duration;

use crate::ctx::Ctx;
use crate::error::{CallError, ErrorKind};
use crate::frame::PID;
use crate::pid::{Pid, PidError};
use crate::process::{Destination, ProcessCtx, ProcessError, ProcessManager, WeakManager};
use crate::wasm::log::LONGEST;

/// Longer than any PID or name in text, in bytes.
const LONGEST_DESTINATION: usize = 512;

/// The processes, as the guests of an engine have them.
#[derive(Debug, Clone)]
pub(super) struct Access {
    manager: WeakManager,
    is_trusted: bool,
}

impl Access {
    pub(super) fn new(manager: &ProcessManager) -> Self {
        Self { manager: manager.downgrade(), is_trusted: false }
    }

    pub(super) fn trusted(self) -> Self {
        Self { is_trusted: true, ..self }
    }

    /// The processes that the guest is one of, or those that it was given.
    pub(super) fn manager(&self, ctx: &Ctx) -> Result<ProcessManager, CallError> {
        match ProcessCtx::of(ctx) {
            Some(process) => Ok(process.processes().clone()),
            None => self.manager.upgrade().ok_or_else(|| {
                CallError::new(ErrorKind::Unavailable, "there are no processes any more")
                    .with_retryable(false)
            }),
        }
    }

    pub(super) fn cancel(
        &self,
        ctx: &Ctx,
        to: &str,
        reason: &str,
        grace: Option<Duration>,
    ) -> Result<(), CallError> {
        let (manager, pid) = self.own(ctx, to, "cancel")?;
        // It is kept, and logged.
        let reason = &reason[..reason.floor_char_boundary(LONGEST)];
        Ok(manager.cancel(pid, reason, grace.unwrap_or(Duration::MAX))?)
    }

    pub(super) fn terminate(&self, ctx: &Ctx, to: &str) -> Result<(), CallError> {
        let (manager, pid) = self.own(ctx, to, "terminate")?;
        Ok(manager.terminate(pid)?)
    }

    pub(super) fn monitor(&self, ctx: &Ctx, other: &str) -> Result<(), CallError> {
        let process = process(ctx, "monitor")?;
        let (_, pid) = self.own(ctx, other, "monitor")?;
        Ok(process.monitor(pid)?)
    }

    pub(super) fn demonitor(ctx: &Ctx, other: &str) -> Result<bool, CallError> {
        let process = process(ctx, "demonitor")?;
        Ok(match destination(other)? {
            Destination::Pid(pid) => process.demonitor(pid),
            Destination::Name(name) => {
                process.processes().whereis(&name).is_some_and(|pid| process.demonitor(pid))
            }
        })
    }

    pub(super) fn link(&self, ctx: &Ctx, other: &str) -> Result<(), CallError> {
        let process = process(ctx, "link")?;
        let (_, pid) = self.own(ctx, other, "link to")?;
        Ok(process.link(pid)?)
    }

    pub(super) fn unlink(&self, ctx: &Ctx, other: &str) -> Result<(), CallError> {
        let process = process(ctx, "unlink")?;
        let (_, pid) = self.own(ctx, other, "end a link to")?;
        process.unlink(pid);
        Ok(())
    }

    pub(super) fn trap_links(ctx: &Ctx, traps: bool) -> Result<(), CallError> {
        process(ctx, "trap-links")?.trap_links(traps);
        Ok(())
    }

    pub(super) fn register(ctx: &Ctx, name: &str) -> Result<(), CallError> {
        let process = process(ctx, "register")?;
        Ok(process.processes().register_name(name, process.pid())?)
    }

    pub(super) fn unregister(&self, ctx: &Ctx, name: &str) -> Result<bool, CallError> {
        let manager = self.manager(ctx)?;
        let Some(pid) = manager.whereis(name) else { return Ok(false) };
        self.check_own(&manager, ctx, pid, "take a name from")?;
        // Another may have it by now, of which nothing is checked.
        Ok(manager.unregister_name_of(name, pid))
    }

    pub(super) fn whereis(&self, ctx: &Ctx, name: &str) -> Result<Option<Pid>, CallError> {
        Ok(self.manager(ctx)?.whereis(name))
    }

    /// A process that the guest may do more to than send.
    fn own(&self, ctx: &Ctx, process: &str, to_do: &str) -> Result<(ProcessManager, Pid), CallError> {
        let manager = self.manager(ctx)?;
        let pid = match destination(process)? {
            Destination::Pid(pid) => pid,
            Destination::Name(name) => manager
                .whereis(&name)
                .ok_or_else(|| ProcessError::Unknown { process: Destination::Name(name).to_string() })?,
        };
        self.check_own(&manager, ctx, pid, to_do)?;
        Ok((manager, pid))
    }

    fn check_own(&self, manager: &ProcessManager, ctx: &Ctx, pid: Pid, to_do: &str) -> Result<(), CallError> {
        // What `ProcessManager::start` takes for the parent.
        let guest = ctx.frame().get(&PID).copied();
        if self.is_trusted || guest == Some(pid) || (guest.is_some() && manager.parent(pid) == guest) {
            return Ok(());
        }
        let message = format!("this component may not {to_do} {pid}, which it did not start");
        Err(CallError::new(ErrorKind::Denied, message))
    }
}

/// The process that the guest is, for what only one can do.
pub(super) fn process(ctx: &Ctx, function: &str) -> Result<ProcessCtx, CallError> {
    ProcessCtx::of(ctx).ok_or_else(|| {
        CallError::invalid(format!("`{function}` is for components that run as processes, not as functions"))
    })
}

pub(super) fn destination(text: &str) -> Result<Destination<'_>, CallError> {
    if text.len() > LONGEST_DESTINATION {
        return Err(CallError::invalid(format!("{} bytes are too long for a PID or a name", text.len())));
    }
    Destination::from_text(text).map_err(|error| {
        let kind = match error {
            PidError::UnknownHost { .. } => ErrorKind::NotFound,
            PidError::Malformed { .. } => ErrorKind::Invalid,
        };
        CallError::new(kind, error.to_string())
    })
}
