//! The context of a running process.

use std::sync::Arc;
use std::time::Duration;

use frame_registry::Frame;
use tokio::time::{Instant, timeout};

use super::call::ProcessCallError;
use super::cell::monitor::{self, MonitorRef};
use super::cell::{LinkedStarter, ProcessCell, relations};
use super::error::{ProcessError, SpawnError};
use super::group::{self, GroupError, GroupId, Published};
use super::mailbox::Fetched;
use super::manager::ProcessManager;
use super::message::{Destination, Message};
use super::names::LookupError;
use super::send::SendError;
use super::spawn::{EntryId, Spawn};
use super::timer::{self, TimerError, TimerRef};
use crate::context::{CallContext, WaitingCaller};
use crate::payload::Payload;
use crate::pid::Pid;

/// The context of a running process, with its mailbox. Each process has one.
///
/// If it is kept after the end of the process, such as in a task that it spawned, it receives no more messages, and its
/// [`CallContext`](Self::ctx) is cancelled.
#[derive(Debug)]
pub struct ProcessContext {
    ctx: CallContext,
    fetched: Fetched,
}

impl ProcessContext {
    pub(crate) fn new(cell: &Arc<ProcessCell>, waiting: Option<WaitingCaller>) -> Self {
        let (process, frame) = (Arc::clone(cell), cell.frame().clone());
        let ctx = cell.manager.functions().root().into_process(process, frame, waiting);
        Self { ctx, fetched: Fetched::default() }
    }

    fn cell(&self) -> &ProcessCell {
        cell(&self.ctx)
    }

    fn shared_cell(&self) -> Arc<ProcessCell> {
        ProcessCell::of(&self.ctx).expect("a `ProcessContext` is made of a process")
    }

    /// Returns its PID.
    pub fn pid(&self) -> Pid {
        self.cell().pid
    }

    /// Returns the context for calls of functions and spawns of processes. Tasks that the process spawns can keep a clone, which is
    /// [cancelled](CallContext::cancelled) when the process ends.
    pub const fn ctx(&self) -> &CallContext {
        &self.ctx
    }

    /// Returns its frame.
    pub fn frame(&self) -> &Frame {
        self.cell().frame()
    }

    /// Returns the manager of the process.
    pub fn processes(&self) -> &ProcessManager {
        &self.cell().manager
    }

    /// Waits for a message, and takes the oldest.
    ///
    /// Senders that wait for room in a full mailbox go on when the process awaits something, or finds no message. While the process
    /// receives messages without a pause, they go on when half of the mailbox is free, or room for 512 messages. A process that takes
    /// messages and then blocks its thread delays them.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no message was taken.
    pub async fn receive(&mut self) -> Message {
        let message = cell(&self.ctx).mailbox.receive(&mut self.fetched).await;
        received(self.cell(), message)
    }

    /// Waits for a message for at most `time`, and takes the oldest.
    ///
    /// # Cancel safety
    ///
    /// As that of [`receive`](Self::receive).
    pub async fn receive_timeout(&mut self, time: Duration) -> Option<Message> {
        timeout(time, self.receive()).await.ok()
    }

    /// Takes the oldest message, if there is any.
    pub fn try_receive(&mut self) -> Option<Message> {
        let message = cell(&self.ctx).mailbox.try_receive(&mut self.fetched)?;
        Some(received(self.cell(), message))
    }

    /// Waits for a message that `is_wanted`, and takes the oldest of them. The others stay in the mailbox, in their order.
    ///
    /// Calls `is_wanted` once for each message. If the mailbox is full, it is also called for the messages of senders that wait for
    /// room: a wanted one is let in, so that others cannot keep it out. A mailbox may hold twice its capacity for that.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no message was taken.
    pub async fn receive_where(&mut self, is_wanted: impl FnMut(&Message) -> bool) -> Message {
        let message = cell(&self.ctx).mailbox.receive_where(&mut self.fetched, is_wanted).await;
        received(self.cell(), message)
    }

