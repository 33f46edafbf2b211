//! Processes of this crate: on a host, with a frame that two resolvers make pairs for.

use std::sync::Arc;

use frame_dispatch::process::{
    HostConfig, Message, Monitor, ProcessContext, ProcessManager, ProcessState, Spawn,
};
use frame_dispatch::{CallContext, CallError, Functions, Payload, Pid};
use frame_registry::{App, FrameResolvers, Options};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::MAILBOX;

/// Two options, each with a resolver that makes a pair of it.
mod options {
    use std::convert::Infallible;

    use frame_registry::{FrameOption, Key, Options, Pair, ResolveContext, frame_option, frame_resolver};

    #[frame_option(name = "tenant")]
    pub(super) static TENANT: FrameOption<String>;
    #[frame_option(name = "region")]
    pub(super) static REGION: FrameOption<String>;
    static TENANT_KEY: Key<String> = Key::new("tenant").inherit();
    static REGION_KEY: Key<String> = Key::new("region").inherit();

    #[frame_resolver(order = 1, covers(TENANT))]
    #[allow(clippy::unnecessary_wraps)]
    fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(options.pair(&TENANT, &TENANT_KEY))
    }

    #[frame_resolver(order = 2, covers(REGION))]
    #[allow(clippy::unnecessary_wraps)]
    fn region(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(options.pair(&REGION, &REGION_KEY))
    }
}

pub(crate) struct Frames {
    processes: ProcessManager,
    root: CallContext,
    /// Has a permit for each thing that was asked for and is done.
    done: Arc<Semaphore>,
}

/// Processes that wait for a message, in [`Frames::idle`].
pub(crate) struct Idle<'a>(&'a Frames, Vec<Pid>);

impl Frames {
    /// With a host on the runtime that this is called on.
    pub(crate) fn new() -> Self {
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).expect("there are none yet");
        let app = app.build();
        assert_eq!(app.resolvers().iter().count(), 2);
        let functions = Functions::new(app);
        let processes = ProcessManager::new(functions.clone());
        let host = HostConfig::default().with_mailbox(MAILBOX);
        processes.register_host("bench:host".parse().expect("it is one"), host).expect("it is free");
        let frames = Self { processes, root: functions.root(), done: Arc::new(Semaphore::new(0)) };
        frames.register("bench:nothing", |_, _, payload| async move { Ok(payload) });
        frames.register("bench:idle", |_, mut ctx, _| async move {
            ctx.receive().await;
            Ok(Payload::default())
        });
        frames.register("bench:player", player);
        frames.register("bench:caller", caller);
        frames.register("bench:replier", replier);
        frames.register("bench:sender", sender);
        frames.register("bench:receiver", receiver);
        frames
    }

    fn register<R>(&self, entry: &str, run: fn(Arc<Semaphore>, ProcessContext, Payload) -> R)
    where
        R: Future<Output = Result<Payload, CallError>> + Send + 'static,
    {
        let done = Arc::clone(&self.done);
        let process = move |ctx: ProcessContext, payload: Payload| run(Arc::clone(&done), ctx, payload);
        let entry = entry.parse().expect("it is one");
        self.processes.register(entry, Options::new(), process).expect("it is free");
    }

    pub(crate) const fn processes(&self) -> &ProcessManager {
        &self.processes
    }

    /// What starts a process, with both options set.
    pub(crate) fn of(&self, entry: &str) -> Spawn {
        let options = Options::new()
            .with(&options::TENANT, "tenant".to_owned())
            .with(&options::REGION, "region".to_owned());
        let host = self.processes.host_ids().remove(0);
        Spawn::new(host, entry.parse().expect("it is one")).with_options(options)
    }

    fn start(&self, entry: &str, payload: serde_json::Value) -> Pid {
        self.processes.spawn(&self.root, self.of(entry).with_payload(payload)).expect("it is registered")
    }

    async fn send(&self, to: Pid, count: u32) {
        self.processes.send(&self.root, to, json!(count)).await.expect("it lives");
    }

    /// Starts one after the other, and waits for the exit of each.
    pub(crate) async fn exec(&self, start: &Spawn, count: u32) {
        for _ in 0..count {
            self.processes.exec(&self.root, start.clone()).await.expect("it does nothing");
        }
    }

    /// Starts all, and then waits for their exits.
    pub(crate) async fn exec_all(&self, start: &Spawn, count: u32) {
        let exits: Vec<Monitor> = (0..count)
            .map(|_| {
                let pid = self.processes.spawn(&self.root, start.clone()).expect("it is registered");
                self.processes.monitor(pid).expect("its exit is remembered")
            })
            .collect();
        for exit in exits {
            assert!(exit.await.reason.is_normal());
        }
    }

    /// Two that [play](Self::play).
    pub(crate) fn players(&self) -> Pid {
        let partner = self.start("bench:player", json!(null));
        self.start("bench:player", json!(partner))
    }

    pub(crate) async fn play(&self, player: Pid, round_trips: u32) {
        self.send(player, round_trips * 2).await;
        self.is_done(1).await;
    }

    async fn is_done(&self, times: usize) {
        self.done
            .acquire_many(u32::try_from(times).expect("they are few"))
            .await
            .expect("it is open")
            .forget();
    }

    /// One that calls another.
    pub(crate) fn caller(&self) -> Pid {
        let replier = self.start("bench:replier", json!(null));
        self.start("bench:caller", json!(replier))
    }

    pub(crate) async fn call(&self, caller: Pid, count: u32) {
        self.send(caller, count).await;
        self.is_done(1).await;
    }

    /// So many that send to one.
    pub(crate) fn senders(&self, count: u32) -> Vec<Pid> {
        let receiver = self.start("bench:receiver", json!(null));
        (0..count).map(|_| self.start("bench:sender", json!(receiver))).collect()
    }

    pub(crate) async fn stream(&self, senders: &[Pid], each: u32) {
        for sender in senders {
            self.send(*sender, each).await;
        }
        self.is_done(senders.len()).await;
    }

    fn waits(&self, pid: Pid) -> bool {
        self.processes.info(pid).expect("it lives").state == ProcessState::Receiving
    }

    pub(crate) async fn idle(&self, start: &Spawn, count: usize) -> Idle<'_> {
        let started = (0..count).map(|_| self.processes.spawn(&self.root, start.clone()));
        let pids: Vec<_> = started.map(|pid| pid.expect("there is room")).collect();
        for pid in &pids {
            while !self.waits(*pid) {
                tokio::task::yield_now().await;
            }
        }
        Idle(self, pids)
    }
}

