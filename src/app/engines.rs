//! What scripts and components run in, with all that they reach of the world.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::{fmt, io};

use frame_dispatch::lua::{self, LuaEngine, LuaFunction};
use frame_dispatch::process::{Process, ProcessContext, ProcessManager};
#[cfg(feature = "wasm")]
use frame_dispatch::wasm::WasmFunction;
use frame_dispatch::{BoxFuture, CallContext, CallError, Function, Payload, Quarantine, ScriptRuntime};
use frame_net::http::HttpClient;
use frame_registry::BoxError;

use crate::manifest::{self, Limits, Manifest, Role};
use crate::modules;
use crate::threads::{Panicked, Workers, processors};

/// The engines of an app. A script and a component of an app are not trusted: they deal with processes of their own.
#[derive(Debug)]
pub(crate) struct Engines {
    lua: LuaEngine,
    #[cfg(feature = "wasm")]
    wasm: components::Engines,
    /// That of all modules `http`.
    pub(crate) http: HttpClient,
    pub(crate) compilers: Compilers,
}

impl Engines {
    /// The engines for what is to deal with the processes of `manager`, and to make its requests with `http`.
    pub(crate) fn new(
        manifest: &Manifest,
        manager: &ProcessManager,
        http: HttpClient,
    ) -> Result<Self, BoxError> {
        #[cfg(not(feature = "wasm"))]
        let _ = manifest;
        // One for all, so that none of them can hold the threads on which the app is controlled.
        let runtime = ScriptRuntime::new();
        runtime
            .start_threads()
            .map_err(|error| format!("the threads of scripts were not started: {error}"))?;
        let compilers = Compilers::start()
            .map_err(|error| format!("the threads that compile were not started: {error}"))?;
        // The host modules of scripts; those of components are in `components`.
        let lua = LuaEngine::builder()
            .runtime(runtime.clone())
            .module(lua::ProcessModule::new(manager))
            .module(modules::lua::FsModule::new())
            .module(modules::lua::HttpModule::new(http.clone()))
            .module(modules::lua::JsonModule::new())
            .module(modules::lua::NetModule::new())
            .module(modules::lua::WebSocketModule::new(http.clone()))
            .build()?;
        Ok(Self {
            lua,
            #[cfg(feature = "wasm")]
            wasm: components::Engines::new(manifest.wasm.clone(), manager, http.clone(), runtime),
            http,
            compilers,
        })
    }

    /// Compiles a source, which takes up to minutes, on a thread that may block. Calls `compiling` first if it takes long.
    pub(crate) fn compile(
        &self,
        function: &manifest::Function,
        role: Role,
        compiling: impl FnOnce(),
    ) -> Result<Code, BoxError> {
        let source = &function.source;
        match &function.limits {
            Limits::Lua(limits) => {
                let text = source.text.clone().ok_or("the script is not text in UTF-8")?;
                // It makes no difference to a VM what it runs as, and a script compiles in no time.
                let _ = (role, compiling);
                Ok(Code::Lua(self.lua.function(&source.path, text, limits.clone())?))
            }
            #[cfg(feature = "wasm")]
            Limits::Wasm(limits) => {
                let engine = self.wasm.of(role)?;
                Ok(Code::Wasm(engine.function_with(&source.bytes, *limits, compiling)?))
            }
        }
    }
}

/// A source that was compiled. Cloning it is one reference count.
#[derive(Clone)]
pub(crate) enum Code {
    Lua(LuaFunction),
    #[cfg(feature = "wasm")]
    Wasm(WasmFunction),
}

impl Code {
    /// Why its calls are refused, if they are.
    pub(crate) fn quarantine(&self) -> Option<Quarantine> {
        match self {
            Self::Lua(function) => function.quarantine(),
            #[cfg(feature = "wasm")]
            Self::Wasm(function) => function.quarantine(),
        }
    }
}

impl Function for Code {
    fn call(&self, ctx: CallContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        match self {
            Self::Lua(function) => function.call(ctx, payload),
            #[cfg(feature = "wasm")]
            Self::Wasm(function) => function.call(ctx, payload),
        }
    }
}

impl Process for Code {
    fn is_quarantined(&self) -> bool {
        self.quarantine().is_some()
    }

    fn engine(&self) -> &'static str {
        match self {
            Self::Lua(process) => process.engine(),
            #[cfg(feature = "wasm")]
            Self::Wasm(process) => process.engine(),
        }
    }

    fn run(&self, ctx: ProcessContext, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        match self {
            Self::Lua(process) => process.run(ctx, payload),
            #[cfg(feature = "wasm")]
            Self::Wasm(process) => process.run(ctx, payload),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.engine())
    }
}

#[cfg(feature = "wasm")]
mod components {
    //! The engines of components, made when the first component needs one: each takes a lot of address space, and a thread.

    use std::path::PathBuf;
    use std::sync::{Mutex, Once, PoisonError};

    use frame_dispatch::ScriptRuntime;
    use frame_dispatch::process::ProcessManager;
    use frame_dispatch::wasm::{self, WasmEngine, WasmError};
    use frame_net::http::HttpClient;
    use frame_registry::BoxError;

    use super::Role;
    use crate::manifest::WasmSection;
    use crate::modules::wasm::{FsModule, HttpModule};
    use crate::threads::{can_start, processors, refused};

    /// One for functions and one for processes: a process keeps its instance for as long as it lives, and must not leave
    /// functions without any.
    #[derive(Debug)]
    pub(crate) struct Engines {
        section: WasmSection,
        manager: ProcessManager,
        client: HttpClient,
        runtime: ScriptRuntime,
        functions: Mutex<Option<WasmEngine>>,
        processes: Mutex<Option<WasmEngine>>,
    }

