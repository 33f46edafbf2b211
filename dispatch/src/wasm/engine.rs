//! The engine: what all components share.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::cache::{Cache, CacheKey};
use super::config::{ComponentLimits, WasmConfig, turns};
use super::epoch::EpochClock;
use super::error::WasmError;
use super::function::WasmFunction;
use super::host::{self, HostModule};
use super::state::GuestState;
use super::{inspect, wasi};
use crate::pool::Pool;
use crate::script::ScriptRuntime;

/// Compiles components, and holds what their calls run in: address space, stacks, the clock that interrupts them. Cloning it
/// is one reference count; a program needs one.
///
/// ```no_run
/// use frame_dispatch::Functions;
/// use frame_dispatch::wasm::{WasmConfig, WasmEngine};
/// use frame_registry::{App, Options};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = WasmEngine::builder().cache("/var/cache/app/components").build()?;
///
/// // It takes a while, so it is not done on a thread of the runtime.
/// let function = tokio::task::spawn_blocking({
///     let engine = engine.clone();
///     move || engine.function(&std::fs::read("hello.wasm")?, WasmConfig::default()).map_err(std::io::Error::other)
/// });
/// let functions = Functions::new(App::builder().build());
/// functions.register("app:hello".parse()?, Options::new(), function.await??)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct WasmEngine {
    inner: Arc<EngineShared>,
}

/// What a function needs of its engine.
pub(crate) struct EngineShared {
    pub(crate) engine: Engine,
    pub(crate) modules: Vec<Box<dyn HostModule>>,
    pub(crate) clock: EpochClock,
    /// Turns for all calls of all functions. A call holds one place of each pool of wasmtime's, so none of these runs out.
    pub(crate) instances: Arc<Pool<()>>,
    /// What components run on, unless that is the thread of the caller.
    pub(crate) runtime: Option<ScriptRuntime>,
    linker: Linker<GuestState>,
    cache: Option<Cache>,
    table_elements: usize,
    component_limits: ComponentLimits,
}

impl WasmEngine {
    /// An engine without host modules, that does not keep what it compiles.
    ///
    /// # Errors
    ///
    /// As [`WasmEngineBuilder::build`].
    pub fn new() -> Result<Self, WasmError> {
        Self::builder().build()
    }

    /// An engine to be configured.
    pub fn builder() -> WasmEngineBuilder {
        WasmEngineBuilder::default()
    }

    /// Makes a function of a component in its binary form, which can be started as a process, too. It has to be one of the
    /// world `frame:function/function` or `frame:function/process`, see [the module](super).
    ///
    /// Compiling takes long, on all processors: milliseconds for a small component, seconds for one that carries an
    /// interpreter. So call this on a thread that may block, as with tokio's `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// [`WasmError::NotAComponent`], [`WasmError::Compile`], [`WasmError::Import`] or [`WasmError::Export`] by what is
    /// wrong with it; [`WasmError::TooLarge`] if it starts with more than `config` or the engine allows, and
    /// [`WasmError::TooComplex`] if it is more than the engine [compiles](WasmEngineBuilder::component_limits).
    pub fn function(&self, component: &[u8], config: WasmConfig) -> Result<WasmFunction, WasmError> {
        self.function_with(component, config, || ())
    }

    /// Makes a function as [`function`](Self::function) does, and calls `compiling` before it compiles the component. A component
    /// whose code is in the [cache](WasmEngineBuilder::cache) is not compiled.
    ///
    /// ```no_run
    /// # use frame_dispatch::wasm::{WasmConfig, WasmEngine};
    /// # fn example(component: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    /// let engine = WasmEngine::builder().cache("/var/cache/app/components").build()?;
    /// let function = engine.function_with(component, WasmConfig::default(), || eprintln!("compiling"))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`function`](Self::function).
    pub fn function_with(
        &self,
        component: &[u8],
        config: WasmConfig,
        compiling: impl FnOnce(),
    ) -> Result<WasmFunction, WasmError> {
        let shared = &self.inner;
        if config.table_elements > shared.table_elements {
            return Err(WasmError::TooLarge {
                what: "table elements",
                needed: config.table_elements as u64,
                limit: shared.table_elements as u64,
            });
        }
        let component = shared.compile(component, compiling)?;
        let instance = shared
            .linker
            .instantiate_pre(&component)
            .map_err(|error| WasmError::Import { reason: format!("{error:#}") })?;
        WasmFunction::new(Arc::clone(shared), instance, config)
    }
}

