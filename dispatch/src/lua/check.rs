//! Finds out whether scripts compile, without a VM for each: one bare VM compiles one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mlua::{Lua, LuaOptions, StdLib};

use super::config::LuaConfig;
use super::engine::LuaError;
use super::vm::{compile_script, vm_error};

/// How many bare VMs are kept: as many as there are likely to be threads that compile.
const KEPT: usize = 4;

/// What checks the scripts of an engine.
pub(super) struct Checker {
    /// What a VM with all modules has in memory before there is a script in it, in bytes.
    base: usize,
    bare: Mutex<Vec<Lua>>,
    known: Mutex<Known>,
}

/// What came of the scripts that still exist, by their address. Many functions may share one.
#[derive(Default)]
struct Known {
    scripts: HashMap<usize, Checked>,
    /// How many there are when those that no longer exist are removed next.
    full_at: usize,
}

struct Checked {
    source: Weak<str>,
    chunk: Box<str>,
    memory: usize,
    /// Why it does not compile, if that is its own fault.
    outcome: Result<(), String>,
}

impl Checker {
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
        self.lock_known().insert(Checked { source, chunk, memory: config.memory, outcome });
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

    fn lock_known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn insert(&mut self, checked: Checked) {
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