    impl Engines {
        pub(crate) fn new(
            section: WasmSection,
            manager: &ProcessManager,
            client: HttpClient,
            runtime: ScriptRuntime,
        ) -> Self {
            let (functions, processes) = (Mutex::default(), Mutex::default());
            Self { section, manager: manager.clone(), client, runtime, functions, processes }
        }

        pub(crate) fn of(&self, role: Role) -> Result<WasmEngine, BoxError> {
            let place = match role {
                Role::Function => &self.functions,
                Role::Process => &self.processes,
            };
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(engine) = &*place {
                return Ok(engine.clone());
            }
            // Compiling starts threads of its own, and panics from then on where the first attempt could not.
            can_start(processors() + 1)
                .map_err(|error| refused("the threads that compile components", error))?;
            let engine = self.build().map_err(|error| match error {
                WasmError::Engine { .. } => {
                    let help = "lower `instances`, `memories` or `memory_reservation` in `[wasm]`";
                    format!("{error}; {help}, or raise the limit of address space (`ulimit -v`)").into()
                }
                error => BoxError::from(error),
            })?;
            *place = Some(engine.clone());
            Ok(engine)
        }

        fn build(&self) -> Result<WasmEngine, WasmError> {
            // The host modules of components.
            let builder = || {
                WasmEngine::builder()
                    .instances(self.section.instances)
                    .memories(self.section.memories)
                    .memory_reservation(self.section.memory_reservation)
                    .component_limits(self.section.component)
                    .runtime(self.runtime.clone())
                    .module(wasm::ProcessModule::new(&self.manager))
                    .module(FsModule::new())
                    .module(HttpModule::new(self.client.clone()))
            };
            let Some(directory) = cache_directory() else { return builder().build() };
            match builder().cache(directory).build() {
                // It is there to save time, and an app starts without it.
                Err(error @ WasmError::Cache { .. }) => {
                    CACHE_REFUSED.call_once(|| {
                        tracing::warn!(
                            "{error}; components are compiled at each start. Set `XDG_CACHE_HOME` to a directory that no other user can write to"
                        );
                    });
                    builder().build()
                }
                built => built,
            }
        }
    }

    /// Both engines find the same.
    static CACHE_REFUSED: Once = Once::new();

    /// Where this user's programs keep what they can make again, by the XDG base directory specification.
    fn cache_directory() -> Option<PathBuf> {
        let directory = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = directory("XDG_CACHE_HOME").or_else(|| directory("HOME").map(|home| home.join(".cache")));
        cache.map(|cache| cache.join("frame").join("components"))
    }
}

/// How many abandoned reloads may still be compiling beside the current one. After that a reload waits for one of them: each takes
/// processors and memory.
const MOST_ABANDONED: usize = 2;

/// A thread for each processor. They are there from the beginning, because a reload must not fail for want of one.
#[derive(Debug)]
pub(crate) struct Compilers {
    sets: Mutex<Sets>,
}

#[derive(Debug)]
struct Sets {
    current: Set,
    /// What the jobs hold that were abandoned.
    abandoned: Vec<Weak<()>>,
}

/// Threads, and what their jobs hold while they are queued or run.
#[derive(Debug)]
struct Set {
    workers: Workers,
    busy: Arc<()>,
}

impl Set {
    fn start() -> io::Result<Self> {
        Ok(Self { workers: Workers::start("frame-compile", processors())?, busy: Arc::default() })
    }
}

impl Compilers {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// If the system refuses one of them.
    fn start() -> io::Result<Self> {
        let sets = Sets { current: Set::start()?, abandoned: Vec::new() };
        Ok(Self { sets: Mutex::new(sets) })
    }

    /// Queues a job, as [`Workers::run`].
    pub(crate) fn run<T, F>(&self, job: F) -> impl Future<Output = Result<T, Panicked>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = Arc::clone(&sets.current.busy);
        sets.current.workers.run(move || {
            let done = job();
            drop(busy);
            done
        })
    }

    /// Leaves the threads to the jobs that they have begun, of a reload that was abandoned, and starts others for the next one.
    /// Where the system refuses those, or too many were left already, the next one waits for the threads.
    pub(crate) fn abandon(&self) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.abandoned.retain(|busy| busy.strong_count() > 0);
        if Arc::strong_count(&sets.current.busy) == 1 || sets.abandoned.len() >= MOST_ABANDONED {
            return;
        }
        match Set::start() {
            Ok(set) => {
                let earlier = std::mem::replace(&mut sets.current, set);
                sets.abandoned.push(Arc::downgrade(&earlier.busy));
            }
            Err(error) => {
                tracing::warn!(%error, "the reload waits for what an abandoned one is compiling");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Keeps all threads busy until the sender is dropped.
    fn occupy(compilers: &Compilers) -> Sender<()> {
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        for _ in 0..processors() {
            let released = Arc::clone(&released);
            let running = compilers.run(move || drop(released.lock().map(|released| released.recv())));
            tokio::spawn(running);
        }
        release
    }

    #[tokio::test]
    async fn what_is_abandoned_holds_up_no_more_than_the_third_reload_after_it() {
        let compilers = Compilers::start().unwrap();
        let mut held = Vec::new();
        for _ in 0..MOST_ABANDONED {
            held.push(occupy(&compilers));
            compilers.abandon();
            assert_eq!(compilers.run(|| 42).await.unwrap(), 42);
        }
        held.push(occupy(&compilers));
        compilers.abandon();
        let waiting = compilers.run(|| 42);
        tokio::pin!(waiting);
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        held.clear();
        assert_eq!(waiting.await.unwrap(), 42);
    }
}