impl EngineShared {
    fn compile(&self, bytes: &[u8], compiling: impl FnOnce()) -> Result<Component, WasmError> {
        match bytes {
            [0, b'a', b's', b'm', _, _, 1, 0, ..] => (),
            [0, b'a', b's', b'm', ..] => {
                let found = "it is a core module; make a component of it with `wasm-tools component new`";
                return Err(WasmError::NotAComponent { found });
            }
            _ => {
                return Err(WasmError::NotAComponent { found: "its first bytes are not `\\0asm`" });
            }
        }
        let compile = || {
            inspect::inspect(bytes, &self.component_limits)?;
            compiling();
            Component::from_binary(&self.engine, bytes)
                .map_err(|error| WasmError::Compile { reason: format!("{error:#}") })
        };
        let Some(cache) = &self.cache else { return compile() };
        let key = CacheKey::new(&self.engine, &self.component_limits, bytes);
        if let Some(component) = cache.load(&self.engine, &key) {
            return Ok(component);
        }
        let component = compile()?;
        cache.store(&key, &component);
        Ok(component)
    }
}

impl fmt::Debug for WasmEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EngineShared { instances, cache, .. } = &*self.inner;
        f.debug_struct("WasmEngine")
            .field("instances", instances)
            .field("cache", cache)
            .finish_non_exhaustive()
    }
}

/// An engine to be built.
#[must_use = "it does nothing until it is built"]
pub struct WasmEngineBuilder {
    modules: Vec<Box<dyn HostModule>>,
    cache: Option<PathBuf>,
    runtime: Option<ScriptRuntime>,
    instances: u32,
    core_instances: u32,
    memories: u32,
    memory_reservation: usize,
    tables: u32,
    table_elements: usize,
    component_limits: ComponentLimits,
}

impl Default for WasmEngineBuilder {
    fn default() -> Self {
        Self {
            modules: Vec::new(),
            cache: None,
            runtime: None,
            instances: 256,
            core_instances: 32,
            memories: 4,
            memory_reservation: LARGEST_MEMORY,
            tables: 8,
            table_elements: 20_000,
            component_limits: ComponentLimits::default(),
        }
    }
}

impl WasmEngineBuilder {
    /// Adds interfaces that components can import.
    pub fn module(mut self, module: impl HostModule) -> Self {
        self.modules.push(Box::new(module));
        self
    }

    /// Keeps what is compiled in `directory`, for this process and others to come. It is made, for this user alone, if it is
    /// not there. Compiled components are never removed from it; files that a killed program has left half-written are, after
    /// an hour.
    ///
    /// What is in the directory is run as it is. So on Unix it, and every directory above it, must belong to this user or
    /// to root, and no one else may write to it, unless to one above it that is sticky, as `/tmp` is; elsewhere, see to
    /// that. Default: nothing is kept.
    pub fn cache(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache = Some(directory.into());
        self
    }

    /// Runs the components on the threads of `runtime`, which quarantines a component that holds one for too long. Default: a
    /// component runs on the thread that polls its caller.
    pub fn runtime(mut self, runtime: ScriptRuntime) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// How many calls run at once, of all functions together; at least one. Further calls wait, as for the turn of
    /// their function. If no instance is free, a call whose own callers hold one is refused at once.
    /// Each instance takes address space for its memories, 4 GiB for each that a component may have, and no more than that
    /// until it runs. Default: 256.
    ///
    /// A process takes one for as long as it lives. One that is started where there is none waits for it, no longer than
    /// its [`max_wait`](WasmConfig::max_wait), and then fails with
    /// [`Exhausted`](crate::ErrorKind::Exhausted). So that processes leave something for calls, give them an engine of their
    /// own, or their hosts room for [fewer](crate::process::HostConfig::processes).
    pub const fn instances(mut self, instances: u32) -> Self {
        self.instances = instances;
        self
    }

    /// How many core instances a component may consist of. Default: 32.
    pub const fn core_instances(mut self, core_instances: u32) -> Self {
        self.core_instances = core_instances;
        self
    }

    /// How many linear memories a component may have. Default: 4.
    pub const fn memories(mut self, memories: u32) -> Self {
        self.memories = memories;
        self
    }

    /// Sets how many bytes of address space each linear memory has, in whole pages of 64 KiB: at least one, and at most 4 GiB. No
    /// memory grows past it. With less than 4 GiB the code of components checks the bounds of each access, which makes it
    /// slower. An engine takes this for each of its [memories](Self::memories), for each of its
    /// [instances](Self::instances), so set it where address space is limited, as with `ulimit -v`. Default: 4 GiB.
    pub const fn memory_reservation(mut self, bytes: usize) -> Self {
        self.memory_reservation = bytes;
        self
    }

