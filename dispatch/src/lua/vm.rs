//! One Lua VM, with a script in it.

use std::ffi::{c_int, c_void};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use mlua::chunk::ChunkMode;
use mlua::ffi::{self, lua_Alloc, lua_Debug};
use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value};
use tokio::task::yield_now;

use super::compile::compile_script;
use super::config::LuaConfig;
use super::convert::{self, ConvertError};
use super::coroutine::{self, Stopped};
use super::engine::{LuaEngine, LuaError, vm_error};
use super::fault;
use super::module::ModuleBuilder;
use super::preempt::{self, Entered, Suspension};
use super::shared::Shared;
use super::watch::CallEnded;
use super::{base, host, os, protect, table, text};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::Pid;
use crate::script::clock::{self, Notice};
use crate::script::{Unit, leave_stalled_thread};

/// What part of its memory a VM may use between calls: one so many-th.
const CLEAN: usize = 4;

/// After so many calls a VM is thrown away, whatever it was used for.
const CALLS: u32 = 1 << 16;

/// A VM. One call runs in it at a time.
pub(super) struct Vm {
    lua: Lua,
    /// Runs or resumes the script's own coroutine.
    resume: Function,
    /// What that runs: given what makes the script, and the payload.
    body: Function,
    /// Makes the script of an environment. `None` until it is compiled.
    script: Option<Function>,
    shared: Arc<Shared>,
    calls: u32,
    is_reusable: bool,
}

