//! The interface `timers` of `wit/timers.wit`.

use std::time::Duration;

use super::host::{Given, given};
use crate::process::guest::{process, timer_ref};
use crate::wasm::bindings::frame::function::{timers, types};
use crate::wasm::state::State;

impl timers::Host for State {
    fn send_after(&mut self, time_ms: u64, payload: types::Payload) -> Given<String> {
        let (process, payload) = (process(self.ctx(), "send-after"), self.message(payload));
        given((|| Ok(process?.send_after(Duration::from_millis(time_ms), payload?)?.to_string()))())
    }

    fn send_every(&mut self, period_ms: u64, payload: types::Payload) -> Given<String> {
        let (process, payload) = (process(self.ctx(), "send-every"), self.message(payload));
        given((|| Ok(process?.send_every(Duration::from_millis(period_ms), payload?)?.to_string()))())
    }

    fn cancel(&mut self, timer: String) -> Given<bool> {
        let process = process(self.ctx(), "cancel");
        given((|| Ok(process?.cancel_timer(timer_ref(&timer)?)))())
    }
}