    /// Waits for a message that `is_wanted` for at most `time`, as [`receive_where`](Self::receive_where) does.
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
        let message = cell(&self.ctx).mailbox.try_receive_where(&mut self.fetched, is_wanted)?;
        Some(received(self.cell(), message))
    }

    /// [Sends](ProcessManager::send) a message.
    ///
    /// # Errors
    ///
    /// A [`SendError`], with the payload.
    ///
    /// # Cancel safety
    ///
    /// As that of [`ProcessManager::send`].
    pub fn send<'a>(
        &self,
        to: impl Into<Destination<'a>>,
        payload: impl Into<Payload>,
    ) -> impl Future<Output = Result<(), SendError>> {
        self.cell().manager.send(&self.ctx, to, payload)
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
        self.cell().manager.try_send(&self.ctx, to, payload)
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
        self.cell().manager.call(&self.ctx, to, payload).await
    }

    /// [Calls](ProcessManager::call_timeout) a process, and waits for its reply for at most `time`.
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
        self.cell().manager.call_timeout(&self.ctx, to, payload, time).await
    }

    /// [Spawns](ProcessManager::spawn) a process.
    ///
    /// # Errors
    ///
    /// A [`SpawnError`]. The process has not run then.
    pub fn spawn(&self, spawn: Spawn) -> Result<Pid, SpawnError> {
        self.cell().manager.spawn(&self.ctx, spawn)
    }

    /// Monitors another process: its [exit](Message::Exited) is delivered once, with the returned reference. If the process has
    /// ended, the exit is delivered immediately, as long as it is [remembered](super::ManagerConfig::exits).
    ///
    /// Several monitors of one process are independent, so a helper function does not interfere with its caller.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Itself`] if it is this process, [`ProcessError::Unknown`] if no process has the PID, or its exit has been
    /// forgotten, [`ProcessError::TooManyMonitors`] if this process has reached its limit, and [`ProcessError::Ended`] if this
    /// process has ended.
    pub fn monitor(&self, pid: Pid) -> Result<MonitorRef, ProcessError> {
        monitor::monitor(self.cell(), pid)
    }

    /// Ends a monitor: its exit is not in the mailbox afterwards, and will not be. Returns whether there was a monitor or an unread
    /// exit. Other monitors of the same process stay.
    ///
    /// A PID stands for the monitor that was set up by [a spawn](Spawn::with_monitor).
    pub fn demonitor(&self, monitor: impl Into<MonitorRef>) -> bool {
        monitor::demonitor(self.cell(), monitor.into())
    }

    /// [Links](ProcessManager::link) this process to another.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] or [`ProcessError::Unknown`] if the other is not alive. This one goes on.
    pub fn link(&self, pid: Pid) -> Result<(), ProcessError> {
        self.processes().link(self.pid(), pid)
    }

    /// [Ends](ProcessManager::unlink) a link, if there is one.
    pub fn unlink(&self, pid: Pid) {
        self.processes().unlink(self.pid(), pid);
    }

    /// [Looks up](ProcessManager::lookup) a process by its name. Waits for one for at most `time`.
    ///
    /// # Errors
    ///
    /// A [`LookupError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lookup(&self, name: &str, time: Duration) -> Result<Pid, LookupError> {
        self.processes().lookup(&self.ctx, name, time).await
    }

    /// Sends `payload` to this process once, after `time`, as a [`Message::Timer`]. The payload and the returned reference distinguish
    /// timers.
    ///
    /// The message takes no room in the mailbox. A time that is too long to be represented never passes. The timer ends with the
    /// process. Time during which the system is suspended may not count.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use frame_dispatch::process::{HostConfig, Message, ProcessContext, ProcessManager, Spawn};
    /// use frame_dispatch::{Functions, Json};
    /// use frame_registry::{App, Options};
    /// use serde_json::json;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let functions = Functions::new(App::builder().build());
    /// let processes = ProcessManager::new(functions.clone());
    /// processes.register_host("app:workers".parse()?, HostConfig::default())?;
    ///
    /// // Collects what it is sent, for 10 milliseconds after the first message.
    /// processes.register("app:batch".parse()?, Options::new(), async |mut ctx: ProcessContext| {
    ///     let (mut batch, mut flush) = (Vec::new(), None);
    ///     loop {
    ///         match ctx.receive().await {
    ///             Message::Sent { payload, .. } => {
    ///                 batch.extend(payload.as_json().cloned());
    ///                 if flush.is_none() {
    ///                     flush = Some(ctx.send_after(Duration::from_millis(10), json!("flush"))?);
    ///                 }
    ///             }
    ///             _ => return Ok::<_, frame_dispatch::process::TimerError>(Json(batch)),
    ///         }
    ///     }
    /// })?;
    ///
    /// let spawn = Spawn::new("app:workers".parse()?, "app:batch".parse()?);
    /// let spawn = spawn.with_message(json!(1)).with_message(json!(2));
    /// assert_eq!(processes.exec(&functions.root(), spawn).await?, json!([1, 2]).into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TimerError::TooMany`] if the process has reached the [limit](super::HostConfig::timers) of its host, and
    /// [`TimerError::Ended`] if it has ended. A timer counts until its message is received, or it is cancelled.
    pub fn send_after(&self, time: Duration, payload: impl Into<Payload>) -> Result<TimerRef, TimerError> {
        timer::add(&self.shared_cell(), time, None, payload.into())
    }

    /// Sends `payload` to this process every `period`, first after one `period`; otherwise as [`send_after`](Self::send_after).
    ///
    /// At most one message of a timer is unread. Ticks that come due meanwhile are skipped and counted in
    /// [`Tick::missed`](super::Tick::missed); the next tick comes at the next multiple of the period, as with tokio's `MissedTickBehavior::Skip`.
    /// The same holds if the program was stopped for a while.
    ///
    /// # Errors
    ///
    /// As those of [`send_after`](Self::send_after); [`TimerError::ZeroPeriod`] if the period is zero.
    pub fn send_every(&self, period: Duration, payload: impl Into<Payload>) -> Result<TimerRef, TimerError> {
        timer::add(&self.shared_cell(), period, Some(period), payload.into())
    }

    /// Cancels a timer. No message of it is in the mailbox afterwards, and none will be.
    ///
    /// Returns whether there was a timer that was not due yet or repeats, or an unread message of it. Returns `false` for a timer of another process.
    pub fn cancel_timer(&self, timer: TimerRef) -> bool {
        timer::cancel(self.cell(), timer)
    }

    /// Returns the name of a group on the host of this process.
    ///
    /// # Errors
    ///
    /// [`GroupError::InvalidName`] if the name is not valid.
    pub fn group(&self, name: &str) -> Result<GroupId, GroupError> {
        GroupId::new(self.cell().host.id.clone(), name)
    }

    /// Makes this process a member of a group. Returns whether it was not a member before.
    ///
    /// # Errors
    ///
    /// A [`GroupError`].
    pub fn join(&self, group: &GroupId) -> Result<bool, GroupError> {
        self.processes().join(group, self.pid())
    }

    /// Leaves a group. Returns whether this process was a member.
    pub fn leave(&self, group: &GroupId) -> bool {
        self.processes().leave(group, self.pid())
    }

    /// Watches a group: this process receives [`Message::GroupChanged`] after members have joined, left or ended. Returns whether it
    /// did not watch the group before.
    ///
    /// At most one message of each group is unread, however often the group changes, so watching takes no room in the mailbox. Look
    /// at the [members](ProcessManager::members) after watching, and after each message. A watched group counts as one that the
    /// process is in. At most 64 processes may watch a group.
    ///
    /// # Errors
    ///
    /// A [`GroupError`].
    pub fn watch_group(&self, group: &GroupId) -> Result<bool, GroupError> {
        group::watch(&self.shared_cell(), group)
    }

    /// Stops watching a group. No message of a change is in the mailbox afterwards, and none will be. Returns whether this
    /// process watched the group.
    pub fn unwatch_group(&self, group: &GroupId) -> bool {
        group::unwatch(self.cell(), group)
    }

    /// [Publishes](ProcessManager::publish) a message to a group.
    ///
    /// # Cancel safety
    ///
    /// As that of [`ProcessManager::publish`].
    pub async fn publish(&self, group: &GroupId, payload: impl Into<Payload>) -> Published {
        self.processes().publish(&self.ctx, group, payload).await
    }

    /// Sets whether the failure of a linked process is delivered as [a message](Message::LinkDown) instead of ending this process.
    pub fn trap_links(&self, traps: bool) {
        self.cell().trap_links(traps);
    }

    /// Delivers every linked exit as a [message](Message::LinkDown), normal exits included. Returns the state of the process that
    /// spawned this one with a link.
    pub(crate) fn trap_exits(&self) -> LinkedStarter {
        self.cell().trap_exits()
    }

    /// Returns the id of its definition.
    pub(crate) fn entry(&self) -> &EntryId {
        &self.cell().definition.id
    }

    /// Ends the ownership of a process, which may then outlive this one.
    pub(crate) fn disown(&self, pid: Pid) {
        relations::disown(self.cell(), pid);
    }

    /// Sets the rank of a process that this one owns.
    pub(crate) fn set_rank(&self, pid: Pid, rank: u64) {
        relations::set_rank(self.cell(), pid, rank);
    }

    /// Returns why this process was [cancelled](ProcessManager::cancel), if it was, even before it has received the message.
    pub fn cancel_reason(&self) -> Option<Arc<str>> {
        self.cell().cancel_reason()
    }

    /// Returns the end of the grace period, if the process was cancelled and the period has an end. After a further cancellation it
    /// may be earlier than in the message.
    pub fn cancel_deadline(&self) -> Option<Instant> {
        self.cell().cancel_deadline()
    }

    /// Returns the context of the process that `ctx` belongs to, for an engine whose guests have only a `CallContext`. Only one of
    /// them receives at a time.
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(crate) fn of(ctx: &CallContext) -> Option<Self> {
        ctx.process().map(|_| Self { ctx: ctx.clone(), fetched: Fetched::default() })
    }

    /// Returns the `CallContext`, for an engine that finds the process in it.
    #[cfg(any(feature = "lua", feature = "wasm"))]
    pub(crate) fn into_ctx(self) -> CallContext {
        // Each message is received through a new `ProcessContext`.
        self.cell().mailbox.stop_fetching();
        self.ctx.clone()
    }
}

/// Completes a message that was taken out of the mailbox.
fn received(cell: &ProcessCell, mut message: Message) -> Message {
    match &mut message {
        Message::Timer(tick) => timer::received(cell, tick),
        Message::GroupChanged(group) => group::received_change(cell, group),
        _ => (),
    }
    message
}

/// Returns the process of a [`ProcessContext`], which is that of its `CallContext`. A second reference would take room in the future of
/// each process.
fn cell(ctx: &CallContext) -> &ProcessCell {
    ProcessCell::containing(ctx).expect("a `ProcessContext` is made of a process")
}

impl Drop for ProcessContext {
    /// Puts messages that it fetched and did not receive back into the mailbox. The mailbox is emptied when the process has ended, so
    /// that their callers learn of the exit, and not of a dropped request.
    fn drop(&mut self) {
        cell(&self.ctx).mailbox.put_back(&mut self.fetched);
    }
}
