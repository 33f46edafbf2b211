//! What an embedding crate adds to the engine.

use wasmtime::component::Linker;
use wasmtime_wasi::WasiCtxBuilder;

use super::state::State;
use crate::context::CallContext;
use crate::error::CallError;

/// Interfaces that components can import, and what they need for each call.
///
/// Its functions get the [`State`] of the current call, and with it the frame that says what they may reach.
/// A panic in one of them is the failure of the call.
///
/// ```
/// use frame_dispatch::wasm::wasmtime::component::Linker;
/// use frame_dispatch::wasm::wasmtime::{self, StoreContextMut};
/// use frame_dispatch::wasm::{HostModule, State, WasmEngine};
///
/// /// `app:counter/counter`, which counts for as long as a call lasts.
/// struct Counter;
///
/// #[derive(Default)]
/// struct Count(u32);
///
/// impl HostModule for Counter {
///     fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
///         linker.instance("app:counter/counter")?.func_wrap(
///             "next",
///             |mut store: StoreContextMut<'_, State>, (): ()| {
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
    fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()>;

    /// Prepares a call, before anything of the guest runs: once each call of each component, so it should cost little.
    /// What only some calls need is better made in [`State::slot`].
    ///
    /// # Errors
    ///
    /// What the call shall fail with; the guest then does not run.
    fn prepare(&self, state: &mut State) -> Result<(), CallError> {
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
