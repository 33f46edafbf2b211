//! Interrupts a running script from outside, and ends one whose call has ended.
//!
//! No hook is set while a script runs, so it runs at full speed. Once its slice has been used up, the clock sends its
//! thread a signal, and the handler sets a hook that runs at the next instruction. Lua allows that in a handler. The hook
//! suspends the script, which the script can neither see nor delay: [`coroutine`](super::coroutine) passes such a
//! suspension on to the driver of the VM. Lua cannot suspend a function that C code calls back. There the script runs on
//! until its call has ended, or it has run there for too long. Then it is ended by an error that is raised anew at every
//! instruction, so that no `pcall` delays the end.
//!
//! On systems without signals the hook is always set, and runs every 1 000 instructions.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use mlua::ffi::{self, lua_Debug, lua_KContext, lua_State};

use super::shared::Shared;
use super::watch::Interrupt;
use crate::script::clock;

/// The number of instructions between two runs of the hook on systems without signals.
#[cfg(not(unix))]
const INSTRUCTIONS: c_int = 1000;

/// Why a thread of Lua yielded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspension {
    /// The script yields to whatever resumed the coroutine.
    Script,
    /// The script has used up its slice, or its call has ended.
    Interrupted,
    /// A host function waits for a future.
    Waiting,
}

/// What runs on a thread. The signal handler reads it.
struct Current {
    /// The coroutine that runs.
    state: Cell<*mut lua_State>,
    /// The script's own coroutine.
    main: Cell<*mut lua_State>,
    shared: Cell<*const Shared>,
    suspension: Cell<Suspension>,
    /// How many coroutines were resumed by a function that cannot be suspended. If any was, nothing that yields gets out to
    /// the driver of the VM.
    pinned: Cell<u32>,
    /// The hook has raised an error, so that Lua calls a message handler with hooks switched off.
    is_raising: Cell<bool>,
}

thread_local! {
    // Without a destructor or lazy initialisation, so that a signal handler can read it.
    static CURRENT: Current = const {
        Current {
            state: Cell::new(ptr::null_mut()),
            main: Cell::new(ptr::null_mut()),
            shared: Cell::new(ptr::null()),
            suspension: Cell::new(Suspension::Script),
            pinned: Cell::new(0),
            is_raising: Cell::new(false),
        }
    };
}

/// The VM whose script the current thread runs, until this is dropped.
pub(super) struct Entered<'a> {
    outer: (*mut lua_State, *mut lua_State, *const Shared, u32),
    shared: PhantomData<&'a Shared>,
}

impl<'a> Entered<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        CURRENT.with(|current| {
            let state = current.state.replace(ptr::null_mut());
            // The last script may have been ended where no message handler looked at it.
            current.is_raising.set(false);
            let outer =
                (state, current.main.get(), current.shared.replace(shared), current.pinned.replace(0));
            Self { outer, shared: PhantomData }
        })
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT.with(|current| {
            current.state.set(self.outer.0);
            current.main.set(self.outer.1);
            current.shared.set(self.outer.2);
            current.pinned.set(self.outer.3);
        });
    }
}

/// Calls `f` with what the VM that runs shares. `None` outside of calls: where a VM is made.
pub(super) fn with_shared<R>(f: impl FnOnce(&Shared) -> R) -> Option<R> {
    // SAFETY: The pointer is from a reference that `Entered` keeps borrowed for as long as it is set.
    #[allow(unsafe_code)]
    CURRENT.with(|current| unsafe { current.shared.get().as_ref() }).map(f)
}

/// Says that the coroutine `state` runs now. Returns the one that ran before.
pub(super) fn switch_to(state: *mut lua_State) -> *mut lua_State {
    #[cfg(test)]
    testing::arm(state);
    CURRENT.with(|current| current.state.replace(state))
}

/// Calls `resume`, which resumes a coroutine from `state`. While that cannot be suspended, nor can the coroutine, whatever Lua
/// says of it.
///
/// # Safety
///
/// `state` is a valid thread of Lua, and no error leaves `resume`.
#[allow(unsafe_code)]
pub(super) unsafe fn pinned_by<R>(state: *mut lua_State, resume: impl FnOnce() -> R) -> R {
    // SAFETY: As the caller says.
    let is_pinning = unsafe { ffi::lua_isyieldable(state) } == 0;
    let add = |number: i32| {
        if is_pinning {
            CURRENT.with(|current| current.pinned.set(current.pinned.get().wrapping_add_signed(number)));
        }
    };
    add(1);
    let resumed = resume();
    add(-1);
    resumed
}

