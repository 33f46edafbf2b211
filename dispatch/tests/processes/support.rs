//! What the tests of processes share.

use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use frame_dispatch::process::{
    Exit, HostConfig, HostId, Lifecycle, ManagerConfig, Message, ProcessContext, ProcessManager, ProcessRef,
    Spawn,
};
use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, Pid};
use frame_registry::{
    App, BoxError, FrameOption, FrameResolvers, Key, Options, Pair, ResolveContext, frame_option,
    frame_resolver,
};
use tokio::sync::mpsc;

/// Longer than anything here takes, also on a machine that is busy with something else.
pub(crate) const BOUND: Duration = Duration::from_mins(1);

/// A grace period that no test waits for.
pub(crate) const LONG: Duration = Duration::from_hours(1);

#[frame_option(name = "tenant")]
pub(crate) static TENANT: FrameOption<String>;

pub(crate) static TENANT_KEY: Key<String> = Key::new("tenant").inherit();

#[frame_resolver(order = 100, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {
    match options.get(&TENANT) {
        Some(tenant) if tenant == "nobody" => Err("nobody is no tenant".to_owned()),
        Some(tenant) if tenant == "anarchy" => panic!("out of order"),
        _ => Ok(options.pair(&TENANT, &TENANT_KEY)),
    }
}

pub(crate) fn tenant_option(tenant: &str) -> Options {
    Options::new().with(&TENANT, tenant.to_owned())
}

/// Waits for `future`, but not for ever; `who` says who waited for what.
pub(crate) async fn within<T>(who: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.unwrap_or_else(|_| panic!("in vain: {who}"))
}

/// Waits until `is_so`, which nothing tells of; `who` says who waited for what.
pub(crate) async fn until(who: &str, mut is_so: impl FnMut() -> bool) {
    let looks = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    within(who, looks).await;
}

/// A manager with the host `test:host`, and what calls from outside are made with.
pub(crate) fn manager(config: HostConfig) -> (ProcessManager, CallContext) {
    manager_with(ManagerConfig::default(), config)
}

pub(crate) fn manager_with(config: ManagerConfig, host: HostConfig) -> (ProcessManager, CallContext) {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    let functions = Functions::new(app.build());
    let processes = ProcessManager::with_config(functions.clone(), config);
    processes.register_host(host_id(), host).unwrap();
    processes.register("test:done".parse().unwrap(), Options::new(), done).unwrap();
    processes.register("test:obey".parse().unwrap(), Options::new(), obey).unwrap();
    processes.register("test:forever".parse().unwrap(), Options::new(), forever).unwrap();
    (processes, functions.root())
}

pub(crate) fn host_id() -> HostId {
    "test:host".parse().unwrap()
}

/// Gives back what it was given, at once.
async fn done(_: ProcessContext, payload: Payload) -> Result<Payload, CallError> {
    Ok(payload)
}

/// Ends as the first message says: `done`, `fail` or `panic`; or because it is cancelled. Others are nothing to it.
async fn obey(mut ctx: ProcessContext, _: Payload) -> Result<Payload, CallError> {
    loop {
        match ctx.receive().await {
            Message::Sent { payload, .. } => match payload.as_json().and_then(|it| it.as_str()) {
                Some("done") => return Ok(payload),
                Some("fail") => return Err(CallError::invalid("told to fail")),
                Some("panic") => panic!("told to panic"),
                _ => (),
            },
            Message::Cancelled { .. } => return Err(CallError::new(ErrorKind::Cancelled, "as it was told")),
            _ => (),
        }
    }
}

/// Receives nothing, and does not end.
async fn forever(_ctx: ProcessContext, _: Payload) -> Result<Payload, CallError> {
    pending().await
}

/// Registers a native process.
pub(crate) fn register<F, R>(processes: &ProcessManager, entry: &str, process: F)
where
    F: Fn(ProcessContext, Payload) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Payload, CallError>> + Send + 'static,
{
    processes.register(entry.parse().unwrap(), Options::new(), process).unwrap();
}

/// Registers a native process that is to say something to the test.
pub(crate) fn register_saying<T, F, R>(
    processes: &ProcessManager,
    entry: &str,
    process: F,
) -> mpsc::UnboundedReceiver<T>
where
    T: Send + 'static,
    F: Fn(ProcessContext, Payload, mpsc::UnboundedSender<T>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Payload, CallError>> + Send + 'static,
{
    let (sender, receiver) = mpsc::unbounded_channel();
    register(processes, entry, move |ctx, payload| process(ctx, payload, sender.clone()));
    receiver
}

/// What a process says next.
pub(crate) async fn said<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    within("a test for what a process says", receiver.recv()).await.expect("a process that says something")
}

/// A process of `entry` on the host `test:host`.
pub(crate) fn start(entry: &str) -> Spawn {
    Spawn::new(host_id(), entry.parse().unwrap())
}

/// The exit of a process that ends, or has.
pub(crate) async fn exit_of(processes: &ProcessManager, pid: Pid) -> Exit {
    let exit = within("a monitor for an exit", processes.monitor(pid).unwrap()).await;
    assert_eq!(exit.pid, pid);
    exit
}

/// Waits until no process lives.
pub(crate) async fn all_gone(processes: &ProcessManager) {
    for process in processes.processes() {
        if let Ok(exit) = processes.monitor(process.pid) {
            within("a monitor for the exit of each", exit).await;
        }
    }
    // The exit of a process is known a moment before it is not found any more.
    until("the last process", || processes.is_empty()).await;
}

/// A handler that counts what it is told.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    pub(crate) starting: Arc<AtomicUsize>,
    pub(crate) ended: Arc<AtomicUsize>,
}

impl Counts {
    pub(crate) fn get(&self) -> (usize, usize) {
        (self.starting.load(Ordering::SeqCst), self.ended.load(Ordering::SeqCst))
    }
}

impl Lifecycle for Counts {
    fn name(&self) -> &'static str {
        "counts"
    }

    fn order(&self) -> i32 {
        0
    }

    fn starting(&self, _: &ProcessRef<'_>) -> Result<(), BoxError> {
        self.starting.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn ended(&self, _: &ProcessRef<'_>, _: Option<&Exit>) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}