impl Idle<'_> {
    pub(crate) async fn end(self) {
        for pid in self.1 {
            let exit = self.0.processes.monitor(pid).expect("it lives");
            self.0.processes.terminate(pid).expect("it lives");
            exit.await;
        }
    }
}

/// Sends the number that it receives, less one, to whoever it is from: the first to its partner.
async fn player(
    done: Arc<Semaphore>,
    mut ctx: ProcessContext,
    partner: Payload,
) -> Result<Payload, CallError> {
    let partner: Option<Pid> = partner.as_json().and_then(|json| serde_json::from_value(json.clone()).ok());
    while let Message::Sent { from, payload, .. } = ctx.receive().await {
        match payload.as_json().and_then(serde_json::Value::as_u64) {
            Some(left @ 1..) => {
                let to = from.or(partner).expect("one of both knows the other");
                ctx.send(to, json!(left - 1)).await?;
            }
            _ => done.add_permits(1),
        }
    }
    Ok(Payload::default())
}

/// Calls the other as often as it is told, with numbers down to zero.
async fn caller(
    done: Arc<Semaphore>,
    mut ctx: ProcessContext,
    replier: Payload,
) -> Result<Payload, CallError> {
    let replier = replier.as_json().and_then(|json| serde_json::from_value::<Pid>(json.clone()).ok());
    let replier = replier.ok_or_else(|| CallError::invalid("the replier is its payload"))?;
    while let Message::Sent { payload, .. } = ctx.receive().await {
        let count = payload.as_json().and_then(serde_json::Value::as_u64).unwrap_or_default();
        for left in (0..count).rev() {
            let reply = ctx.call(replier, json!(left)).await?;
            assert_eq!(reply.as_json().and_then(serde_json::Value::as_u64), Some(left + 1));
        }
        done.add_permits(1);
    }
    Ok(Payload::default())
}

async fn replier(_: Arc<Semaphore>, mut ctx: ProcessContext, _: Payload) -> Result<Payload, CallError> {
    loop {
        let message = ctx.receive().await;
        let number = message.payload().and_then(Payload::as_json).and_then(serde_json::Value::as_u64);
        message.reply(json!(number.unwrap_or_default() + 1))?;
    }
}

/// Sends as many numbers as it is told, down to zero.
async fn sender(_: Arc<Semaphore>, mut ctx: ProcessContext, receiver: Payload) -> Result<Payload, CallError> {
    let receiver = receiver.as_json().and_then(|json| serde_json::from_value::<Pid>(json.clone()).ok());
    let receiver = receiver.ok_or_else(|| CallError::invalid("the receiver is its payload"))?;
    while let Message::Sent { payload, .. } = ctx.receive().await {
        let count = payload.as_json().and_then(serde_json::Value::as_u64).unwrap_or_default();
        for left in (0..count).rev() {
            ctx.send(receiver, json!(left)).await?;
        }
    }
    Ok(Payload::default())
}

async fn receiver(done: Arc<Semaphore>, mut ctx: ProcessContext, _: Payload) -> Result<Payload, CallError> {
    while let Message::Sent { payload, .. } = ctx.receive().await {
        if payload.as_json().and_then(serde_json::Value::as_u64) == Some(0) {
            done.add_permits(1);
        }
    }
    Ok(Payload::default())
}
