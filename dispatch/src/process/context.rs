//! What a running process has to hand.

use std::sync::Arc;
use std::time::Duration;

use frame_registry::Frame;
use tokio::time::{Instant, timeout};

use super::call::ProcessCallError;
use super::cell::{LinkedStarter, ProcessCell};
use super::entry::EntryId;
use super::error::{ProcessError, SendError, SpawnError};
use super::mailbox::Fetched;
use super::manager::ProcessManager;
use super::message::{Destination, Message};
use super::monitor::MonitorRef;
use super::spawn::Spawn;
use crate::context::{CallContext, WaitingCaller};
use crate::payload::Payload;
use crate::pid::Pid;

/// The surroundings of a running process, and its mailbox. There is one for each process.
///
/// Kept longer than the process lives, as in a task that it spawned, it receives nothing more; its
/// [`CallContext`](Self::ctx) is cancelled then.
#[derive(Debug)]
pub struct ProcessContext {
    ctx: CallContext,
    fetched: Fetched,
}

impl ProcessContext {
    pub(super) fn new(instance: &Arc<ProcessCell>, waiting: Option<WaitingCaller>) -> Self {
        let (process, frame) = (Arc::clone(instance), instance.frame().clone());
        let ctx = instance.manager.functions().root().into_process(process, frame, waiting);
        Self { ctx, fetched: Fetched::default() }
    }

    pub(super) fn instance(&self) -> &ProcessCell {
        instance(&self.ctx)
    }

    pub(super) fn shared_instance(&self) -> Arc<ProcessCell> {
        ProcessCell::of(&self.ctx).expect("a `ProcessContext` is made of a process")
    }

    /// Its PID.
    pub fn pid(&self) -> Pid {
        self.instance().pid
    }

    /// What it calls functions with, and starts processes. A clone can be kept in what the process spawns: it is
    /// [cancelled](CallContext::cancelled) when the process is terminated, or ends.
    pub const fn ctx(&self) -> &CallContext {
        &self.ctx
    }

    /// Its frame.
    pub fn frame(&self) -> &Frame {
        self.instance().frame()
    }

    /// The processes that it is one of.
    pub fn processes(&self) -> &ProcessManager {
        &self.instance().manager
    }

    /// Waits for a message, and takes the oldest.
    ///
    /// Senders that wait for room in a full mailbox go on when the process awaits something, or finds no message. While it
    /// receives one message after the other without a pause, they go on when half of the mailbox is free, or room for 512
    /// messages. A process that takes messages and then blocks its thread holds them up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future means that nothing was taken.
    pub async fn receive(&mut self) -> Message {
        let message = instance(&self.ctx).mailbox.receive(&mut self.fetched).await;
        self.instance().received(message)
    }

    /// The same, for no longer than `time`.
    ///
    /// # Cancel safety
    ///
    /// As that of [`receive`](Self::receive).
    pub async fn receive_timeout(&mut self, time: Duration) -> Option<Message> {
        timeout(time, self.receive()).await.ok()
    }

    /// Takes the oldest message, if there is any.
    pub fn try_receive(&mut self) -> Option<Message> {
        let message = instance(&self.ctx).mailbox.try_receive(&mut self.fetched)?;
        Some(self.instance().received(message))
    }

    /// Waits for a message that `is_wanted`, and takes the oldest such. The others stay in the mailbox, in their order, and
    /// take their room there.
    ///
    /// Calls `is_wanted` once for each message. If the mailbox is full, also for the messages of senders that wait for room: one
    /// that is wanted is let in, so that others cannot keep it out. A mailbox may hold twice its capacity for that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future means that nothing was taken.
    pub async fn receive_where(&mut self, is_wanted: impl FnMut(&Message) -> bool) -> Message {
        let message = instance(&self.ctx).mailbox.receive_where(&mut self.fetched, is_wanted).await;
        self.instance().received(message)
    }

    /// The same, for no longer than `time`.
    ///
    /// # Cancel safety
    ///
    /// As that of [`receive_where`](Self::receive_where).
    pub async fn receive_where_timeout(
        &mut self,
        time: Duration,
        is_wanted: impl FnMut(&Message) -> bool,
    ) -> Option<Message> {
        timeout(time, self.receive_where(is_wanted)).await.ok()
    }

    /// Takes the oldest message that `is_wanted`, if there is any.
    pub fn try_receive_where(&mut self, is_wanted: impl FnMut(&Message) -> bool) -> Option<Message> {
        let message = instance(&self.ctx).mailbox.try_receive_where(&mut self.fetched, is_wanted)?;
        Some(self.instance().received(message))
    }

