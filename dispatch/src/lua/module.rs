//! Modules that a host adds to what scripts have, and the values between scripts and modules.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use mlua::{FromLuaMulti, IntoLua, IntoLuaMulti, Lua, Table, Value};

use super::convert;
use super::host::Refusal;
use super::shared::Shared;
use super::{bridge, fault};
use crate::context::CallContext;
use crate::error::CallError;

/// A table of functions that scripts find under its name.
///
/// ```
/// use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaModule, ModuleBuilder, mlua};
/// use frame_dispatch::{CallContext, Functions, Task};
/// use frame_registry::{App, Options};
///
/// struct Clock;
///
/// impl LuaModule for Clock {
///     fn name(&self) -> &str {
///         "clock"
///     }
///
///     fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
///         module.function("has_deadline", |_, ctx: CallContext, ()| Ok(ctx.deadline().is_some()))?;
///         module.async_function("sleep", async |_: CallContext, milliseconds: u64| {
///             tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
///             Ok(())
///         })
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let engine = LuaEngine::builder().module(Clock).build()?;
/// let source = "clock.sleep(1) return clock.has_deadline()";
/// let function = engine.function("app.lua", source, LuaConfig::default())?;
///
/// let functions = Functions::new(App::builder().build());
/// functions.register("app:clock".parse()?, Options::new(), function)?;
/// let result = functions.root().call(Task::new("app:clock".parse()?)).await?;
/// assert_eq!(result.as_json(), Some(&true.into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait LuaModule: Send + Sync + 'static {
    /// What scripts find it under.
    fn name(&self) -> &str;

    /// Puts its functions into a VM: once for each, before a script runs in it.
    ///
    /// # Errors
    ///
    /// What stands in the way.
    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()>;
}

/// The table of a module, being filled. Every call of a script has its own copy.
///
/// A function is handed the [`CallContext`] of the call that it is called in. An error that is a
/// [`CallError`](crate::CallError), given with [`mlua::Error::external`], is raised as that of a failed call; any other
/// as its text, after the line of the script. A panic fails the call.
pub struct ModuleBuilder<'a> {
    lua: &'a Lua,
    table: Table,
    shared: &'a Arc<Shared>,
}

/// A value that is the same in every call.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Constant {
    /// A boolean.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A float.
    Number(f64),
    /// A string.
    Text(String),
}

impl<'a> ModuleBuilder<'a> {
    pub(super) fn new(lua: &'a Lua, shared: &'a Arc<Shared>) -> mlua::Result<Self> {
        Ok(Self { lua, table: lua.create_table()?, shared })
    }

    /// For modules of the crate, whose values are converted as those of `call` are.
    pub(super) const fn shared(&self) -> &Arc<Shared> {
        self.shared
    }

    pub(super) fn finish(self) -> Table {
        self.table
    }

    /// Values between scripts and this module.
    pub fn values(&self) -> Values {
        Values::new(self.shared)
    }

    /// A table of functions that are made as those of the module are, and that scripts find elsewhere: as the methods of a
    /// userdata, for example, where it is the `__index` of its metatable. It is one for all calls, so that no script may
    /// change it.
    ///
    /// # Errors
    ///
    /// What `install` fails with, and Lua's, if memory runs out.
    pub fn functions(
        &self,
        install: impl FnOnce(&mut ModuleBuilder<'_>) -> mlua::Result<()>,
    ) -> mlua::Result<Table> {
        let mut functions = ModuleBuilder::new(self.lua, self.shared)?;
        install(&mut functions)?;
        Ok(functions.finish())
    }

    /// The VM: to register the type of a userdata, for example.
    pub const fn lua(&self) -> &Lua {
        self.lua
    }

    /// Adds a constant.
    ///
    /// # Errors
    ///
    /// Lua's, if memory runs out.
    pub fn constant(&mut self, name: &str, value: impl Into<Constant>) -> mlua::Result<()> {
        match value.into() {
            Constant::Boolean(value) => self.set(name, value),
            Constant::Integer(value) => self.set(name, value),
            Constant::Number(value) => self.set(name, value),
            Constant::Text(value) => self.set(name, value),
        }
    }

    /// Adds a function. It holds up the thread for as long as it runs, and nothing interrupts it.
    ///
    /// # Errors
    ///
    /// Lua's, if memory runs out.
    pub fn function<A, R, F>(&mut self, name: &str, function: F) -> mlua::Result<()>
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
        F: Fn(&Lua, CallContext, A) -> mlua::Result<R> + Send + Sync + 'static,
    {
        let own: Box<str> = name.into();
        let shared = Arc::clone(self.shared);
        let function = bridge::function(self.lua, self.shared, move |lua, arguments| {
            let arguments = A::from_lua_args(arguments, 1, Some(&own), lua)?;
            function(lua, shared.watch.ctx()?, arguments)?.into_lua_multi(lua)
        })?;
        self.set(name, function)
    }

    /// Adds a function that a script waits for, in a coroutine, too. Its future is dropped where the call is ended.
    ///
    /// It does not get the VM, which it would keep alive: its result is converted to values afterwards.
    ///
    /// # Errors
    ///
    /// Lua's, if memory runs out.
    pub fn async_function<A, R, F, T>(&mut self, name: &str, function: F) -> mlua::Result<()>
    where
        A: FromLuaMulti,
        R: IntoLuaMulti + Send + 'static,
        F: Fn(CallContext, A) -> T + Send + Sync + 'static,
        T: Future<Output = mlua::Result<R>> + Send + 'static,
    {
        self.prepared_function(name, move |_, ctx, arguments| Ok(function(ctx, arguments)))
    }

    /// [`async_function`](Self::async_function), where the future is made with the VM at hand, to read values of the script.
    /// It is in the VM that the future is kept, so that it must not hold that.
    ///
    /// # Errors
    ///
    /// Lua's, if memory runs out.
    pub fn prepared_function<A, R, F, T>(&mut self, name: &str, prepare: F) -> mlua::Result<()>
    where
        A: FromLuaMulti,
        R: IntoLuaMulti + Send + 'static,
        F: Fn(&Lua, CallContext, A) -> mlua::Result<T> + Send + Sync + 'static,
        T: Future<Output = mlua::Result<R>> + Send + 'static,
    {
        let own: Box<str> = name.into();
        let shared = Arc::clone(self.shared);
        let function = bridge::waiting_function(self.lua, self.shared, move |lua, arguments| {
            let arguments = A::from_lua_args(arguments, 1, Some(&own), lua)?;
            prepare(lua, shared.watch.ctx()?, arguments)
        })?;
        self.set(name, function)
    }

    fn set(&self, name: &str, value: impl IntoLua) -> mlua::Result<()> {
        self.table.raw_set(name, value)
    }
}

impl fmt::Debug for ModuleBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleBuilder").finish_non_exhaustive()
    }
}

