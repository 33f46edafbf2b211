//! What the tests of processes share.

use std::future::Future;
use std::time::Duration;

use frame_dispatch::process::{HostConfig, ProcessCtx, ProcessManager, Start};
use frame_dispatch::{CallError, Ctx, Functions, Payload};
use frame_registry::{App, FrameResolvers, Options};

/// Longer than anything here takes, also on a machine that is busy with something else.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Waits for `future`, but not for ever; `who` says who waited for what.
pub(crate) async fn within<T>(who: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.unwrap_or_else(|_| panic!("in vain: {who}"))
}

/// A manager with the host `test:host`, and what calls from outside are made with.
pub(crate) fn manager(config: HostConfig) -> (ProcessManager, Ctx) {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    let functions = Functions::new(app.build());
    let processes = ProcessManager::new(functions.clone());
    processes.register_host("test:host".parse().unwrap(), config).unwrap();
    (processes, functions.root())
}

/// Registers a native process.
pub(crate) fn register<F, R>(processes: &ProcessManager, entry: &str, process: F)
where
    F: Fn(ProcessCtx, Payload) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Payload, CallError>> + Send + 'static,
{
    processes.register(entry.parse().unwrap(), Options::new(), process).unwrap();
}

/// A process of `entry` on the host `test:host`.
pub(crate) fn start(entry: &str) -> Start {
    Start::new("test:host".parse().unwrap(), entry.parse().unwrap())
}