/// Returns whether the running coroutine can be suspended, all the way out to the driver of the VM.
///
/// # Safety
///
/// `state` is a valid thread of Lua.
#[allow(unsafe_code)]
unsafe fn can_suspend(state: *mut lua_State) -> bool {
    // SAFETY: As the caller says.
    CURRENT.with(|current| current.pinned.get() == 0) && unsafe { ffi::lua_isyieldable(state) } != 0
}

/// Returns the coroutine that runs; null if none does.
pub(super) fn running() -> *mut lua_State {
    CURRENT.with(|current| current.state.get())
}

/// Says which coroutine is the script's own.
pub(super) fn set_main(state: *mut lua_State) {
    CURRENT.with(|current| current.main.set(state));
}

/// Returns whether a coroutine is the script's own.
pub(super) fn is_main(state: *mut lua_State) -> bool {
    CURRENT.with(|current| ptr::eq(current.main.get(), state))
}

/// Says why the running coroutine yields next.
pub(super) fn set_suspension(suspension: Suspension) {
    CURRENT.with(|current| current.suspension.set(suspension));
}

/// Why the coroutine that was resumed yielded.
pub(super) fn suspension() -> Suspension {
    CURRENT.with(|current| current.suspension.get())
}

/// Returns whether the hook raised the error whose message handler runs. Hooks are off there, so nothing would end it.
pub(super) fn take_raising() -> bool {
    CURRENT.with(|current| current.is_raising.replace(false))
}

/// Has threads that run scripts interrupted by a signal: `number`, or `SIGURG`.
#[cfg(unix)]
#[allow(unsafe_code)]
pub(super) fn install(number: Option<c_int>) -> std::io::Result<()> {
    /// The handler. The coroutine is the one that runs, so it is alive.
    fn interrupt() {
        #[cfg(test)]
        if testing::is_scheduled() {
            return;
        }
        CURRENT.with(|current| {
            let state = current.state.get();
            // Setting a hook visits every function that is active. With very many of them that takes longer than the time
            // until the next signal, and the script would never get to the hook.
            // SAFETY: It is alive, and Lua allows both at any time, in a signal handler, too.
            unsafe {
                if !state.is_null() && ffi::lua_gethookmask(state) == 0 {
                    ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, 1);
                }
            }
        });
    }
    // SAFETY: `interrupt` reads locals of the thread, which need no initialisation, and calls a function that is allowed.
    unsafe { crate::script::install_signal(number, interrupt) }
}

#[cfg(not(unix))]
pub(super) fn install(_: Option<c_int>) -> std::io::Result<()> {
    Ok(())
}

/// Prepares the main thread of a VM: threads made from now on inherit the hook, where that is always set.
#[cfg_attr(unix, allow(unused_variables))]
#[allow(unsafe_code)]
pub(super) fn prepare(lua: &mlua::Lua) {
    #[cfg(not(unix))]
    lua.exec_raw_lua(|raw| {
        // SAFETY: Lua allows it at any time.
        unsafe { ffi::lua_sethook(raw.state(), Some(hook), ffi::LUA_MASKCOUNT, INSTRUCTIONS) };
    });
}

/// Suspends the script where its slice is used up, and it can be suspended; raises where it cannot, and has to end.
///
/// # Safety
///
/// Lua calls it as a hook.
#[allow(unsafe_code)]
unsafe extern "C-unwind" fn hook(state: *mut lua_State, _: *mut lua_Debug) {
    // SAFETY: The calls are allowed in a hook. Where `lua_yield` or `lua_error` jump out, nothing is left to be dropped.
    unsafe {
        if cfg!(unix) {
            ffi::lua_sethook(state, None, 0, 0);
        }
        #[cfg(test)]
        testing::arm(state);
        let is_yieldable = can_suspend(state);
        let interrupt =
            catch_unwind(AssertUnwindSafe(|| with_shared(|shared| shared.watch.interrupt(is_yieldable))));
        match interrupt {
            Ok(Some(Interrupt::Suspend)) => {
                set_suspension(Suspension::Interrupted);
                ffi::lua_yield(state, 0);
            }
            Ok(Some(Interrupt::End)) | Err(_) => {
                CURRENT.with(|current| current.is_raising.set(true));
                raise_ended(state);
            }
            Ok(Some(Interrupt::GoOn) | None) => {}
        }
    }
}

