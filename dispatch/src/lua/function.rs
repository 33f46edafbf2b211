//! A script as a function.

use std::fmt;
use std::sync::Arc;

use futures_core::future::BoxFuture;

use super::config::LuaConfig;
use super::engine::{LuaEngine, LuaError};
use super::vm::Vm;
use crate::context::{CallContext, Function};
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pool::{Pool, PoolStatistics, Turn};
use crate::process::{Process, ProcessContext};
use crate::script::clock::{self, Notice};
use crate::script::{Quarantine, Unit};

/// A script as a function. Cloning it is one reference count: a clone that is kept tells what the registered one does.
#[derive(Clone)]
pub struct LuaFunction {
    inner: Arc<Inner>,
}

struct Inner {
    engine: LuaEngine,
    chunk: Box<str>,
    source: Arc<str>,
    config: LuaConfig,
    pool: Arc<Pool<Vm>>,
    unit: Arc<Unit>,
}

impl LuaFunction {
    pub(super) fn new(
        engine: LuaEngine,
        chunk: &str,
        source: Arc<str>,
        config: LuaConfig,
    ) -> Result<Self, LuaError> {
        let mut pool = config.pool;
        if config.fresh_vm {
            pool = pool.with_idle(0).with_warm(0);
        }
        if pool.warm == 0 {
            engine.checker().check(&config, chunk, &source)?;
        }
        let warm = (0..pool.warm)
            .map(|_| Vm::with_script(&engine, &config, chunk, &source))
            .collect::<Result<Vec<_>, _>>()?;
        let pool = Pool::new(pool, warm);
        let unit = Arc::new(Unit::new(format!("`{chunk}`")));
        let inner = Inner { engine, chunk: chunk.into(), source, config, pool, unit };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What its VMs do and have done.
    pub fn statistics(&self) -> PoolStatistics {
        self.inner.pool.statistics()
    }

    /// Returns the reason why its calls are refused, if it has held a thread of its engine's
    /// [runtime](super::LuaEngineBuilder::runtime) for too long.
    pub fn quarantine(&self) -> Option<Quarantine> {
        self.inner.unit.quarantine().cloned()
    }

    /// Its limits.
    pub fn config(&self) -> &LuaConfig {
        &self.inner.config
    }
}

impl Inner {
    async fn run(self: Arc<Self>, ctx: CallContext, payload: Payload) -> Result<Payload, CallError> {
        self.unit.admit()?;
        let mut turn = self.pool.turn(&ctx).await?;
        // It may have held a thread in the meantime, and the call may have ended.
        self.unit.admit()?;
        ctx.check()?;
        let ctx = turn.context(ctx).within(self.config.time);
        let bounds = ctx.clone();
        // On the heap, because what bounds it would move it several times.
        match self.engine.runtime().cloned() {
            Some(runtime) => {
                let in_turn = Box::pin(self.run_in_turn(turn, ctx.on_fresh_stack(), payload));
                bounds.bound_call(runtime.run(in_turn)).await
            }
            None => bounds.bound_call(Box::pin(self.run_in_turn(turn, ctx, payload))).await,
        }
    }

    /// Runs the script. The turn ends when this is done or dropped: with the thread that the script holds.
    async fn run_in_turn(
        self: Arc<Self>,
        mut turn: Turn<Vm>,
        ctx: CallContext,
        payload: Payload,
    ) -> Result<Payload, CallError> {
        let pid = ctx.unit();
        let build = || {
            let _slice = clock::enter(&self.unit, pid, Notice::Elsewhere);
            Vm::with_script(&self.engine, &self.config, &self.chunk, &self.source)
        };
        let vm = turn.instance(build).map_err(|error| {
            CallError::new(ErrorKind::Unavailable, "its VM could not be made").with_source(error)
        })?;
        let result = vm.run(&self.unit, &ctx, payload).await;
        if vm.is_reusable() {
            turn.give_back();
        }
        result
    }
}

impl Function for LuaFunction {
    fn call(&self, ctx: CallContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        Box::pin(Arc::clone(&self.inner).run(ctx, payload))
    }
}

/// A script as a process, which runs once and has a VM of its own as it does. It is bounded as a call is, its
/// [time](LuaConfig::time) and the [number](crate::PoolConfig::size) of those that run at once included:
/// [`LuaConfig::process`] is for those that shall live.
impl Process for LuaFunction {
    fn engine(&self) -> &'static str {
        "lua"
    }

    fn is_quarantined(&self) -> bool {
        self.quarantine().is_some()
    }

    fn run(&self, ctx: ProcessContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        self.call(ctx.into_ctx(), payload)
    }
}

impl fmt::Debug for LuaFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LuaFunction")
            .field("chunk", &self.inner.chunk)
            .field("config", &self.inner.config)
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}