    /// How many tables a component may have. Default: 8.
    pub const fn tables(mut self, tables: u32) -> Self {
        self.tables = tables;
        self
    }

    /// The most that [`WasmConfig::table_elements`] can be. Default: 20 000.
    pub const fn table_elements(mut self, table_elements: usize) -> Self {
        self.table_elements = table_elements;
        self
    }

    /// Sets the limits of what a component may take to be compiled.
    pub const fn component_limits(mut self, limits: ComponentLimits) -> Self {
        self.component_limits = limits;
        self
    }

    /// The engine. Starts the thread of its clock, which ends with the last clone of the engine, and of the functions
    /// that it made.
    ///
    /// # Errors
    ///
    /// [`WasmError::Engine`] if this machine does not have what it takes, [`WasmError::Module`] if a module cannot be
    /// linked, and [`WasmError::Cache`] if another user could write to the directory, or it cannot be made.
    pub fn build(self) -> Result<WasmEngine, WasmError> {
        let failed = |reason: String| WasmError::Engine { reason };
        let cache = self.cache.as_deref().map(Cache::open).transpose()?;
        let engine = Engine::new(&self.config()).map_err(|error| failed(format!("{error:#}")))?;
        let linker =
            self.linker(&engine).map_err(|error| WasmError::Module { reason: format!("{error:#}") })?;
        let clock = EpochClock::start(engine.clone())
            .map_err(|error| failed(format!("its clock cannot be started: {error}")))?;
        let shared = EngineShared {
            // How long a call waits for one is up to its function.
            instances: Pool::of(
                "the engine's instances",
                turns(self.instances as usize, Duration::MAX),
                Vec::new(),
            ),
            runtime: self.runtime,
            modules: self.modules,
            table_elements: self.table_elements,
            component_limits: self.component_limits,
            engine,
            clock,
            linker,
            cache,
        };
        Ok(WasmEngine { inner: Arc::new(shared) })
    }

    fn config(&self) -> Config {
        let instances = self.instances.max(1);
        let each = |count: u32| instances.saturating_mul(count);
        let mut pooling = PoolingAllocationConfig::new();
        pooling
            .total_component_instances(instances)
            .total_stacks(instances)
            .total_core_instances(each(self.core_instances))
            .total_memories(each(self.memories))
            .total_tables(each(self.tables))
            .max_core_instances_per_component(self.core_instances)
            .max_memories_per_component(self.memories)
            .max_tables_per_component(self.tables)
            .max_memories_per_module(self.memories)
            .max_tables_per_module(self.tables)
            .table_elements(self.table_elements)
            // Clearing what a small guest has used takes less time than handing it back to the system and getting it again.
            .linear_memory_keep_resident(RESIDENT)
            .table_keep_resident(RESIDENT);
        let reservation = (self.memory_reservation / PAGE * PAGE).clamp(PAGE, LARGEST_MEMORY);
        let mut config = Config::new();
        if reservation < LARGEST_MEMORY {
            pooling.max_memory_size(reservation);
            // Guards of many megabytes are of use only where accesses are not checked.
            config
                .memory_reservation(reservation as u64)
                .memory_guard_size(PAGE as u64)
                .guard_before_linear_memory(false);
        }
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling))
            .epoch_interruption(true)
            // No guest runs two things at once.
            .concurrency_support(false);
        config
    }

    fn linker(&self, engine: &Engine) -> wasmtime::Result<Linker<GuestState>> {
        let mut linker = Linker::new(engine);
        host::link(&mut linker)?;
        wasi::link(&mut linker)?;
        linker.allow_shadowing(true);
        for module in &self.modules {
            module.link(&mut linker)?;
        }
        Ok(linker)
    }
}

/// A page of a linear memory, and all that its addresses reach.
const PAGE: usize = 64 << 10;
const LARGEST_MEMORY: usize = 4 << 30;

/// How many bytes of a memory or a table stay with an instance that no call uses.
const RESIDENT: usize = 64 << 10;

impl fmt::Debug for WasmEngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmEngineBuilder")
            .field("modules", &self.modules.len())
            .field("cache", &self.cache)
            .field("runtime", &self.runtime)
            .field("instances", &self.instances)
            .field("core_instances", &self.core_instances)
            .field("memories", &self.memories)
            .field("memory_reservation", &self.memory_reservation)
            .field("tables", &self.tables)
            .field("table_elements", &self.table_elements)
            .field("component_limits", &self.component_limits)
            .finish()
    }
}