    /// [Sends](ProcessManager::send) a message.
    ///
    /// # Errors
    ///
    /// A [`SendError`], with the payload.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future means that nothing was sent.
    pub async fn send<'a>(
        &self,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        self.instance().manager.send(&self.ctx, to, payload).await
    }

    /// [Sends](ProcessManager::try_send) a message, if there is room for it.
    ///
    /// # Errors
    ///
    /// A [`SendError`], with the payload.
    pub fn try_send<'a>(
        &self,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        self.instance().manager.try_send(&self.ctx, to, payload)
    }

    /// [Calls](ProcessManager::call) a process, and waits for its reply.
    ///
    /// # Errors
    ///
    /// A [`ProcessCallError`].
    ///
    /// # Cancel safety
    ///
    /// As that of [`ProcessManager::call`].
    pub async fn call<'a>(
        &self,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
    ) -> Result<Payload, ProcessCallError> {
        self.instance().manager.call(&self.ctx, to, payload).await
    }

    /// The same, for no longer than `time`.
    ///
    /// # Errors
    ///
    /// A [`ProcessCallError`].
    ///
    /// # Cancel safety
    ///
    /// As that of [`ProcessManager::call`].
    pub async fn call_timeout<'a>(
        &self,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
        time: Duration,
    ) -> Result<Payload, ProcessCallError> {
        self.instance().manager.call_timeout(&self.ctx, to, payload, time).await
    }

    /// [Starts](ProcessManager::spawn) a process.
    ///
    /// # Errors
    ///
    /// A [`SpawnError`]; nothing of the process has run then.
    pub fn spawn(&self, spawn: Spawn) -> Result<Pid, SpawnError> {
        self.instance().manager.spawn(&self.ctx, spawn)
    }

    /// Monitors another process: its [exit](Message::Exited) is delivered once, with the reference that this returns. The exit
    /// is delivered at once if the process has ended, as long as that is [remembered](super::ManagerConfig::exits).
    ///
    /// Any number of monitors of one process are kept apart, so that a helper does not disturb its caller.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Itself`] if it is this process, [`ProcessError::Unknown`] if no process has the PID, as far as is known,
    /// [`ProcessError::TooManyMonitors`] if this process has as many as it may have, and [`ProcessError::Ended`] if this one
    /// has.
    pub fn monitor(&self, pid: Pid) -> Result<MonitorRef, ProcessError> {
        self.instance().monitor(pid)
    }

    /// Ends a monitor: its exit is not in the mailbox afterwards, and will not be. Returns whether there was anything to undo: a
    /// monitor, or an exit not yet received. Other monitors of the same process stay.
    ///
    /// A PID stands for the monitor that [a start](Spawn::with_monitor) set up.
    pub fn demonitor(&self, monitor: impl Into<MonitorRef>) -> bool {
        self.instance().demonitor(monitor.into())
    }

    /// [Links](ProcessManager::link) this process to another.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] or [`ProcessError::Unknown`] if that does not live; this one goes on.
    pub fn link(&self, pid: Pid) -> Result<(), ProcessError> {
        self.processes().link(self.pid(), pid)
    }

    /// Ends a link, if there is one. The end of the other is nothing to this one from now on; what this one was told before
    /// is still in the mailbox.
    pub fn unlink(&self, pid: Pid) {
        self.processes().unlink(self.pid(), pid);
    }

    /// Says whether the failure of a linked process is [a message](Message::LinkDown) to this one, and not its end.
    pub fn trap_links(&self, traps: bool) {
        self.instance().trap_links(traps);
    }

    /// Makes every end of a linked process a [message](Message::LinkDown), also a normal one. Says who started this process
    /// and is linked to it.
    pub(super) fn trap_ends(&self) -> LinkedStarter {
        self.instance().trap_ends()
    }

    /// What this is a process of.
    pub(super) fn entry(&self) -> &EntryId {
        &self.instance().entry.id
    }

    /// Lets a process outlive this one that it owns.
    pub(super) fn disown(&self, pid: Pid) {
        self.instance().disown(pid);
    }

    /// Gives a process that this one owns another rank.
    pub(super) fn rank(&self, pid: Pid, rank: u64) {
        self.instance().rank(pid, rank);
    }

    /// Why this process was [cancelled](ProcessManager::cancel), if it was; also before it has received that.
    pub fn cancel_reason(&self) -> Option<Arc<str>> {
        self.instance().cancel_reason()
    }

    /// When the process is terminated, if it was cancelled with a grace period that has an end. Cancelled again it may be
    /// sooner than the message said.
    pub fn cancel_deadline(&self) -> Option<Instant> {
        self.instance().cancel_deadline()
    }

    /// That of the process whose own `ctx` is: for an engine, whose guests have but a `CallContext`. Only one of them receives at a
    /// time.
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(crate) fn of(ctx: &CallContext) -> Option<Self> {
        ctx.process().map(|_| Self { ctx: ctx.clone(), fetched: Fetched::default() })
    }

    /// For a process that is a function in an engine: it finds the process in the `CallContext`.
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(crate) fn into_ctx(self) -> CallContext {
        // Each message is received with another of these.
        self.instance().mailbox.fetch_no_more();
        self.ctx.clone()
    }
}

/// Returns the process of a [`ProcessContext`]. It is the one in its `CallContext`: kept apart, it would take room twice in the future of each
/// process.
fn instance(ctx: &CallContext) -> &ProcessCell {
    ProcessCell::containing(ctx).expect("a `ProcessContext` is made of a process")
}

impl Drop for ProcessContext {
    /// Puts messages that it fetched and did not receive back into the mailbox. The mailbox is emptied when the process has ended,
    /// so their callers are told of that end, and not of a dropped request.
    fn drop(&mut self) {
        instance(&self.ctx).mailbox.put_back(&mut self.fetched);
    }
}
