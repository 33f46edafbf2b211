//! Functions of the host, as scripts call them.
//!
//! A host function is a C closure around a function of `mlua`, which never fails: it returns whether it succeeded, and its
//! results or the error. The closure raises that as any function of Lua would, with the place in the script. So a script, its
//! `pcall` and its `__close` handlers see values of Lua only.
//!
//! One that waits leaves its future with the VM and yields. The driver polls the future, outside of Lua, and resumes the
//! script when it is done. A VM has one such future at most, and it is dropped as soon as it is done or cancelled.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::{fmt, mem};

use mlua::ffi::{self, lua_KContext, lua_State};
use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Value};

use super::fault;
use super::preempt::{self, Suspension};
use super::protect;
use super::shared::Shared;

/// What a host function that waited returns to the script. It is converted once the script has been resumed.
type Finish = Box<dyn FnOnce(&Lua) -> mlua::Result<MultiValue> + Send>;

/// What a host function waits for.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Finish> + Send>>;

/// The host function that a VM's script waits for.
#[derive(Default)]
pub(super) struct HostCall {
    state: Mutex<HostCallState>,
}

#[derive(Default)]
enum HostCallState {
    #[default]
    None,
    Waiting(Waiting),
    Finished(Finish),
}

impl HostCall {
    fn state(&self) -> MutexGuard<'_, HostCallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, state: HostCallState) -> HostCallState {
        mem::replace(&mut *self.state(), state)
    }

    /// Drops what is waited for.
    pub(super) fn cancel(&self) {
        drop(self.replace(HostCallState::None));
    }

    /// Polls what is waited for, if anything is. Ready once the script can be resumed.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut waiting = match self.replace(HostCallState::None) {
            HostCallState::Waiting(waiting) => waiting,
            other => {
                self.replace(other);
                return Poll::Ready(());
            }
        };
        // Without the lock: it may run anything.
        match waiting.as_mut().poll(context) {
            Poll::Ready(finish) => {
                self.replace(HostCallState::Finished(finish));
                Poll::Ready(())
            }
            Poll::Pending => {
                self.replace(HostCallState::Waiting(waiting));
                Poll::Pending
            }
        }
    }
}

impl fmt::Debug for HostCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostCall").finish_non_exhaustive()
    }
}

/// Makes a function that scripts call.
pub(super) fn function(
    lua: &Lua,
    shared: &Arc<Shared>,
    function: impl Fn(&Lua, MultiValue) -> mlua::Result<MultiValue> + Send + Sync + 'static,
) -> mlua::Result<Function> {
    let this = Arc::clone(shared);
    let inner = lua.create_function(move |lua, arguments: MultiValue| {
        let result = catch_unwind(AssertUnwindSafe(|| function(lua, arguments)));
        outcome(&this, lua, result.unwrap_or_else(|panic| Err(this.watch.panicked(&*panic))))
    })?;
    // SAFETY: The closure has the upvalue that it reads.
    unsafe { lua.exec_raw(inner, |state| ffi::lua_pushcclosure(state, call, 1)) }
}

/// Makes a function that scripts call and that waits for the future which `prepare` returns.
pub(super) fn waiting_function<R, T>(
    lua: &Lua,
    shared: &Arc<Shared>,
    prepare: impl Fn(&Lua, MultiValue) -> mlua::Result<T> + Send + Sync + 'static,
) -> mlua::Result<Function>
where
    R: IntoLuaMulti + Send + 'static,
    T: Future<Output = mlua::Result<R>> + Send + 'static,
{
    let this = Arc::clone(shared);
    let prepare = lua.create_function(move |lua, arguments: MultiValue| {
        let future = catch_unwind(AssertUnwindSafe(|| prepare(lua, arguments)));
        match future.unwrap_or_else(|panic| Err(this.watch.panicked(&*panic))) {
            Ok(future) => {
                let future = Caught { future: Box::pin(future), shared: Arc::clone(&this) };
                this.host.replace(HostCallState::Waiting(Box::pin(future)));
                true.into_lua_multi(lua)
            }
            Err(error) => outcome(&this, lua, Err(error)),
        }
    })?;
    let this = Arc::clone(shared);
    let finish = lua.create_function(move |lua, ()| {
        let HostCallState::Finished(finish) = this.host.replace(HostCallState::None) else {
            return outcome(&this, lua, Err(mlua::Error::runtime("the host function did not finish")));
        };
        let result = catch_unwind(AssertUnwindSafe(|| finish(lua)));
        outcome(&this, lua, result.unwrap_or_else(|panic| Err(this.watch.panicked(&*panic))))
    })?;
    // SAFETY: The closure has the upvalues that it and its continuation read.
    unsafe { lua.exec_raw((prepare, finish), |state| ffi::lua_pushcclosure(state, wait, 2)) }
}

