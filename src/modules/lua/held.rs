//! What a call has open, such as connections, and what its script has of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use frame_dispatch::lua::mlua::{self, AnyUserData, IntoLua, Lua, Value};
use frame_dispatch::lua::{ModuleBuilder, Values};
use frame_dispatch::{CallError, ErrorKind};
use mlua::{UserDataFields as _, UserDataRegistry};

use super::members::invalid;

/// All `T` that a call has open. They are closed when it is dropped.
pub(crate) struct Held<T> {
    open: Mutex<Open<T>>,
}

struct Open<T> {
    last: u64,
    by_number: HashMap<u64, Arc<T>>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { open: Mutex::new(Open { last: 0, by_number: HashMap::new() }) }
    }
}

impl<T> Held<T> {
    /// Checks that a call may open another one of `what`, of which it may have `most`.
    pub(crate) fn check_room(&self, lua: &Lua, most: usize, what: &str) -> mlua::Result<()> {
        if self.len() >= most {
            // Those that no variable has any more are closed.
            lua.gc_collect()?;
        }
        if self.len() >= most {
            let message = format!("a call has at most {most} {what} at a time; close some");
            return Err(Values::raise(CallError::new(ErrorKind::Exhausted, message).with_retryable(false)));
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.open().by_number.len()
    }

    fn open(&self) -> MutexGuard<'_, Open<T>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a script has of a `T`, which is closed when this is collected, or when the call ends.
pub(crate) struct Handle<T> {
    held: Weak<Held<T>>,
    number: u64,
}

impl<T> Handle<T> {
    pub(crate) fn new(held: &Arc<Held<T>>, value: T) -> Self {
        let mut open = held.open();
        open.last += 1;
        let number = open.last;
        open.by_number.insert(number, Arc::new(value));
        Self { held: Arc::downgrade(held), number }
    }

    /// The value, if it is open.
    fn get(&self) -> Option<Arc<T>> {
        self.held.upgrade()?.open().by_number.get(&self.number).cloned()
    }

    /// The value, which is not open any longer.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.held.upgrade()?.open().by_number.remove(&self.number)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// A handle, on its way into a VM.
pub(crate) struct Opened<T>(pub(crate) Handle<T>);

impl<T: Send + Sync + 'static> IntoLua for Opened<T> {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_any_userdata(self.0).map(Value::UserData)
    }
}

/// What is open under `handle`.
pub(crate) fn opened<T: 'static>(handle: &AnyUserData) -> mlua::Result<Arc<T>> {
    handle.borrow::<Handle<T>>()?.get().ok_or_else(|| invalid("the connection is closed"))
}

/// Gives the VM the type of handles of `T`, which is called `name` and has the methods that `install` adds. At the end of a
/// scope of a variable that is `<close>` they are closed.
pub(crate) fn register<T: Send + Sync + 'static>(
    module: &mut ModuleBuilder<'_>,
    name: &'static str,
    install: impl FnOnce(&mut ModuleBuilder<'_>) -> mlua::Result<()>,
) -> mlua::Result<()> {
    let methods = module.functions(install)?;
    let metamethods = module.functions(|metamethods| {
        metamethods.function("close", |_, _, (handle, _): (AnyUserData, Value)| {
            handle.borrow::<Handle<T>>().map(|handle| drop(handle.take()))
        })
    })?;
    let close: Value = metamethods.raw_get("close")?;
    module.lua().register_userdata_type(|registry: &mut UserDataRegistry<Handle<T>>| {
        registry.add_meta_field("__index", methods);
        registry.add_meta_field("__close", close);
        registry.add_meta_field("__name", name);
    })
}
