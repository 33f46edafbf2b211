//! One Lua VM, with a script in it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use mlua::{ChunkMode, Lua, LuaOptions, StdLib, Table, Value};

use super::config::LuaConfig;
use super::convert::{ConvertError, Marks, Shared};
use super::engine::{LuaEngine, LuaError};
use super::fault::{self, Failures};
use super::hook;
use super::host;
use super::module::ModuleBuilder;
use super::text;
use super::watch::Watch;
use crate::ctx::Ctx;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;

/// After so many calls a VM is thrown away, whatever it was used for.
const CALLS: u32 = 1 << 16;

/// A VM. One call runs in it at a time.
pub(super) struct Vm {
    lua: Lua,
    /// Runs a script: it is given the script and the payload.
    run: mlua::Function,
    /// Makes the script of an environment; none until it is compiled.
    script: Option<mlua::Function>,
    shared: Arc<Shared>,
    calls: u32,
    is_reusable: bool,
}

impl Vm {
    /// A VM with the modules of `engine`, and the names of what scripts have beside those.
    pub(super) fn new(engine: &LuaEngine, config: &LuaConfig) -> Result<(Self, Vec<String>), LuaError> {
        let libraries = StdLib::COROUTINE | StdLib::TABLE | StdLib::STRING | StdLib::UTF8 | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new()).map_err(vm_error)?;
        let (shared, natives) = natives(&lua, config).map_err(vm_error)?;
        let modules = lua.create_table().map_err(vm_error)?;
        for module in engine.modules() {
            let error = |source| LuaError::Module { module: module.name().to_owned(), source };
            let mut builder = ModuleBuilder::new(&lua, &shared).map_err(error)?;
            module.install(&mut builder).map_err(error)?;
            modules.raw_set(module.name(), builder.finish()).map_err(error)?;
        }
        let (run, names) = prelude(&lua, &natives, &modules).map_err(vm_error)?;
        lua.set_memory_limit(config.memory).map_err(vm_error)?;
        let vm = Self { lua, run, script: None, shared, calls: 0, is_reusable: false };
        Ok((vm, names))
    }

    /// A VM with a script.
    pub(super) fn with_script(
        engine: &LuaEngine,
        config: &LuaConfig,
        chunk: &str,
        source: &str,
    ) -> Result<Self, LuaError> {
        let (mut vm, _) = Self::new(engine, config)?;
        vm.script = Some(vm.compile(chunk, source)?);
        // What compiling left behind.
        vm.lua.gc_collect().map_err(vm_error)?;
        Ok(vm)
    }

    /// The script as a function of its environment. Every call makes the script anew, so that its functions share
    /// nothing with those of another call; the code is shared.
    fn compile(&self, chunk: &str, source: &str) -> Result<mlua::Function, LuaError> {
        let load = |source: &str| {
            let loaded =
                self.lua.load(source).set_name(format!("={chunk}")).set_mode(ChunkMode::Text).into_function();
            loaded.map_err(|error| match error {
                mlua::Error::SyntaxError { message, .. } => LuaError::Syntax { message },
                other => vm_error(other),
            })
        };
        // Alone, so that an error is one of the script itself, and it cannot end the function that is put around it.
        load(source)?;
        let script = load(&format!("local _ENV = ...; return function(...) {source}\nend"))?;
        Ok(script)
    }

    /// Runs the script. The VM can be used again only if this ends, and [`is_reusable`](Self::is_reusable) says so.
    pub(super) async fn run(&mut self, ctx: &Ctx, payload: Payload) -> Result<Payload, CallError> {
        self.is_reusable = false;
        let shared = Arc::clone(&self.shared);
        let _running = shared.watch.begin(ctx);
        let result = match self.start(&payload) {
            Ok(thread) => {
                drop(payload);
                self.drive(thread).await
            }
            Err(error) => Err(error),
        };
        let (is_ordinary, result) = match result {
            Ok((true, value)) => (true, self.result(&value)),
            Ok((false, value)) => (true, Err(fault::take(&shared.watch, &value))),
            Err(error) => (false, Err(fault::take_error(&shared.watch, &error))),
        };
        self.calls += 1;
        self.is_reusable = is_ordinary && self.is_clean();
        result
    }

    fn start(&self, payload: &Payload) -> mlua::Result<mlua::AsyncThread<(bool, Value)>> {
        let payload = self.shared.marks.give(&self.lua, payload)?;
        let thread = self.lua.create_thread(self.run.clone())?;
        self.shared.watch.set_driver(thread.state().addr());
        thread.into_async((self.script.clone(), payload))
    }

    async fn drive(&self, thread: mlua::AsyncThread<(bool, Value)>) -> mlua::Result<(bool, Value)> {
        let watch = &self.shared.watch;
        let mut thread = pin!(thread);
        poll_fn(|waker| {
            watch.resume();
            match thread.as_mut().poll(waker) {
                Poll::Pending => {
                    // What was suspended because it is over does not go on.
                    if let Some(over) = watch.has_ended() {
                        return Poll::Ready(Err(over));
                    }
                    // If it was suspended with word that a host function waits on its way out of coroutines, then that
                    // was polled before, and what has woken it since has woken only the way out.
                    if watch.is_unpolled() {
                        waker.waker().wake_by_ref();
                    }
                    Poll::Pending
                }
                ready @ Poll::Ready(_) => ready,
            }
        })
        .await
    }

    fn result(&self, value: &Value) -> Result<Payload, CallError> {
        let shared = &self.shared;
        let room = shared.room(&self.lua).map_err(|error| fault::take_error(&shared.watch, &error))?;
        shared.marks.take(value, "the result", shared.payload, &shared.watch, room).map_err(|error| {
            match error {
                ConvertError::Lua(error) => fault::take_error(&shared.watch, &error),
                ConvertError::TooLarge(message) | ConvertError::NoRoom(message) => {
                    CallError::new(ErrorKind::Exhausted, message).with_retryable(false)
                }
                unfit @ ConvertError::Unfit { .. } => CallError::new(ErrorKind::Internal, unfit.to_string()),
            }
        })
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
        let most = self.shared.memory / 4;
        self.lua.used_memory() <= most || (self.lua.gc_collect().is_ok() && self.lua.used_memory() <= most)
    }
}

