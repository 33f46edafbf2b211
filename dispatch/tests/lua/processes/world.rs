//! An app whose processes are scripts, and what they are started with.

use std::future::Future;
use std::sync::Arc;

use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaFunction, ProcessModule};
use frame_dispatch::process::{
    ExecError, Exit, ExitReason, HostConfig, ManagerConfig, ProcessContext, ProcessManager, Spawn,
};
use frame_dispatch::{CallContext, CallError, Payload, Pid};
use frame_registry::Options;
use serde_json::Value as Json;
use tokio::time::timeout;

use crate::support::{GENEROUS, functions};

/// Waits for `future`, but not for ever; `who` says who waited for what.
pub(crate) async fn within<T>(who: &str, future: impl Future<Output = T>) -> T {
    timeout(GENEROUS, future).await.unwrap_or_else(|_| panic!("in vain: {who}"))
}

/// Processes on the host `app:host`.
pub(crate) struct World {
    pub(crate) processes: ProcessManager,
    pub(crate) root: CallContext,
    pub(crate) engine: LuaEngine,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_host(HostConfig::default())
    }

    pub(crate) fn with_host(host: HostConfig) -> Self {
        Self::with_manager(ManagerConfig::default(), host, |module| module)
    }

    pub(crate) fn trusted() -> Self {
        Self::with_manager(ManagerConfig::default(), HostConfig::default(), ProcessModule::trusted)
    }

    pub(crate) fn with_manager(
        config: ManagerConfig,
        host: HostConfig,
        module: impl FnOnce(ProcessModule) -> ProcessModule,
    ) -> Self {
        let functions = functions();
        let processes = ProcessManager::with_config(functions.clone(), config);
        processes.register_host("app:host".parse().unwrap(), host).unwrap();
        let engine = LuaEngine::builder().module(module(ProcessModule::new(&processes))).build().unwrap();
        Self { root: functions.root(), processes, engine }
    }

    /// Registers a script.
    pub(crate) fn script(&self, entry: &str, source: &str) -> LuaFunction {
        self.script_with(entry, source, LuaConfig::process())
    }

    pub(crate) fn script_with(&self, entry: &str, source: &str, config: LuaConfig) -> LuaFunction {
        let function = self.engine.function("script", source, config).unwrap();
        self.processes.register(entry.parse().unwrap(), Options::new(), function.clone()).unwrap();
        function
    }

    /// Registers a script as a function.
    pub(crate) fn function(&self, id: &str, source: &str) {
        let function = self.engine.function("script", source, LuaConfig::default()).unwrap();
        self.processes.functions().register(id.parse().unwrap(), Options::new(), function).unwrap();
    }

    /// Registers a native process.
    pub(crate) fn native<F, R>(&self, entry: &str, process: F)
    where
        F: Fn(ProcessContext, Payload) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Payload, CallError>> + Send + 'static,
    {
        self.processes.register(entry.parse().unwrap(), Options::new(), process).unwrap();
    }

    pub(crate) fn start(&self, entry: &str) -> Pid {
        self.processes.spawn(&self.root, of(entry)).unwrap()
    }

    /// The exit of a process.
    pub(crate) async fn exit(&self, pid: Pid) -> Exit {
        within("a monitor for an exit", self.processes.monitor(pid).unwrap()).await
    }

    /// What a process of a script returns.
    pub(crate) async fn ran(&self, source: &str) -> Json {
        match self.run(source).await {
            Ok(Payload::Json(json)) => json,
            other => panic!("{source}: {other:?}"),
        }
    }

    /// What a process of a script fails with.
    pub(crate) async fn failed(&self, source: &str) -> Arc<CallError> {
        match self.run(source).await.expect_err(source) {
            ExecError::Exit { exit: Exit { reason: ExitReason::Failed(error), .. } } => error,
            other => panic!("{source}: {other}"),
        }
    }

    async fn run(&self, source: &str) -> Result<Payload, ExecError> {
        let entry = "app:run".parse().unwrap();
        self.processes.unregister(&entry);
        self.script("app:run", source);
        within(source, self.processes.exec(&self.root, of("app:run"))).await
    }
}

/// A process of `entry` on the host `app:host`.
pub(crate) fn of(entry: &str) -> Spawn {
    Spawn::new("app:host".parse().unwrap(), entry.parse().unwrap())
}
