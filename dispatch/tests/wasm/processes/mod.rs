//! Processes that are components.

mod budgets;
mod calls;
mod children;
mod ending;
mod messages;
mod others;
mod owned;
mod timers;

use std::future::Future;

use frame_dispatch::process::{Exit, HostConfig, ManagerConfig, ProcessManager, Spawn};
use frame_dispatch::wasm::{ProcessModule, WasmConfig, WasmEngine};
use frame_dispatch::{CallContext, Functions, Payload, Pid};
use frame_registry::Options;
use tokio::time::timeout;

use crate::common::{AGES, TestHost, functions};

/// Processes, and an engine whose components have them.
pub(super) struct Surroundings {
    pub(super) functions: Functions,
    pub(super) processes: ProcessManager,
    pub(super) engine: WasmEngine,
    pub(super) root: CallContext,
}

/// Waits for `future`, but not for ever; `who` says who waited for what.
pub(super) async fn within<T>(who: &str, future: impl Future<Output = T>) -> T {
    timeout(AGES, future).await.unwrap_or_else(|_| panic!("in vain: {who}"))
}

/// With the host `app:host`, and the guest `steps` as the process `app:steps`.
pub(super) fn surroundings() -> Surroundings {
    configured(ManagerConfig::default(), HostConfig::default(), ProcessModule::new)
}

pub(super) fn configured(
    manager: ManagerConfig,
    host: HostConfig,
    module: impl Fn(&ProcessManager) -> ProcessModule,
) -> Surroundings {
    let functions = functions();
    let processes = ProcessManager::with_config(functions.clone(), manager);
    processes.register_host("app:host".parse().unwrap(), host).unwrap();
    let engine =
        WasmEngine::builder().instances(16).module(TestHost).module(module(&processes)).build().unwrap();
    let root = functions.root();
    let surroundings = Surroundings { functions, processes, engine, root };
    surroundings.register("app:steps", &frame_guests::guest("steps"), WasmConfig::process());
    surroundings
}

/// A process of `entry`, given this payload.
pub(super) fn start(entry: &str, payload: impl Into<Payload>) -> Spawn {
    Spawn::new("app:host".parse().unwrap(), entry.parse().unwrap()).with_payload(payload)
}

/// What the guest `steps` takes.
pub(super) fn steps(steps: &[&str]) -> Spawn {
    start("app:steps", steps.join("\n").into_bytes())
}

/// A step of the guest `steps` that starts another with these.
pub(super) fn starts(steps: &str, name: &str, monitor: bool, link: bool) -> String {
    format!("b\napp:host\napp:steps\n{steps}\n{name}\n\n{}\n{}", u8::from(monitor), u8::from(link))
}

impl Surroundings {
    pub(super) fn register(&self, entry: &str, component: &[u8], config: WasmConfig) {
        let function = self.engine.function(component, config).unwrap();
        self.processes.register(entry.parse().unwrap(), Options::new(), function).unwrap();
    }

    pub(super) fn start(&self, start: Spawn) -> Pid {
        self.processes.spawn(&self.root, start).unwrap()
    }

    pub(super) async fn exit(&self, pid: Pid) -> Exit {
        within("a test for the exit of a process", self.processes.monitor(pid).unwrap()).await
    }

    /// Runs the guest `steps` to its end, and gives what came of each step.
    pub(super) async fn run(&self, start: Spawn) -> Vec<String> {
        let result = within("a test for what steps give", self.processes.exec(&self.root, start)).await;
        lines(&result.unwrap())
    }
}

pub(super) fn lines(result: &Payload) -> Vec<String> {
    let text = String::from_utf8(result.as_bytes().unwrap().to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Waits until a process has this name: where it registers that itself, it runs.
pub(super) async fn until_named(all: &Surroundings, name: &str) -> Pid {
    let named = async {
        loop {
            match all.processes.whereis(name) {
                Some(pid) => return pid,
                None => tokio::task::yield_now().await,
            }
        }
    };
    within("a test for a process of a name", named).await
}
