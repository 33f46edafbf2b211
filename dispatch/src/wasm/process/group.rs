//! The interface `groups` of `wit/groups.wit`.

use super::host::{Given, given};
use crate::process::Published;
use crate::wasm::bindings::frame::function::{groups, types};
use crate::wasm::state::State;

impl groups::Host for State {
    fn join(&mut self, group: String, host: Option<String>) -> Given<bool> {
        let (access, ctx) = self.processes()?;
        given(access.join(&ctx, &group, host.as_deref()))
    }

    fn leave(&mut self, group: String, host: Option<String>) -> Given<bool> {
        let (access, ctx) = self.processes()?;
        given(access.leave(&ctx, &group, host.as_deref()))
    }

    fn watch(&mut self, group: String, host: Option<String>) -> Given<bool> {
        let (access, ctx) = self.processes()?;
        given(access.watch_group(&ctx, &group, host.as_deref()))
    }

    fn unwatch(&mut self, group: String, host: Option<String>) -> Given<bool> {
        let (access, ctx) = self.processes()?;
        given(access.unwatch_group(&ctx, &group, host.as_deref()))
    }

    fn members(&mut self, group: String, host: Option<String>) -> Given<Vec<String>> {
        let (access, ctx) = self.processes()?;
        given(access.members(&ctx, &group, host.as_deref()))
    }

    async fn publish(
        &mut self,
        group: String,
        host: Option<String>,
        payload: types::Payload,
    ) -> Given<groups::Published> {
        let (access, ctx) = self.processes()?;
        let payload = self.message(payload);
        given(
            self.waiting(async {
                let (manager, group) = access.group(&ctx, &group, host.as_deref())?;
                let Published { delivered, full, .. } = manager.publish(&ctx, &group, payload?).await;
                let count = |members| u32::try_from(members).unwrap_or(u32::MAX);
                Ok(groups::Published { delivered: count(delivered), full: count(full) })
            })
            .await,
        )
    }
}