/// A host function's future. Its panic ends the call of the script.
struct Caught<T> {
    future: Pin<Box<T>>,
    shared: Arc<Shared>,
}

impl<R, T> Future for Caught<T>
where
    R: IntoLuaMulti + Send + 'static,
    T: Future<Output = mlua::Result<R>>,
{
    type Output = Finish;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Finish> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(context)));
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(self.shared.watch.panicked(&*panic)),
        };
        Poll::Ready(Box::new(move |lua| result?.into_lua_multi(lua)))
    }
}

/// Returns whether a host function succeeded, and its results or the error. Returns `nil` if the call of the script has ended.
fn outcome(shared: &Shared, lua: &Lua, result: mlua::Result<MultiValue>) -> mlua::Result<MultiValue> {
    let error = match result {
        Ok(mut values) => {
            values.push_front(Value::Boolean(true));
            return Ok(values);
        }
        Err(error) => error,
    };
    if shared.watch.is_ended() {
        return Value::Nil.into_lua_multi(lua);
    }
    (false, fault::recover(lua, shared, Value::Error(Box::new(error)))?).into_lua_multi(lua)
}

unsafe extern "C-unwind" fn call(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        let given = ffi::lua_gettop(state);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, given, ffi::LUA_MULTRET);
        returned(state)
    }
}

/// Returns or raises what is on the stack.
unsafe fn returned(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if ffi::lua_type(state, 1) != ffi::LUA_TBOOLEAN {
            return preempt::end(state);
        }
        if ffi::lua_toboolean(state, 1) != 0 {
            return ffi::lua_gettop(state) - 1;
        }
        ffi::lua_settop(state, 2);
        if ffi::lua_type(state, 2) == ffi::LUA_TSTRING && !is_out_of_memory(state) {
            // The script may have called this through a function in C.
            ffi::luaL_where(state, 1);
            if ffi::lua_rawlen(state, -1) == 0 {
                ffi::lua_pop(state, 1);
                ffi::luaL_where(state, 2);
            }
            ffi::lua_insert(state, 2);
            ffi::lua_concat(state, 2);
        }
        ffi::lua_error(state)
    }
}

/// Returns whether the string on top of the stack is Lua's out-of-memory message, which has no place in the script.
unsafe fn is_out_of_memory(state: *mut lua_State) -> bool {
    // SAFETY: It is a string.
    unsafe {
        let mut length = 0;
        let text = ffi::lua_tolstring(state, -1, &raw mut length);
        std::slice::from_raw_parts(text.cast::<u8>(), length) == fault::OUT_OF_MEMORY.as_bytes()
    }
}

unsafe extern "C-unwind" fn wait(state: *mut lua_State) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        if ffi::lua_isyieldable(state) == 0 {
            return ffi::luaL_error(state, protect::ACROSS_C.as_ptr());
        }
        let given = ffi::lua_gettop(state);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, given, ffi::LUA_MULTRET);
        if ffi::lua_type(state, 1) != ffi::LUA_TBOOLEAN || ffi::lua_toboolean(state, 1) == 0 {
            return returned(state);
        }
        preempt::set_suspension(Suspension::Waiting);
        ffi::lua_yieldk(state, 0, 0, Some(waited))
    }
}

unsafe extern "C-unwind" fn waited(state: *mut lua_State, _: c_int, _: lua_KContext) -> c_int {
    // SAFETY: There is nothing with a destructor.
    unsafe {
        ffi::lua_settop(state, 0);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
        ffi::lua_call(state, 0, ffi::LUA_MULTRET);
        returned(state)
    }
}
