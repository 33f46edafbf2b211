//! A component that can be called.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use tokio::task::yield_now;
use wasmtime::component::InstancePre;
use wasmtime::{Store, UpdateDeadline};

use super::bindings::ProcessPre;
use super::config::WasmConfig;
use super::convert::{from_guest, to_guest};
use super::engine::EngineShared;
use super::error::{self, WasmError};
use super::state::GuestState;
use super::wasi;
use crate::context::{CallContext, Function};
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pool::{Pool, PoolStatistics};
use crate::process::{Process, ProcessContext};
use crate::script::clock::{self, Notice};
use crate::script::{Quarantine, Unit};

/// A component as a function. Cloning it is one reference count, and clones share its turns: so keep one, to see its
/// [`statistics`](Self::statistics).
#[derive(Clone)]
pub struct WasmFunction {
    inner: Arc<FunctionInner>,
}

struct FunctionInner {
    engine: Arc<EngineShared>,
    /// What it exports is the same in both worlds.
    component: ProcessPre<GuestState>,
    imports_wasi: bool,
    config: WasmConfig,
    pool: Arc<Pool<()>>,
    unit: Arc<Unit>,
}

impl WasmFunction {
    pub(crate) fn new(
        engine: Arc<EngineShared>,
        instance: InstancePre<GuestState>,
        config: WasmConfig,
    ) -> Result<Self, WasmError> {
        let component = instance.component();
        if component.component_type().get_export(&engine.engine, "run").is_none() {
            return Err(WasmError::Export { reason: "it exports no `run`".to_owned() });
        }
        if let Some(required) = component.resources_required() {
            const PAGE: u64 = 64 << 10;
            let memory = required.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE);
            at_most("bytes of memory", memory, config.memory)?;
            at_most("table elements", required.max_initial_table_size.unwrap_or(0), config.table_elements)?;
        }
        let imports_wasi = wasi::is_imported(component);
        let component =
            ProcessPre::new(instance).map_err(|error| WasmError::Export { reason: format!("{error:#}") })?;
        let pool = Pool::new(config.pool(), Vec::new());
        let unit = Arc::new(Unit::new("the component"));
        Ok(Self { inner: Arc::new(FunctionInner { engine, component, imports_wasi, config, pool, unit }) })
    }

    /// Returns its statistics. Each call has a new instance, which is dropped after the call.
    pub fn statistics(&self) -> PoolStatistics {
        self.inner.pool.statistics()
    }

    /// Returns the reason why its calls are refused, if it has held a thread of its engine's
    /// [runtime](super::WasmEngineBuilder::runtime) for too long.
    pub fn quarantine(&self) -> Option<Quarantine> {
        self.inner.unit.quarantine().cloned()
    }
}

impl Function for WasmFunction {
    fn call(&self, ctx: CallContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        Box::pin(self.inner.call(ctx, payload))
    }
}

/// A component as a process, in an instance of its own.
impl Process for WasmFunction {
    fn engine(&self) -> &'static str {
        "wasm"
    }

    fn is_quarantined(&self) -> bool {
        self.quarantine().is_some()
    }

    fn run(&self, ctx: ProcessContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        self.call(ctx.into_ctx(), payload)
    }
}

impl FunctionInner {
    async fn call(self: &Arc<Self>, ctx: CallContext, payload: Payload) -> Result<Payload, CallError> {
        self.unit.admit()?;
        let mut turn = self.pool.turn(&ctx).await?;
        let instance = self.engine.instances.turn_within(self.config.max_wait, &ctx).await?;
        // It may have held a thread in the meantime, and the call may have ended.
        self.unit.admit()?;
        ctx.check()?;
        let ctx = turn.context_with(&instance, ctx).within(self.config.time);
        let bounds = ctx.clone();
        turn.instance(|| Ok::<_, CallError>(()))?;
        let Some(runtime) = self.engine.runtime.clone() else {
            return bounds.bound_call(pin!(self.run(ctx, payload))).await;
        };
        let (inner, ctx) = (Arc::clone(self), ctx.on_fresh_stack());
        let run = async move {
            // They end with the thread that the component holds.
            let _turns = (turn, instance);
            let (unit, pid) = (Arc::clone(&inner.unit), ctx.unit());
            let mut run = pin!(inner.run(ctx, payload));
            poll_fn(|context| {
                let _slice = clock::enter(&unit, pid, Notice::Elsewhere);
                run.as_mut().poll(context)
            })
            .await
        };
        bounds.bound_call(runtime.run(Box::pin(run))).await
    }

    /// What the call runs in.
    fn store(&self, ctx: CallContext) -> Result<Store<GuestState>, CallError> {
        let mut state = GuestState::new(ctx, &self.config, self.engine.clock.run());
        for module in &self.engine.modules {
            module.prepare(&mut state)?;
        }
        if self.imports_wasi {
            let mut wasi = wasi::context(state.log());
            for module in &self.engine.modules {
                module.wasi(state.ctx(), &mut wasi)?;
            }
            state.set_wasi(wasi.build());
        }
        let mut store = Store::new(&self.engine.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_hostcall_fuel(self.config.payload);
        // At every tick of the clock it lets others run, which is when it can be ended, too. Tokio polls a task that wakes itself
        // before it looks at timers and sockets, which it does every so many polls only, and a guest's takes a whole tick. Its
        // own way to yield comes after that look.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            if store.data().limits.is_exceeded() {
                return Err(wasmtime::Error::msg("its resources take more memory than they may"));
            }
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(yield_now())))
        });
        Ok(store)
    }

    /// Runs the guest. Dropping the future unwinds its stack, and frees all that it has.
    async fn run(&self, ctx: CallContext, payload: Payload) -> Result<Payload, CallError> {
        let mut store = self.store(ctx)?;
        let payload = to_guest(payload);
        let returned = async {
            let instance = self.component.instantiate_async(&mut store).await?;
            instance.call_run(&mut store, &payload).await
        };
        let returned = returned.await;
        // A guest is ended at a tick of the clock, and may return before the next one.
        if returned.is_ok()
            && let Some(error) = error::resource_failure(&store.data().limits)
        {
            return Err(error);
        }
        match returned {
            Ok(Ok(payload)) => from_guest(payload, self.config.json_memory)
                .map_err(|error| error.into_error("its result is", ErrorKind::Internal)),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(error::guest_failure(&error, &store.data().limits, self.config.payload)),
        }
    }
}

fn at_most(what: &'static str, needed: u64, limit: usize) -> Result<(), WasmError> {
    let limit = limit as u64;
    if needed > limit { Err(WasmError::TooLarge { what, needed, limit }) } else { Ok(()) }
}

impl fmt::Debug for WasmFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FunctionInner { config, pool, .. } = &*self.inner;
        f.debug_struct("WasmFunction").field("config", config).field("pool", pool).finish_non_exhaustive()
    }
}
