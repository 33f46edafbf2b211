//! What the tests of supervisors share.

use std::future::Future;
use std::time::Duration;

use frame_dispatch::process::supervisor::{
    Backoff, ChildInfo, ChildSpec, ChildState, RestartPolicy, Strategy, Supervisor, SupervisorBuilder,
    SupervisorHandle,
};
use frame_dispatch::process::{Exit, HostConfig, Message, Monitor, ProcessContext, ProcessManager, Spawn};
use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, Pid};
use frame_registry::{App, Options};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Longer than anything here takes, also on a machine that is busy with something else.
pub(crate) const BOUND: Duration = Duration::from_mins(10);

/// Waits for `future`, but not for ever; `who` says who waited for what.
pub(crate) async fn within<T>(who: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.unwrap_or_else(|_| panic!("in vain: {who}"))
}

/// With the clock paused this returns when nothing else is to do.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_nanos(1)).await;
}

/// Processes, with the host `test:host`, and the entry `test:child`, which says what becomes of it.
///
/// With the payload `{"id": "a"}` it says `+a` when it is started, `-a` when it is cancelled, upon which it ends, and `!a` when
/// it ends without having been asked. With `"stubborn": true` it does not end when it is cancelled; with `"slow": 3` it
/// takes so many seconds. It ends as the message says that it is sent: see [`Field::tell`].
pub(crate) struct Field {
    pub(crate) processes: ProcessManager,
    pub(crate) root: CallContext,
    said: UnboundedReceiver<String>,
}

/// A supervisor that runs.
pub(crate) struct Top {
    pub(crate) pid: Pid,
    pub(crate) handle: SupervisorHandle,
    pub(crate) exit: Monitor,
}

/// Says how a child ends, when it does.
struct Saying {
    id: String,
    was_asked: bool,
    to: UnboundedSender<String>,
}

impl Saying {
    fn say(&self, what: char) {
        // The test may be over.
        let _ = self.to.send(format!("{what}{}", self.id));
    }
}

impl Drop for Saying {
    fn drop(&mut self) {
        if !self.was_asked {
            self.say('!');
        }
    }
}

async fn child(
    mut ctx: ProcessContext,
    payload: Payload,
    to: UnboundedSender<String>,
) -> Result<Payload, CallError> {
    let is = payload.as_json().cloned().unwrap_or_default();
    let mut saying = Saying { id: is["id"].as_str().unwrap_or("?").to_owned(), was_asked: false, to };
    saying.say('+');
    match ctx.receive().await {
        Message::Cancelled { .. } => {
            saying.was_asked = true;
            saying.say('-');
            if is["stubborn"] == true {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_secs(is["slow"].as_u64().unwrap_or(0))).await;
            Ok(Payload::default())
        }
        Message::Sent { payload, .. } => match payload.as_json().and_then(Value::as_str) {
            Some("done") => Ok(Payload::default()),
            Some("fail") => Err(CallError::invalid("told to fail")),
            Some("obey") => Err(CallError::new(ErrorKind::Cancelled, "told to obey")),
            Some("panic") => panic!("told to panic"),
            told => panic!("told {told:?}"),
        },
        other => panic!("a child received {other:?}"),
    }
}

impl Field {
    pub(crate) fn new() -> Self {
        Self::on(HostConfig::default())
    }

    pub(crate) fn on(host: HostConfig) -> Self {
        let functions = Functions::new(App::builder().build());
        let processes = ProcessManager::new(functions.clone());
        processes.register_host("test:host".parse().unwrap(), host).unwrap();
        let (to, said) = unbounded_channel();
        let run = move |ctx: ProcessContext, payload: Payload| child(ctx, payload, to.clone());
        processes.register("test:child".parse().unwrap(), Options::new(), run).unwrap();
        Self { processes, root: functions.root(), said }
    }

