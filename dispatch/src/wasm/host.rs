//! The interfaces of `wit/function.wit` that a guest imports. That of `wit/process.wit` is a module's.

use tracing::Level;
use wasmtime::component::{HasSelf, Linker};

use super::bindings::frame::function::{frame, functions, log, types};
use super::convert::{self, from_guest, to_guest};
use super::json::Budget;
use super::state::State;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::FunctionId;
use crate::task::Task;

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    functions::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    frame::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    log::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

impl types::Host for State {}

impl functions::Host for State {
    async fn call(
        &mut self,
        id: String,
        payload: types::Payload,
        options: Option<String>,
    ) -> wasmtime::Result<Result<types::Payload, types::Error>> {
        let ctx = self.ctx().clone();
        let called = match task(&id, payload, options.as_deref(), self.json_memory) {
            Ok(task) => self.waiting(ctx.call(task)).await,
            Err(error) => Err(error),
        };
        Ok(called.map(to_guest).map_err(|error| (&error).into()))
    }
}

impl frame::Host for State {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        // What does not serialise is the app's mistake. The guest cannot go on as if there was nothing.
        Ok(self.ctx().frame().public(&name).transpose()?.map(|value| value.to_string()))
    }
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => Level::TRACE,
            log::Level::Debug => Level::DEBUG,
            log::Level::Info => Level::INFO,
            log::Level::Warn => Level::WARN,
            log::Level::Error => Level::ERROR,
        };
        self.log().write(level, None, &message, None);
        Ok(())
    }
}

/// The call that a guest wants made.
fn task(
    id: &str,
    payload: types::Payload,
    options: Option<&str>,
    json_memory: usize,
) -> Result<Task, CallError> {
    let id: FunctionId = id.parse().map_err(|error| CallError::invalid(format!("{error}")))?;
    let payload: Payload = from_guest(payload, json_memory)
        .map_err(|error| error.into_error(&format!("the payload for `{id}` is"), ErrorKind::Invalid))?;
    let mut task = Task::new(id).with_payload(payload);
    if let Some(text) = options {
        let options =
            convert::options(text, &format!("`{}`", task.function()), &mut Budget::new(json_memory))?;
        task = task.with_options(options);
    }
    Ok(task)
}
