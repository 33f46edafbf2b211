//! What scripts are made into functions by.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::compile::ScriptChecker;
use super::config::LuaConfig;
use super::function::LuaFunction;
use super::module::LuaModule;
use super::preempt;
use super::vm::Vm;
use crate::script::ScriptRuntime;

/// The longest source of a function, in bytes. Lua cannot be interrupted as it compiles.
const LONGEST_SOURCE: usize = 1 << 20;

/// Makes functions of scripts, which all have the same modules. Cloning it is one reference count.
#[derive(Clone)]
pub struct LuaEngine {
    modules: Arc<[Arc<dyn LuaModule>]>,
    runtime: Option<ScriptRuntime>,
    checker: Arc<ScriptChecker>,
}

/// An engine that is being put together.
#[derive(Default)]
pub struct LuaEngineBuilder {
    modules: Vec<Arc<dyn LuaModule>>,
    signal: Option<i32>,
    runtime: Option<ScriptRuntime>,
}

/// A script was not made into a function, or an engine not built.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LuaError {
    /// The source does not compile.
    #[error("the script does not compile: {message}")]
    Syntax {
        /// What is wrong, with the name of the chunk and the line.
        message: String,
    },
    /// What was given as a source was compiled already.
    #[error("`{chunk}` is bytecode, which can break out of Lua; give the source")]
    Bytecode {
        /// The name of the chunk.
        chunk: String,
    },
    /// The source is too long.
    #[error(
        "`{chunk}` has {length} bytes, and a script has at most {longest}; split it into several functions"
    )]
    TooLong {
        /// The name of the chunk.
        chunk: String,
        /// How long it is.
        length: usize,
        /// How long it can be.
        longest: usize,
    },
    /// The name of a module is not a valid name in Lua.
    #[error(
        "`{module}` is no name for a module; it has to be one in Lua: letters, digits and `_`, and no keyword"
    )]
    ModuleName {
        /// The name.
        module: String,
    },
    /// The name of a module is that of another, or of something that every script has.
    #[error("a script has something else named `{module}`; give the module another name")]
    ModuleNameTaken {
        /// The name.
        module: String,
    },
    /// A module failed as it was put into a VM.
    #[error("the module `{module}` was not installed")]
    Module {
        /// The name.
        module: String,
        /// Why.
        source: mlua::Error,
    },
    /// The signal that interrupts scripts cannot be used.
    #[error("the signal that interrupts scripts cannot be handled")]
    Signal {
        /// Why.
        source: Arc<io::Error>,
    },
    /// A VM was not made.
    #[error("no VM was made; most likely its limit of memory is too low")]
    Vm {
        /// Why.
        source: mlua::Error,
    },
}

impl LuaEngine {
    /// An engine without modules, to add some to.
    #[must_use]
    pub fn builder() -> LuaEngineBuilder {
        LuaEngineBuilder::default()
    }

    /// Compiles a script, and makes as many VMs as are to be kept [warm](crate::PoolConfig::warm). If none are, the first call
    /// makes one. `chunk` is what the script is called in errors.
    ///
    /// Functions that share a `source`, as an `Arc<str>`, keep it in memory once, and it is compiled for one of them to find its
    /// mistakes.
    ///
    /// # Errors
    ///
    /// [`LuaError::Syntax`] if it does not compile, or not within 10 seconds; [`LuaError::Bytecode`] or
    /// [`LuaError::TooLong`] if it is not even tried; [`LuaError::Vm`] if the memory that `config` gives a VM is too little to
    /// compile it.
    pub fn function(
        &self,
        chunk: &str,
        source: impl Into<Arc<str>>,
        config: LuaConfig,
    ) -> Result<LuaFunction, LuaError> {
        let source = source.into();
        if source.starts_with('\x1b') {
            return Err(LuaError::Bytecode { chunk: chunk.to_owned() });
        }
        if source.len() > LONGEST_SOURCE {
            let (length, longest) = (source.len(), LONGEST_SOURCE);
            return Err(LuaError::TooLong { chunk: chunk.to_owned(), length, longest });
        }
        LuaFunction::new(self.clone(), chunk, source, config)
    }