    /// Registers a supervisor as `entry`.
    pub(crate) fn register(&self, entry: &str, supervisor: SupervisorBuilder) -> SupervisorHandle {
        let supervisor = supervisor.build().unwrap();
        let handle = supervisor.handle();
        self.processes.register(entry.parse().unwrap(), Options::new(), supervisor).unwrap();
        handle
    }

    /// Starts a supervisor as `test:top`, and waits until it has started its children.
    pub(crate) async fn up(&self, supervisor: SupervisorBuilder) -> Top {
        let handle = self.register("test:top", supervisor);
        let pid = self.processes.spawn(&self.root, start("test:top")).unwrap();
        let exit = self.processes.monitor(pid).unwrap();
        assert_eq!(within("the test for the supervisor", handle.ready()).await, pid);
        Top { pid, handle, exit }
    }

    /// Tells a child to be `done`, to `fail`, to `panic`, or to `obey`: to end as one that was cancelled.
    pub(crate) fn tell(&self, pid: Pid, what: &str) {
        if what == "obey" {
            // It is asked last, so the message is there first.
            self.processes.try_send(&self.root, pid, json!(what)).unwrap();
            return self.processes.cancel(pid, "a test", BOUND).unwrap();
        }
        self.processes.try_send(&self.root, pid, json!(what)).unwrap();
    }

    /// What was said until there is nothing more to do.
    pub(crate) async fn said(&mut self) -> String {
        settle().await;
        let mut all = Vec::new();
        while let Ok(said) = self.said.try_recv() {
            all.push(said);
        }
        all.join(" ")
    }

    /// Waits for the next thing that is said.
    pub(crate) async fn next(&mut self) -> String {
        within("the test for a child to say something", self.said.recv()).await.unwrap()
    }

    /// Waits until no process lives.
    pub(crate) async fn gone(&self) {
        settle().await;
        assert!(self.processes.is_empty(), "some live:\n{}", self.processes.processes());
    }
}

impl Top {
    pub(crate) async fn children(&self) -> Vec<ChildInfo> {
        within("the test for the children", self.handle.children()).await.unwrap()
    }

    pub(crate) async fn child(&self, id: &str) -> ChildInfo {
        let children = self.children().await;
        children
            .iter()
            .find(|child| child.id == id)
            .unwrap_or_else(|| panic!("no {id}: {children:?}"))
            .clone()
    }

    /// The process of a child.
    pub(crate) async fn pid_of(&self, id: &str) -> Pid {
        self.child(id).await.pid.unwrap_or_else(|| panic!("{id} is down"))
    }

    /// The children, with what each does and how often it was restarted.
    pub(crate) async fn shown(&self) -> Vec<(String, ChildState, u64)> {
        self.children().await.into_iter().map(|child| (child.id, child.state, child.restarts)).collect()
    }

    pub(crate) async fn exit(self) -> Exit {
        within("the test for the end of the supervisor", self.exit).await
    }
}

/// A process of `entry` on the host `test:host`.
pub(crate) fn start(entry: &str) -> Spawn {
    Spawn::new("test:host".parse().unwrap(), entry.parse().unwrap())
}

/// A child of the entry `test:child`.
pub(crate) fn spec(id: &str) -> ChildSpec {
    spec_with(id, json!({ "id": id }))
}

pub(crate) fn spec_with(id: &str, payload: Value) -> ChildSpec {
    ChildSpec::new(id, start("test:child").with_payload(payload))
}

/// Restarts children immediately, and often.
pub(crate) fn often() -> RestartPolicy {
    RestartPolicy::default().with_backoff(Backoff::none()).with_intensity(1_000, Duration::from_secs(1))
}

/// A supervisor of such children that restarts them immediately, and often.
pub(crate) fn supervisor<const N: usize>(strategy: Strategy, ids: [&str; N]) -> SupervisorBuilder {
    let empty = Supervisor::builder(strategy).restart_policy(often());
    ids.into_iter().map(spec).fold(empty, SupervisorBuilder::child)
}