impl Vm {
    /// A VM with the modules of `engine`, and the names of what scripts have beside those.
    pub(super) fn new(engine: &LuaEngine, config: &LuaConfig) -> Result<(Self, Vec<String>), LuaError> {
        let libraries = StdLib::COROUTINE | StdLib::TABLE | StdLib::STRING | StdLib::UTF8 | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new()).map_err(vm_error)?;
        preempt::prepare(&lua);
        let shared = Arc::new(Shared::new(&lua, config.memory, config.payload).map_err(vm_error)?);
        let libraries = lua.create_table().map_err(vm_error)?;
        let (resume, base) = own_libraries(&lua, &shared, &libraries).map_err(vm_error)?;
        let names = names(&base, &libraries).map_err(vm_error)?;
        for module in engine.modules() {
            let error = |source| LuaError::Module { module: module.name().to_owned(), source };
            let mut builder = ModuleBuilder::new(&lua, &shared).map_err(error)?;
            module.install(&mut builder).map_err(error)?;
            libraries.raw_set(module.name(), builder.finish()).map_err(error)?;
        }
        name_functions(&lua, &base, &libraries).map_err(vm_error)?;
        let body = prelude(&lua, &base, &libraries).map_err(vm_error)?;
        lua.set_memory_limit(config.memory).map_err(vm_error)?;
        watch_memory(&lua);
        let vm = Self { lua, resume, body, script: None, shared, calls: 0, is_reusable: false };
        Ok((vm, names))
    }

    /// How much it has in memory, once what is garbage is freed.
    pub(super) fn used_memory(&self) -> Result<usize, LuaError> {
        self.lua.gc_collect().map_err(vm_error)?;
        Ok(self.lua.used_memory())
    }

    /// A VM with a script.
    pub(super) fn with_script(
        engine: &LuaEngine,
        config: &LuaConfig,
        chunk: &str,
        source: &str,
    ) -> Result<Self, LuaError> {
        let (mut vm, _) = Self::new(engine, config)?;
        vm.script = Some(compile_script(&vm.lua, chunk, source)?);
        // What compiling left behind.
        vm.lua.gc_collect().map_err(vm_error)?;
        Ok(vm)
    }

    /// Runs the script of `unit`. The VM can be used again only if this ends, and [`is_reusable`](Self::is_reusable) says
    /// so.
    pub(super) async fn run(
        &mut self,
        unit: &Arc<Unit>,
        ctx: &CallContext,
        payload: Payload,
    ) -> Result<Payload, CallError> {
        self.is_reusable = false;
        let shared = Arc::clone(&self.shared);
        let _running = shared.watch.begin(ctx);
        let pid = ctx.unit();
        let given = {
            let _slice = (!convert::is_quick(&payload)).then(|| clock::enter(unit, pid, Notice::Elsewhere));
            if let Some(number) = convert::too_large_integer(&payload) {
                self.is_reusable = true;
                return Err(CallError::invalid(format!(
                    "the payload has the number {number}, which is larger than an integer of Lua; pass it as a string"
                )));
            }
            convert::give(&self.lua, &payload)
        };
        let result = match given {
            Ok(value) => {
                drop(payload);
                self.drive(unit, pid, value).await
            }
            Err(error) => Err(error),
        };
        // The result may be large, and there may be much garbage. Not every call pays for that.
        let is_quick = matches!(&result, Ok((true, value)) if !value.is_table() && !value.is_string())
            && self.lua.used_memory() <= self.shared.memory / CLEAN;
        let _slice = (!is_quick).then(|| clock::enter(unit, pid, Notice::Elsewhere));
        let (is_ordinary, result) = match result {
            Ok((true, value)) => (true, self.result(&value)),
            Ok((false, value)) => (true, Err(fault::take(&shared.watch, &value))),
            Err(error) => (false, Err(fault::take_error(&shared.watch, &error))),
        };
        self.calls += 1;
        self.is_reusable = is_ordinary && self.is_clean();
        result
    }

    /// Drives the script to its end: a slice each poll, and more only if what it waits for is there at once.
    async fn drive(&self, unit: &Arc<Unit>, pid: Option<Pid>, payload: Value) -> mlua::Result<(bool, Value)> {
        let _cancel = CancelOnDrop(&self.shared);
        let mut start = Some((self.body.clone(), self.script.clone(), payload));
        let result = poll_fn(|context| self.poll(unit, pid, &mut start, context)).await;
        leave_stalled_thread().await;
        result
    }

    fn poll(
        &self,
        unit: &Arc<Unit>,
        pid: Option<Pid>,
        start: &mut Option<(Function, Option<Function>, Value)>,
        context: &mut Context<'_>,
    ) -> Poll<mlua::Result<(bool, Value)>> {
        let mut began = None;
        loop {
            if self.shared.host.poll(context).is_pending() {
                return Poll::Pending;
            }
            // What is done at once, again and again, must not hold the thread.
            if began.is_some_and(|began: Instant| began.elapsed() >= clock::TICK) {
                wake_again(context);
                return Poll::Pending;
            }
            let (stopped, first, second) = match self.slice(unit, pid, start.take()) {
                Ok(stopped) => stopped,
                Err(error) => return Poll::Ready(Err(error)),
            };
            match stopped {
                Stopped::Done => return Poll::Ready(Ok((first.as_boolean() == Some(true), second))),
                Stopped::Failed => return Poll::Ready(Err(fault::raised(first))),
                Stopped::Suspended(Suspension::Waiting) => began = Some(began.unwrap_or_else(Instant::now)),
                Stopped::Suspended(_) => {
                    // What was suspended because its call has ended does not go on.
                    if self.shared.watch.is_ended() {
                        return Poll::Ready(Err(mlua::Error::external(CallEnded)));
                    }
                    wake_again(context);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Lets the script run until it stops.
    fn slice(
        &self,
        unit: &Arc<Unit>,
        pid: Option<Pid>,
        start: Option<(Function, Option<Function>, Value)>,
    ) -> mlua::Result<(Stopped, Value, Value)> {
        self.shared.watch.resume();
        let _slice = clock::enter(unit, pid, Notice::Signal).map_err(mlua::Error::external)?;
        let _entered = Entered::new(&self.shared);
        let (stopped, first, second) = match start {
            Some(start) => self.resume.call(start)?,
            None => self.resume.call(())?,
        };
        Ok((Stopped::from_number(stopped), first, second))
    }

    fn result(&self, value: &Value) -> Result<Payload, CallError> {
        let shared = &self.shared;
        shared.take(&self.lua, value, "the result", shared.payload).map_err(|error| match error {
            ConvertError::Lua(error) => fault::take_error(&shared.watch, &error),
            ConvertError::TooLarge(message) | ConvertError::NoRoom(message) => {
                CallError::new(ErrorKind::Exhausted, message).with_retryable(false)
            }
            unfit @ ConvertError::Unfit { .. } => CallError::new(ErrorKind::Internal, unfit.to_string()),
        })
    }

    #[cfg(test)]
    pub(super) const fn lua(&self) -> &Lua {
        &self.lua
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> std::sync::Weak<Shared> {
        Arc::downgrade(&self.shared)
    }

    /// Whether the last call left the VM fit for another.
    pub(super) const fn is_reusable(&self) -> bool {
        self.is_reusable
    }

    fn is_clean(&self) -> bool {
        let watch = &self.shared.watch;
        if watch.has_ended().is_some() || watch.is_exhausted() || self.calls >= CALLS {
            return false;
        }
        let most = self.shared.memory / CLEAN;
        self.lua.used_memory() <= most || (self.lua.gc_collect().is_ok() && self.lua.used_memory() <= most)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        release_memory(&self.lua);
    }
}

/// Drops what a host function waits for where the call is given up.
struct CancelOnDrop<'a>(&'a Shared);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.0.host.cancel();
    }
}

/// Wakes the task that is being polled. Tokio polls a task that wakes itself again before it looks at timers and sockets, which
/// it does every so many polls only; and a poll of a script takes a whole slice. This comes after that look.
fn wake_again(context: &mut Context<'_>) {
    let _ = pin!(yield_now()).poll(context);
}

/// Puts all libraries but the modules into `libraries`. Returns what resumes a script, and the basic functions.
fn own_libraries(lua: &Lua, shared: &Arc<Shared>, libraries: &Table) -> mlua::Result<(Function, Table)> {
    let library = |name: &str| {
        let library = lua.create_table()?;
        libraries.raw_set(name, &library)?;
        Ok::<_, mlua::Error>(library)
    };
    let resume = coroutine::install(lua, &library("coroutine")?)?;
    table::install(lua, &library("table")?)?;
    os::install(lua, &library("os")?, shared)?;
    let strings = library("string")?;
    text::install(lua, &strings)?;
    // What `("x"):rep(2)` finds. No script can reach the metatable.
    if let Some(metatable) = lua.type_metatable::<mlua::LuaString>() {
        metatable.raw_set("__index", strings)?;
        metatable.raw_set("__metatable", false)?;
    }
    for name in ["math", "utf8"] {
        libraries.raw_set(name, lua.globals().raw_get::<Table>(name)?)?;
    }
    let base = lua.create_table()?;
    protect::install(lua, &base, protect::recovering(lua)?)?;
    let (call, log) = host::install(lua, shared, &library("frame")?)?;
    libraries.raw_set("log", base::install(lua, &base, &shared.marks, &log)?)?;
    base.raw_set("call", call)?;
    base.raw_set("null", Value::NULL)?;
    base.raw_set("_VERSION", lua.globals().raw_get::<Value>("_VERSION")?)?;
    Ok((resume, base))
}

/// Lets Lua find the names of functions for its messages, where a function is called by `pcall` and has no name there.
fn name_functions(lua: &Lua, base: &Table, libraries: &Table) -> mlua::Result<()> {
    let loaded: Table = lua.named_registry_value("_LOADED")?;
    for pair in libraries.pairs::<Value, Value>() {
        let (name, library) = pair?;
        loaded.raw_set(name, library)?;
    }
    loaded.raw_set("_G", base)
}

/// What scripts have, by name.
fn names(base: &Table, libraries: &Table) -> mlua::Result<Vec<String>> {
    let names = base.pairs::<String, Value>().chain(libraries.pairs());
    let names = names.map(|pair| pair.map(|(name, _)| name));
    names.chain([Ok("_G".to_owned())]).collect()
}

/// Runs the prelude. Returns what a script's coroutine runs.
fn prelude(lua: &Lua, base: &Table, libraries: &Table) -> mlua::Result<Function> {
    let seed = lua.create_function(|_, ()| {
        let word = || getrandom::u64().map(u64::cast_signed).map_err(mlua::Error::external);
        Ok((word()?, word()?))
    })?;
    let prelude = lua.load(include_str!("prelude.lua")).set_name("=[frame]").set_mode(ChunkMode::Text);
    let environment: Table = prelude.call((base, libraries, seed))?;
    protect::body(lua, &environment)
}

/// About how many bytes a call takes on the stack, with what Lua knows of it.
const CALL: usize = 150;

/// The allocator of `mlua`, which counts and limits what a VM uses. It is the same for all.
static STOCK: OnceLock<lua_Alloc> = OnceLock::new();

/// Notes why memory ran out, from now on. Lua says "not enough memory" also if functions call each other until no memory is
/// left, and has unwound the stack before a script or the host sees the error.
/// [`release_memory`] has to be called before the VM is closed.
#[allow(unsafe_code)]
pub(super) fn watch_memory(lua: &Lua) {
    // SAFETY: The allocator is called with the data that the one before it was called with.
    lua.exec_raw_lua(|raw| unsafe {
        let mut data = ptr::null_mut();
        let stock = ffi::lua_getallocf(raw.state(), &raw mut data);
        if ptr::fn_addr_eq(*STOCK.get_or_init(|| stock), stock) {
            ffi::lua_setallocf(raw.state(), allocate, data);
        }
    });
}

/// Gives the VM back the allocator that it was made with, by which `mlua` knows it when it closes the VM.
#[allow(unsafe_code)]
pub(super) fn release_memory(lua: &Lua) {
    // SAFETY: As above.
    lua.exec_raw_lua(|raw| unsafe {
        let mut data = ptr::null_mut();
        ffi::lua_getallocf(raw.state(), &raw mut data);
        if let Some(stock) = STOCK.get() {
            ffi::lua_setallocf(raw.state(), *stock, data);
        }
    });
}

/// The allocator, with a look at where the script is when it fails.
#[allow(unsafe_code)]
unsafe extern "C" fn allocate(data: *mut c_void, block: *mut c_void, old: usize, new: usize) -> *mut c_void {
    let Some(stock) = STOCK.get() else { return ptr::null_mut() };
    // SAFETY: Lua calls this as it would call the other.
    let block = unsafe { stock(data, block, old, new) };
    if block.is_null() && new > 0 {
        note_failure();
    }
    block
}

#[cold]
#[allow(unsafe_code)]
fn note_failure() {
    let state = preempt::running();
    if state.is_null() {
        return;
    }
    preempt::with_shared(|shared| {
        let deep = c_int::try_from(shared.memory / 4 / CALL).unwrap_or(c_int::MAX);
        let mut activation = std::mem::MaybeUninit::<lua_Debug>::uninit();
        // SAFETY: The coroutine is the one that runs, whose calls are linked in a list at any time; this only walks it.
        let is_deep = unsafe { ffi::lua_getstack(state, deep, activation.as_mut_ptr()) != 0 };
        shared.watch.note_overflow(is_deep);
    });
}
