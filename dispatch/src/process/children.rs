//! What scripts and components may do with the children of dynamic supervisors.
//!
//! A guest may start a child where it may start a process, and stop those children that it started itself.

use tokio::time::timeout;

use super::entry::EntryId;
use super::guest::{Access, check_length, pid};
use super::supervisor::{ControlError, DynamicChild, StartedChild, SupervisorHandle, Which};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};

impl Access {
    /// Starts a child. Waits until the supervisor runs, if that is about to start, for as long as a call waits for its reply.
    pub(crate) async fn start_child(
        &self,
        ctx: &CallContext,
        supervisor: &str,
        child: DynamicChild,
    ) -> Result<StartedChild, CallError> {
        let handle = self.supervisor(ctx, supervisor)?;
        let patience = self.manager(ctx)?.config().call_timeout;
        // Whether it runs is seen below.
        let _ = timeout(patience, handle.ready()).await;
        let started = if self.is_trusted() {
            handle.start_child(ctx, child).await
        } else {
            handle.start_child_of_guest(ctx, child).await
        };
        started.map_err(|error| control_error(error, supervisor))
    }

    /// Stops a child, given by its PID or its id.
    pub(crate) async fn stop_child(
        &self,
        ctx: &CallContext,
        supervisor: &str,
        child: &str,
    ) -> Result<(), CallError> {
        let handle = self.supervisor(ctx, supervisor)?;
        check_length(child)?;
        let child =
            if child.starts_with('{') { Which::Process(pid(child)?) } else { Which::Id(child.into()) };
        let guest = if self.is_trusted() { None } else { ctx.unit() };
        if guest.is_none() && !self.is_trusted() {
            return Err(control_error(child.unknown(), supervisor));
        }
        handle.stop_child_of_guest(guest, child).await.map_err(|error| control_error(error, supervisor))
    }

    fn supervisor(&self, ctx: &CallContext, id: &str) -> Result<SupervisorHandle, CallError> {
        check_length(id)?;
        let parsed: EntryId =
            id.parse().map_err(|error: frame_registry::IdError| CallError::invalid(error.to_string()))?;
        let found = self.manager(ctx)?.supervisor(&parsed);
        found.ok_or_else(|| CallError::new(ErrorKind::NotFound, format!("there is no supervisor `{parsed}`")))
    }
}

/// What a guest is told. It is not told what caused the refusal of a resolver or a handler.
fn control_error(error: ControlError, supervisor: &str) -> CallError {
    match error {
        ControlError::NotStarted { source, .. } => source.without_causes(),
        ControlError::NotRunning | ControlError::ShuttingDown => {
            CallError::new(ErrorKind::Unavailable, format!("the supervisor `{supervisor}` does not run"))
        }
        ControlError::UnknownChild { .. } | ControlError::UnknownProcess { .. } => {
            let message = format!("the supervisor `{supervisor}` has no such child that was started here");
            CallError::new(ErrorKind::NotFound, message)
        }
        error => error.into(),
    }
}
