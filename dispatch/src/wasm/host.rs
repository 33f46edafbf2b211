//! The interfaces that guests import: those of `wit/function.wit`, and those that a [`HostModule`] adds.

use tracing::Level;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::WasiCtxBuilder;

use super::bindings::frame::function::{frame, functions, log, types};
use super::convert::{self, from_guest, to_guest};
use super::json::JsonBudget;
use super::state::GuestState;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::FunctionId;
use crate::task::Task;

/// Interfaces that components can import, and what they need for each call.
///
/// Its functions get the [`GuestState`] of the current call, and with it the frame that says what they may reach.
/// A panic in one of them is the failure of the call.
///
/// ```
/// use frame_dispatch::wasm::wasmtime::component::Linker;
/// use frame_dispatch::wasm::wasmtime::{self, StoreContextMut};
/// use frame_dispatch::wasm::{HostModule, GuestState, WasmEngine};
///
/// /// `app:counter/counter`, which counts for as long as a call lasts.
/// struct Counter;
///
/// #[derive(Default)]
/// struct Count(u32);
///
/// impl HostModule for Counter {
///     fn link(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
///         linker.instance("app:counter/counter")?.func_wrap(
///             "next",
///             |mut store: StoreContextMut<'_, GuestState>, (): ()| {
///                 let Count(count) = store.data_mut().slot();
///                 *count += 1;
///                 Ok((*count,))
///             },
///         )
///     }
/// }
///
/// let engine = WasmEngine::builder().module(Counter).build()?;
/// # Ok::<(), frame_dispatch::wasm::WasmError>(())
/// ```
pub trait HostModule: Send + Sync + 'static {
    /// Adds its interfaces. It may replace those that are there, which are [those of WASI](super) and those of modules
    /// before it.
    ///
    /// # Errors
    ///
    /// What `linker` fails with; the engine is then not built.
    fn link(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()>;

    /// Prepares a call, before anything of the guest runs: once each call of each component, so it should cost little.
    /// What only some calls need is better made in [`GuestState::slot`].
    ///
    /// # Errors
    ///
    /// What the call shall fail with; the guest then does not run.
    fn prepare(&self, state: &mut GuestState) -> Result<(), CallError> {
        let _ = state;
        Ok(())
    }

    /// Says what a call may reach through WASI, such as directories that its frame names. Asked only where the
    /// component imports WASI; `wasi` starts with nothing at all.
    ///
    /// # Errors
    ///
    /// What the call shall fail with; the guest then does not run.
    fn wasi(&self, ctx: &CallContext, wasi: &mut WasiCtxBuilder) -> Result<(), CallError> {
        let _ = (ctx, wasi);
        Ok(())
    }
}

/// Adds the interfaces of functions. Those of processes are added by a module.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    functions::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
    frame::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
    log::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
}

impl types::Host for GuestState {}

impl functions::Host for GuestState {
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

impl frame::Host for GuestState {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        // What does not serialise is the app's mistake. The guest cannot go on as if there was nothing.
        Ok(self.ctx().frame().public(&name).transpose()?.map(|value| value.to_string()))
    }
}

impl log::Host for GuestState {
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
            convert::options(text, &format!("`{}`", task.function()), &mut JsonBudget::new(json_memory))?;
        task = task.with_options(options);
    }
    Ok(task)
}