/// Its address is the error that ends a script.
static ENDED: u8 = 0;

/// Raises the error that ends a script, anew at every instruction from here on.
///
/// # Safety
///
/// As for `lua_error`: nothing in the frames that are left may have a destructor.
#[allow(unsafe_code)]
unsafe fn raise_ended(state: *mut lua_State) -> ! {
    // SAFETY: As the caller says. One slot is free, in a hook and at the start of a C function.
    unsafe {
        ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, 1);
        ffi::lua_pushlightuserdata(state, ptr::from_ref(&ENDED).cast_mut().cast::<c_void>());
        ffi::lua_error(state)
    }
}

/// Ends the script, from a C function that has seen that its call has ended: suspends it for good where it can be
/// suspended, raises otherwise. The C function returns what this returns.
///
/// # Safety
///
/// As for `lua_yieldk`: the frames that are left may have no destructor.
#[allow(unsafe_code)]
pub(super) unsafe fn end(state: *mut lua_State) -> c_int {
    /// Nothing resumes a script whose call has ended.
    unsafe extern "C-unwind" fn never(state: *mut lua_State, _: c_int, _: lua_KContext) -> c_int {
        // SAFETY: There is nothing with a destructor.
        unsafe { end(state) }
    }
    // SAFETY: As the caller says.
    unsafe {
        if !can_suspend(state) {
            raise_ended(state);
        }
        set_suspension(Suspension::Interrupted);
        ffi::lua_yieldk(state, 0, 0, Some(never))
    }
}

/// Lets others run if the script's slice is used up, from a C function in the middle of a loop. `then` is called to go on, with
/// `context`; `save` is called before the function is left. Does not return if the script is suspended, or has to end.
///
/// # Safety
///
/// As for [`end`].
#[allow(unsafe_code)]
pub(super) unsafe fn pause(
    state: *mut lua_State,
    context: lua_KContext,
    then: ffi::lua_KFunction,
    save: impl FnOnce(),
) {
    // SAFETY: As the caller says.
    unsafe {
        if !can_suspend(state) {
            if has_to_end() {
                raise_ended(state);
            }
        } else if clock::is_due() {
            save();
            set_suspension(Suspension::Interrupted);
            ffi::lua_yieldk(state, 0, context, Some(then));
        }
    }
}

/// Looks at the clock, in the middle of a loop that cannot be suspended. Returns whether the script has to end.
pub(super) fn has_to_end() -> bool {
    matches!(with_shared(|shared| shared.watch.interrupt(false)), Some(Interrupt::End))
}

/// Returns whether the call of the script that runs has ended.
pub(super) fn has_ended() -> bool {
    with_shared(|shared| shared.watch.is_ended()).unwrap_or(false)
}

/// Interrupts at chosen instructions, in place of the clock's signals.
#[cfg(test)]
pub(super) mod testing {
    use std::cell::{Cell, RefCell};

    use super::{c_int, ffi, hook, lua_State};

    /// Returns after how many instructions the hook comes next.
    pub(in crate::lua) type Schedule = Box<dyn FnMut() -> c_int>;

    thread_local! {
        static SCHEDULE: RefCell<Option<Schedule>> = const { RefCell::new(None) };
        static IS_SCHEDULED: Cell<bool> = const { Cell::new(false) };
    }

    /// Interrupts the scripts that the current thread runs by a schedule only. `None` ends that.
    pub(in crate::lua) fn set_schedule(schedule: Option<Schedule>) {
        IS_SCHEDULED.set(schedule.is_some());
        SCHEDULE.set(schedule);
    }

    pub(super) fn is_scheduled() -> bool {
        IS_SCHEDULED.get()
    }

    /// Sets the hook for the next interruption.
    #[allow(unsafe_code)]
    pub(super) fn arm(state: *mut lua_State) {
        let count = SCHEDULE.with_borrow_mut(|schedule| schedule.as_mut().map(|next| next()));
        if let Some(count) = count
            && !state.is_null()
        {
            // SAFETY: It is alive, and Lua allows this at any time.
            unsafe { ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, count) };
        }
    }
}
