//! Compiles sources in pieces, between which it can be given up, and checks scripts without a VM for each.
//!
//! Nothing interrupts Lua's compiler, and the work for some sources grows with their square: a list of operands with `or` in
//! between is walked for each of them. But it asks for its source, and what it asks can raise an error.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use mlua::ffi::{self, lua_State};
use mlua::{Function, Lua, LuaOptions, StdLib, Value};

use super::config::LuaConfig;
use super::engine::{LuaError, vm_error};

/// How long a script may take to compile. The largest take far less than a second.
const LONGEST_COMPILATION: Duration = Duration::from_secs(10);

/// How many bytes the compiler is given at once.
const PIECE: usize = 512;

struct SourcePieces<'a> {
    rest: &'a [u8],
    is_given_up: &'a mut dyn FnMut() -> bool,
}

/// Compiles a source, which is text, and pushes the function or an error. Returns the status. `is_given_up` is asked before
/// each piece.
///
/// # Safety
///
/// As for `lua_load`.
pub(super) unsafe fn compile_pieces(
    state: *mut lua_State,
    source: &[u8],
    name: &CStr,
    is_given_up: &mut dyn FnMut() -> bool,
) -> c_int {
    let mut pieces = SourcePieces { rest: source, is_given_up };
    // SAFETY: The pieces outlive the call. Bytecode, which can break out of Lua, is refused.
    unsafe { ffi::lua_load(state, next_piece, (&raw mut pieces).cast(), name.as_ptr(), c"t".as_ptr()) }
}

unsafe extern "C-unwind" fn next_piece(
    state: *mut lua_State,
    data: *mut c_void,
    size: *mut usize,
) -> *const c_char {
    // SAFETY: It is called with the pieces above. Where the error jumps out, there is nothing with a destructor.
    unsafe {
        let pieces: &mut SourcePieces<'_> = &mut *data.cast();
        if catch_unwind(AssertUnwindSafe(|| (pieces.is_given_up)())).unwrap_or(true) {
            ffi::lua_pushstring(state, c"the source takes too long to compile".as_ptr());
            ffi::lua_error(state);
        }
        let (piece, rest) = pieces.rest.split_at(pieces.rest.len().min(PIECE));
        pieces.rest = rest;
        *size = piece.len();
        piece.as_ptr().cast()
    }
}

/// The script as a function of its environment. Every call makes the script anew, so that its functions share
/// nothing with those of another call; the code is shared.
pub(super) fn compile_script(lua: &Lua, chunk: &str, source: &str) -> Result<Function, LuaError> {
    let name = CString::new(format!("={chunk}").replace('\0', "?")).unwrap_or_default();
    let load = |source: &str| {
        let began = Instant::now();
        let mut is_given_up = || began.elapsed() >= LONGEST_COMPILATION;
        // SAFETY: What could raise is called in protected mode. There is room for both values.
        let loaded = unsafe {
            lua.exec_raw::<(Option<Function>, Value)>((), |state| {
                let status = compile_pieces(state, source.as_bytes(), &name, &mut is_given_up);
                if status == ffi::LUA_ERRMEM {
                    ffi::lua_error(state);
                }
                if status != ffi::LUA_OK {
                    ffi::lua_pushnil(state);
                    ffi::lua_insert(state, -2);
                }
            })
        };
        match loaded.map_err(vm_error)? {
            (Some(function), _) => Ok(function),
            (None, Value::String(message)) => Err(LuaError::Syntax { message: message.to_string_lossy() }),
            (None, _) => Err(LuaError::Syntax { message: "it is not text".to_owned() }),
        }
    };
    // Alone, so that an error is one of the script itself, and it cannot end the function that is put around it.
    load(source)?;
    let script = load(&format!("local _ENV = ...; return function(...) {source}\nend"))?;
    Ok(script)
}

/// How many bare VMs are kept: as many as there are likely to be threads that compile.
const KEPT: usize = 4;

/// Checks the scripts of an engine: a few bare VMs compile one script after the other.
pub(super) struct ScriptChecker {
    /// What a VM with all modules has in memory before there is a script in it, in bytes.
    base: usize,
    bare: Mutex<Vec<Lua>>,
    known: Mutex<KnownScripts>,
}

/// The outcomes for scripts that still exist, by the address of their source. Many functions may share one.
#[derive(Default)]
struct KnownScripts {
    scripts: HashMap<usize, CheckedScript>,
    /// How many there are when those that no longer exist are removed next.
    full_at: usize,
}

struct CheckedScript {
    source: Weak<str>,
    chunk: Box<str>,
    memory: usize,
    /// Why it does not compile, if that is its own fault.
    outcome: Result<(), String>,
}

impl ScriptChecker {
    pub(super) fn new(base: usize) -> Self {
        Self { base, bare: Mutex::default(), known: Mutex::default() }
    }

    /// Compiles a script as the VM of a function does, in as much memory as that has left for it.
    pub(super) fn check(&self, config: &LuaConfig, chunk: &str, source: &Arc<str>) -> Result<(), LuaError> {
        if let Some(outcome) = self.known(config, chunk, source) {
            return outcome.map_err(|message| LuaError::Syntax { message });
        }
        let checked = self.compile(config, chunk, source);
        let outcome = match &checked {
            Ok(()) => Ok(()),
            Err(LuaError::Syntax { message }) => Err(message.clone()),
            Err(_) => return checked,
        };
        let (source, chunk) = (Arc::downgrade(source), chunk.into());
        self.lock_known().insert(CheckedScript { source, chunk, memory: config.memory, outcome });
        checked
    }

    fn known(&self, config: &LuaConfig, chunk: &str, source: &Arc<str>) -> Option<Result<(), String>> {
        let known = self.lock_known();
        let checked = known.scripts.get(&address(source))?;
        let is_same = checked.memory == config.memory && &*checked.chunk == chunk;
        is_same.then(|| checked.outcome.clone())
    }

    fn compile(&self, config: &LuaConfig, chunk: &str, source: &str) -> Result<(), LuaError> {
        let lua = self.lock_bare().pop();
        let lua = match lua {
            Some(lua) => lua,
            None => Lua::new_with(StdLib::NONE, LuaOptions::new()).map_err(vm_error)?,
        };
        let left = config.memory.saturating_sub(self.base);
        lua.set_memory_limit(lua.used_memory() + left).map_err(vm_error)?;
        let compiled = compile_script(&lua, chunk, source).map(drop);
        lua.set_memory_limit(0).map_err(vm_error)?;
        lua.gc_collect().map_err(vm_error)?;
        let mut bare = self.lock_bare();
        if bare.len() < KEPT {
            bare.push(lua);
        }
        compiled
    }

    fn lock_bare(&self) -> MutexGuard<'_, Vec<Lua>> {
        self.bare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_known(&self) -> MutexGuard<'_, KnownScripts> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownScripts {
    fn insert(&mut self, checked: CheckedScript) {
        const FEW: usize = 64;
        if self.scripts.len() >= self.full_at.max(FEW) {
            self.scripts.retain(|_, checked| checked.source.strong_count() > 0);
            self.full_at = 2 * self.scripts.len();
        }
        // Nothing else has the address of a source while there is a reference to it, of whatever kind.
        self.scripts.insert(checked.source.as_ptr().addr(), checked);
    }
}

fn address(source: &Arc<str>) -> usize {
    Arc::as_ptr(source).addr()
}