    /// What its scripts run on, unless that is the thread of the caller.
    pub(super) const fn runtime(&self) -> Option<&ScriptRuntime> {
        self.runtime.as_ref()
    }

    /// What finds out whether scripts compile.
    pub(super) fn checker(&self) -> &ScriptChecker {
        &self.checker
    }

    pub(super) fn modules(&self) -> &[Arc<dyn LuaModule>] {
        &self.modules
    }
}

impl LuaEngineBuilder {
    /// Adds a module, which scripts find under its name.
    #[must_use]
    pub fn module(mut self, module: impl LuaModule) -> Self {
        self.modules.push(Arc::new(module));
        self
    }

    /// Runs the scripts on the threads of `runtime`, which quarantines a script that holds one for too long. Default: a script
    /// runs on the thread that polls its caller.
    #[must_use]
    pub fn runtime(mut self, runtime: ScriptRuntime) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Sets the signal that interrupts scripts which have used up their slice of time, by its number. All engines of a
    /// process share one. Default: the signal of the engine that was built first, or else `SIGURG`, which the system
    /// ignores where no handler is installed.
    ///
    /// The signal is sent only to threads that run a script, at most once a millisecond. A handler that the program has
    /// installed before is called for these signals, too. A handler that is installed later has to call the previous one;
    /// otherwise scripts are not interrupted. System calls resume after the signal, as with `SA_RESTART`, except for those
    /// that no signal handler can resume, such as `poll` and `nanosleep`. A host function that blocks in one of these
    /// should retry on `EINTR`, as the standard library does.
    ///
    /// Has no effect on systems without signals, where scripts count their instructions.
    #[must_use]
    pub const fn signal(mut self, number: i32) -> Self {
        self.signal = Some(number);
        self
    }

    /// The engine, once every module was tried.
    ///
    /// # Errors
    ///
    /// [`LuaError::Signal`] if the [signal](Self::signal) cannot be handled, or another engine uses another one;
    /// [`LuaError::ModuleName`] or [`LuaError::ModuleNameTaken`] for the first module whose name is none, or taken;
    /// [`LuaError::Module`] for the first that cannot be installed.
    pub fn build(self) -> Result<LuaEngine, LuaError> {
        for (index, module) in self.modules.iter().enumerate() {
            let name = module.name();
            if !is_name(name) {
                return Err(LuaError::ModuleName { module: name.to_owned() });
            }
            if self.modules[..index].iter().any(|other| other.name() == name) {
                return Err(LuaError::ModuleNameTaken { module: name.to_owned() });
            }
        }
        preempt::install(self.signal).map_err(|source| LuaError::Signal { source: Arc::new(source) })?;
        let checker = Arc::new(ScriptChecker::new(0));
        let mut engine = LuaEngine { modules: self.modules.into(), runtime: self.runtime, checker };
        let (vm, names) = Vm::new(&engine, &LuaConfig::default())?;
        engine.checker = Arc::new(ScriptChecker::new(vm.used_memory()?));
        match engine.modules.iter().find(|module| names.iter().any(|taken| taken == module.name())) {
            Some(module) => Err(LuaError::ModuleNameTaken { module: module.name().to_owned() }),
            None => Ok(engine),
        }
    }
}

fn is_name(name: &str) -> bool {
    const KEYWORDS: [&str; 22] = [
        "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
        "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
    ];
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
        && !KEYWORDS.contains(&name)
}

impl fmt::Debug for LuaEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LuaEngine ")?;
        f.debug_set().entries(self.modules.iter().map(|module| module.name())).finish()
    }
}

impl fmt::Debug for LuaEngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LuaEngineBuilder ")?;
        f.debug_list().entries(self.modules.iter().map(|module| module.name())).finish()
    }
}

/// The error of a VM that cannot be made.
pub(super) fn vm_error(error: mlua::Error) -> LuaError {
    LuaError::Vm { source: error }
}