fn vm_error(error: mlua::Error) -> LuaError {
    LuaError::Vm { source: error }
}

/// What the prelude is made of.
fn natives(lua: &Lua, config: &LuaConfig) -> mlua::Result<(Arc<Shared>, Table)> {
    let watch = Arc::new(Watch::default());
    hook::install(lua, &watch)?;
    let marks = Marks::new(lua)?;
    let natives = lua.create_table()?;
    natives.raw_set("null", Value::NULL)?;
    natives.raw_set("array", &marks.array)?;
    natives.raw_set("bytes", &marks.bytes)?;
    let failures = Failures::new(lua)?;
    let shared = Arc::new(Shared { watch, marks, failures, memory: config.memory, payload: config.payload });

    let this = Arc::clone(&shared);
    let recover = lua.create_function(move |lua, error: Value| fault::recover(lua, &this, error))?;
    natives.raw_set("recover", recover)?;
    let watch = Arc::clone(&shared.watch);
    natives.raw_set("pause", lua.create_function(move |_, ()| watch.look())?)?;
    let watch = Arc::clone(&shared.watch);
    let suspended = lua.create_function(move |_, ()| {
        watch.note_suspended();
        Ok(())
    })?;
    natives.raw_set("note_suspended", suspended)?;
    let watch = Arc::clone(&shared.watch);
    let trace = lua.create_function(move |lua, ()| {
        // Above it are this function and the message handler.
        watch.note_trace(lua.traceback(None, 2)?.to_string_lossy());
        Ok(())
    })?;
    natives.raw_set("trace", trace)?;
    host::install(lua, &natives, &shared)?;
    text::install(lua, &natives, &shared)?;
    Ok((shared, natives))
}

/// Runs the prelude; gives what runs a script, and the names that it puts into an environment.
fn prelude(lua: &Lua, natives: &Table, modules: &Table) -> mlua::Result<(mlua::Function, Vec<String>)> {
    natives.raw_set("modules", modules)?;
    let prelude = lua.load(include_str!("prelude.lua")).set_name(format!("={}", fault::OWN));
    let made: Table = prelude.set_mode(ChunkMode::Text).call(natives)?;
    let names: Table = made.raw_get("names")?;
    let names = names.pairs::<String, bool>().map(|pair| pair.map(|(name, _)| name));
    Ok((made.raw_get("run")?, names.collect::<Result<_, _>>()?))
}