impl From<bool> for Constant {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for Constant {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Constant {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for Constant {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Constant {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// Values between scripts and a [module](super::LuaModule), with the conventions and the limits of payloads, and what the
/// module keeps for the call that runs. Cloning it is one reference count.
///
/// What goes wrong is raised as a failed call is.
#[derive(Clone)]
pub struct Values {
    shared: Arc<Shared>,
}

impl Values {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// Returns a script's value as the text of JSON. `name` names it in errors.
    ///
    /// # Errors
    ///
    /// If it is not JSON, larger than a [payload](super::LuaConfig::payload) can be, or needs more memory than the script
    /// has left.
    pub fn encode(&self, lua: &Lua, value: &Value, name: &'static str) -> mlua::Result<Vec<u8>> {
        let text = self.shared.take_text(lua, value, name, self.shared.payload);
        Ok(text.map_err(Refusal::from)?)
    }

    /// Returns the text of JSON as a value for a script. `name` names it in errors.
    ///
    /// # Errors
    ///
    /// If it is not JSON, nested too deeply, or the script has no room for it.
    pub fn decode(&self, lua: &Lua, text: &[u8], name: &str) -> mlua::Result<Value> {
        convert::decode(lua, &self.shared, text, name)
    }

    /// Returns bytes as a string for a script. `name` names them in errors.
    ///
    /// # Errors
    ///
    /// If the script has no room for them.
    pub fn string(&self, lua: &Lua, bytes: &[u8], name: &str) -> mlua::Result<mlua::LuaString> {
        if !self.shared.has_room(lua, bytes.len()) {
            return Err(fault::raise(fault::no_room(name)));
        }
        lua.create_string(bytes)
    }

    /// Returns the table that a script gets when it catches a failed call, for functions that return failures.
    ///
    /// # Errors
    ///
    /// If the script has no room for it.
    pub fn failure(&self, lua: &Lua, error: CallError) -> mlua::Result<Value> {
        fault::give(lua, &self.shared, Arc::new(error.shortened()))
    }

    /// Returns how many bytes of memory the script has left.
    ///
    /// # Errors
    ///
    /// Lua's, if a finalizer fails as what is no longer used is collected.
    pub fn room(&self, lua: &Lua) -> mlua::Result<usize> {
        self.shared.room(lua)
    }

    /// Returns the value that the module keeps for the current call: one `T`, made when it is first used. The VM drops it
    /// when the call ends, however it ends.
    ///
    /// # Errors
    ///
    /// If no call runs.
    pub fn of_call<T: Default + Any + Send + Sync>(&self) -> mlua::Result<Arc<T>> {
        self.shared.watch.of_call()
    }

    /// Returns the type of a value for an error, with its article: `a number`, `nil`.
    pub const fn type_of(value: &Value) -> &'static str {
        convert::type_of(value)
    }

    /// An error that is raised as a failed call.
    pub fn raise(error: CallError) -> mlua::Error {
        fault::raise(error)
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").finish_non_exhaustive()
    }
}
