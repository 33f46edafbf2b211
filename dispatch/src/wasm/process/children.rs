//! The interface `supervisors` of `wit/supervisor.wit`.

use wasmtime::Result as Trappable;

use super::host::given;
use crate::error::{CallError, ErrorKind};
use crate::process::supervisor::{DynamicChild, Restart};
use crate::wasm::bindings::frame::function::{supervisors, types};
use crate::wasm::convert::{self, from_guest_within};
use crate::wasm::json::Budget;
use crate::wasm::state::State;

impl supervisors::Host for State {
    async fn start_child(
        &mut self,
        supervisor: String,
        child: supervisors::Child,
    ) -> Trappable<Result<supervisors::StartedChild, types::Error>> {
        let (access, ctx) = self.processes()?;
        let child = take(child, &supervisor, self.json_memory);
        given(
            self.waiting(async {
                let started = access.start_child(&ctx, &supervisor, child?).await?;
                Ok(supervisors::StartedChild { id: started.id.to_string(), process: started.pid.to_string() })
            })
            .await,
        )
    }

    async fn stop_child(&mut self, supervisor: String, child: String) -> Trappable<Result<(), types::Error>> {
        let (access, ctx) = self.processes()?;
        given(self.waiting(access.stop_child(&ctx, &supervisor, &child)).await)
    }
}

/// How a child differs from what its supervisor says. All the JSON in it may take `json_memory` bytes together.
fn take(child: supervisors::Child, supervisor: &str, json_memory: usize) -> Result<DynamicChild, CallError> {
    let mut json = Budget::new(json_memory);
    let mut taken = DynamicChild::new();
    if let Some(payload) = child.payload {
        let payload = from_guest_within(payload, &mut json).map_err(|error| {
            error.into_error(&format!("the payload for a child of `{supervisor}` is"), ErrorKind::Invalid)
        })?;
        taken = taken.with_payload(payload);
    }
    if let Some(options) = &child.options {
        taken =
            taken.with_options(convert::options(options, &format!("a child of `{supervisor}`"), &mut json)?);
    }
    if let Some(name) = child.name {
        taken = taken.with_name(name);
    }
    Ok(match child.restart {
        Some(supervisors::Restart::Permanent) => taken.with_restart(Restart::Permanent),
        Some(supervisors::Restart::Transient) => taken.with_restart(Restart::Transient),
        Some(supervisors::Restart::Temporary) => taken.with_restart(Restart::Temporary),
        None => taken,
    })
}
