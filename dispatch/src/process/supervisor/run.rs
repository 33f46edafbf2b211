//! A running supervisor.
//!
//! It never waits for one event alone. [`Run`] records all that is to be done. [`Run::advance`] does what can be done now, and then
//! the first event is handled: a message, a command, or the time at which there is more to do.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use frame_registry::text;
use tokio::time::{Instant, sleep_until};

use super::children::{Child, ChildPhase, ChildTable, Dynamic, Key, Origin, Parent};
use super::error::{ControlError, DownReason, SpecError, TooManyRestarts};
use super::handle::{ChildRef, ChildStarter, Command, CommandReceiver, RemoveChild, Reply, StartedChild};
use super::restarts::{RestartCounter, RestartPolicy};
use super::schedule::{Due, Recovering, Schedule};
use super::spec::{ChildSpec, DynamicChild, DynamicSpec, Restart, Shutdown};
use super::{InitialChildren, Strategy, Supervisor};
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::Pid;
use crate::process::cell::LinkedStarter;
use crate::process::spawn::{MAX_LOGGED_REASON, PROCESS};
use crate::process::{ExitReason, HostId, Message, ProcessContext, Spawn, SpawnError};

/// How long a terminated child is waited for: this many waits of [`TERMINATED_WAIT`], each from when the end of the one before was
/// observed. So a pause of the whole program, however long, counts as one wait. A child ends at once unless it blocks its thread.
const TERMINATED_WAITS: u32 = 5;
const TERMINATED_WAIT: Duration = Duration::from_secs(1);
/// The reason for the cancellation of children as their supervisor ends.
const SHUTS_DOWN: &str = "its supervisor is shutting down";
/// The most messages that are handled before anything else is done.
const BATCH: usize = 256;

/// The state of a running supervisor.
pub(crate) struct Run<'a> {
    supervisor: &'a Supervisor,
    strategy: Strategy,
    restart_policy: RestartPolicy,
    /// The specification of its children, if it is dynamic.
    dynamic: Option<DynamicSpec>,
    /// The number of dynamic children so far.
    numbered: u64,
    ctx: ProcessContext,
    host: Option<HostId>,
    /// The supervisor ends with it.
    starter: LinkedStarter,
    children: ChildTable,
    restarts: RestartCounter,
    /// With the strategy one-for-one each child is restarted on its own. With the others the last is stopped first, and when all
    /// are down they are started in order.
    recovering: Recovering,
    /// The children that were asked to end, with the time at which they are terminated, or no longer waited for.
    stopping: Schedule,
    /// The result with which it ends when all children have ended.
    ending: Option<Result<(), CallError>>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(supervisor: &'a Supervisor, ctx: ProcessContext) -> Self {
        let (strategy, dynamic) = match &supervisor.children {
            InitialChildren::Static(strategy, _) => (*strategy, None),
            InitialChildren::Dynamic(spec) => (Strategy::OneForOne, Some(DynamicSpec::clone(spec))),
        };
        Self {
            supervisor,
            strategy,
            restart_policy: supervisor.restart_policy,
            dynamic,
            numbered: 0,
            host: ctx.processes().info(ctx.pid()).map(|info| info.host),
            starter: ctx.trap_exits(),
            ctx,
            children: ChildTable::default(),
            restarts: RestartCounter::default(),
            recovering: Recovering::default(),
            stopping: Schedule::default(),
            ending: None,
        }
    }

    pub(crate) async fn run(mut self) -> Result<Payload, CallError> {
        self.boot();
        let is_up = self.ending.is_none();
        let mut commands = is_up.then(|| self.register());
        loop {
            // Before anything that is due: a child that is waited for may have ended while this did not run.
            for _ in 0..BATCH {
                let Some(message) = self.ctx.try_receive() else { break };
                self.received(message);
            }
            self.advance();
            if self.children.is_empty()
                && let Some(end) = self.ending.take()
            {
                return end.map(|()| Payload::default());
            }
            let wake = self.wake();
            tokio::select! {
                message = self.ctx.receive() => self.received(message),
                command = next(commands.as_mut()) => self.command(command),
                () = until(wake) => (),
            }
        }
    }

    fn register(&self) -> CommandReceiver {
        let of_entry = self.ctx.processes().supervisor_table().get_or_add(self.ctx.entry());
        self.supervisor.handle.register(self.ctx.pid(), of_entry)
    }

    /// Starts the children in order. The supervisor ends if one does not start.
    fn boot(&mut self) {
        // If the starter had failed before it was trapped, this process would have been terminated.
        if self.ctx.cancel_reason().is_some() || self.starter == LinkedStarter::Ended {
            return self.end(Ok(()));
        }
        let InitialChildren::Static(_, children) = &self.supervisor.children else { return };
        for spec in children {
            // The builder has checked that ids are unique.
            let Some(key) = self.children.add(spec.clone(), Parent::Supervisor) else { continue };
            if self.leave_quarantined(key) {
                continue;
            }
            let Err(error) = self.start(key) else { continue };
            if !self.is_end(&error) {
                let id = spec.id();
                let failed = CallError::from(error).with_note(format_args!("child `{id}` of the supervisor"));
                self.end(Err(failed));
            }
            return;
        }
    }

    // Events -------------------------------------------------------------------------------------------------------

    fn received(&mut self, message: Message) {
        match message {
            Message::Exited { exit, .. } => self.exited(exit.pid, &exit.reason),
            Message::Cancelled { .. } => self.end(Ok(())),
            Message::LinkDown(exit) if self.starter == LinkedStarter::Alive(exit.pid) => {
                let message =
                    || format!("{}, which started this supervisor, ended: {}", exit.pid, exit.reason);
                let is_normal = exit.reason.is_normal();
                let failed = (!is_normal).then(|| CallError::new(ErrorKind::Cancelled, message()));
                self.end(failed.map_or(Ok(()), Err));
            }
            // Children are monitored. Other linked processes only depend on this one. It sets no timers and watches no groups.
            Message::LinkDown(_) | Message::Timer(_) | Message::GroupChanged(_) => (),
            Message::Sent { from, .. } => {
                tracing::debug!(pid = %self.ctx.pid(), ?from, "a supervisor ignores a message that was sent to it");
            }
        }
    }

    fn exited(&mut self, pid: Pid, reason: &ExitReason) {
        self.down(pid, DownReason::Exited(reason.clone()), |restart| restart.is_due(reason));
    }

    /// Handles a child that is down, or no longer waited for.
    fn down(&mut self, pid: Pid, reason: DownReason, is_due: impl FnOnce(Restart) -> bool) {
        let Some((key, child, ended)) = self.children.ended(pid) else { return };
        self.stopping.remove(key);
        if self.restart_policy.backoff.is_reset_by(ended.since.elapsed()) {
            child.failures = 0;
        }
        let was_killed = matches!(reason, DownReason::Exited(ExitReason::Killed));
        if let (true, true, Shutdown::Within(time)) = (was_killed, ended.was_stopping, child.shutdown) {
            let (supervisor, child) = (self.ctx.pid(), &*child.id);
            tracing::warn!(%supervisor, child, %pid, "a child was terminated, because it had not ended after {time:?}");
        }
        let (restart, is_dynamic) = (child.restart, child.is_dynamic());
        let is_recovering = self.recovering.ended(key);
        // A child whose start a caller waits for is started again, even a temporary one.
        let is_finished = restart == Restart::Temporary && child.starting.is_empty();
        let is_unwanted = !child.removing.is_empty() || self.ending.is_some();
        child.last = Some((reason.clone(), Instant::now()));
        if is_finished || is_unwanted {
            self.forget(key);
        } else if !is_recovering && is_due(restart) {
            self.failed(key, reason);
        } else if !is_recovering && is_dynamic {
            // No other event removes it, and it counts towards the limit.
            self.forget(key);
        }
    }

    fn forget(&mut self, key: Key) {
        self.recovering.remove(key);
        self.stopping.remove(key);
        self.children.remove(key);
    }

    /// Returns whether the code of a child is quarantined, so that the child would fail if it was started.
    fn is_quarantined(&self, key: Key) -> bool {
        let entry = self.children.get(key).and_then(|child| match (&child.origin, &self.dynamic) {
            (Origin::Spec(spawn), _) => Some(&spawn.entry),
            (Origin::Dynamic(_), spec) => spec.as_ref().map(|spec| &spec.template.spawn.entry),
        });
        let definition = entry.and_then(|entry| self.ctx.processes().definition(entry));
        definition.is_some_and(|definition| definition.is_quarantined())
    }

    /// Does not restart a child that is down and whose code is quarantined: it could only fail again, until the supervisor gave up
    /// with all children. Returns whether it is such a child.
    fn leave_quarantined(&mut self, key: Key) -> bool {
        if !self.is_quarantined(key) {
            return false;
        }
        self.recovering.remove(key);
        let Some(child) = self.children.get_mut(key) else { return true };
        child.reply_started(&Err(ControlError::Quarantined { id: Arc::clone(&child.id) }));
        if child.is_added || child.restart == Restart::Temporary {
            self.forget(key);
        } else if !child.is_quarantined {
            child.is_quarantined = true;
            let (pid, child) = (self.ctx.pid(), &*child.id);
            tracing::warn!(
                %pid,
                child,
                "a child is not restarted, because its code is quarantined; it is restarted when a reload has replaced the code"
            );
        }
        true
    }

    /// Handles a child that is down unexpectedly: it is to be restarted with those that the strategy selects, unless there were too
    /// many restarts.
    fn failed(&mut self, key: Key, reason: DownReason) {
        // A host that stops cancels the oldest process first. So this one may be cancelled before it receives the message.
        if self.ctx.cancel_reason().is_some() {
            return self.end(Ok(()));
        }
        if self.leave_quarantined(key) {
            return;
        }
        let now = Instant::now();
        let Some(child) = self.children.get_mut(key) else { return };
        let id = Arc::clone(&child.id);
        child.failures = child.failures.saturating_add(1);
        let delay = self.restart_policy.backoff.delay(child.failures, fastrand::f64());
        let policy = self.restart_policy;
        let own = match &mut child.origin {
            Origin::Dynamic(dynamic) => dynamic.own_restarts.as_mut(),
            Origin::Spec(_) => None,
        };
        let is_alone = own.is_some();
        if let Some(restarts) = own.unwrap_or(&mut self.restarts).add(now, &policy) {
            let (allowed, window) = (policy.restarts, policy.window);
            let cause = TooManyRestarts { child: id, restarts, allowed, window, reason };
            if is_alone {
                let cause = text::excerpt(&cause.to_string(), MAX_LOGGED_REASON);
                tracing::warn!(pid = %self.ctx.pid(), "a child that was started by a guest is given up: {cause}");
                return self.forget(key);
            }
            let error = CallError::new(ErrorKind::Internal, "the supervisor gave up").with_source(cause);
            return self.end(Err(error));
        }
        // Its own exit has been logged with the reason.
        let process = self.ctx.frame().get(&PROCESS).map(tracing::field::display);
        tracing::info!(process, pid = %self.ctx.pid(), child = &*id, "a child is restarted in {} ms", delay.as_millis());
        let due = Due::after(now, delay);
        let affected: Vec<_> = match self.strategy {
            Strategy::OneForOne => vec![key],
            Strategy::RestForOne => self.children.keys_from(key).collect(),
            Strategy::OneForAll => self.children.keys_from(0).collect(),
        };
        for other in affected {
            // They are started together, so only the one that failed makes those that wait already wait longer.
            let before = self.recovering.get(other);
            if other == key || before.is_none() {
                let due = before.map_or(due, |before| due.max(before));
                self.recovering.set(other, self.children.is_down(other), due);
            }
        }
    }

    /// Ends the supervisor when all children have ended. The first result counts.
    fn end(&mut self, end: Result<(), CallError>) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(end);
        self.recovering.clear();
        for child in self.children.iter_mut() {
            child.reply_started(&Err(ControlError::ShuttingDown));
        }
        let down: Vec<_> =
            self.children.iter().filter(|(_, child)| child.phase.is_down()).map(|(key, _)| key).collect();
        for key in down {
            self.forget(key);
        }
        // All at once, because dynamic children do not depend on each other, and there may be thousands.
        if self.dynamic.is_some() {
            let up: Vec<_> = self.children.iter().map(|(key, _)| key).collect();
            for key in up {
                self.stop(key, SHUTS_DOWN);
            }
        }
    }

    // Commands -----------------------------------------------------------------------------------------------------

    fn command(&mut self, command: Command) {
        if self.ending.is_some() {
            return command.refuse(&ControlError::ShuttingDown);
        }
        match command {
            Command::Children(reply) => {
                let is_recovering = |key| self.recovering.contains(key);
                let children = self.children.iter().map(|(key, child)| child.info(is_recovering(key)));
                let _ = reply.send(Ok(children.collect()));
            }
            Command::Add(spec, parent, reply) => self.add(*spec, parent, reply),
            Command::Remove(remove, reply) => self.remove(remove, reply),
            Command::Restart(id, reply) => self.restart(id, reply),
            Command::Arrange(ids, reply) => {
                self.arrange(&ids);
                let _ = reply.send(Ok(()));
            }
            Command::StartChild(child, starter, reply) => self.start_child(*child, *starter, reply),
            Command::Reconfigure(spec, reply) => _ = reply.send(self.reconfigure(*spec)),
            Command::RestartChildren(reply) => _ = reply.send(self.restart_children()),
        }
    }

    fn start_child(&mut self, child: DynamicChild, starter: ChildStarter, reply: Reply<StartedChild>) {
        let Some(spec) = &self.dynamic else {
            _ = reply.send(Err(ControlError::NotDynamic));
            return;
        };
        if let Err(error) = starter.check(spec) {
            _ = reply.send(Err(error));
            return;
        }
        if self.children.len() >= spec.max_children {
            let limit = spec.max_children;
            _ = reply.send(Err(ControlError::TooManyChildren { limit }));
            return;
        }
        self.numbered += 1;
        let id = format!("{}#{}", spec.template.id, self.numbered).into();
        let own_restarts = starter.guest.is_some().then(RestartCounter::default);
        let dynamic = Dynamic { child, starter: starter.unit, own_restarts };
        let mut child = Child::dynamic(id, spec, dynamic, Parent::Other(starter.frame));
        child.starting.push(reply);
        child.is_added = true;
        if let Some(key) = self.children.insert(child) {
            self.start_again(key);
        }
    }

    fn reconfigure(&mut self, spec: DynamicSpec) -> Result<(), ControlError> {
        if self.dynamic.is_none() {
            return Err(ControlError::NotDynamic);
        }
        spec.check().map_err(|source| ControlError::Spec { source })?;
        for child in self.children.iter_mut() {
            child.take_rules(&spec.template);
        }
        self.restart_policy = spec.restart_policy;
        self.dynamic = Some(spec);
        Ok(())
    }

    fn restart_children(&mut self) -> Result<usize, ControlError> {
        if self.dynamic.is_none() {
            return Err(ControlError::NotDynamic);
        }
        let now = Instant::now();
        // Temporary children are never restarted.
        let is_wanted = |child: &Child| child.removing.is_empty() && child.restart != Restart::Temporary;
        let keys: Vec<_> =
            self.children.iter().filter(|(_, child)| is_wanted(child)).map(|(key, _)| key).collect();
        for &key in &keys {
            self.recovering.set(key, self.children.is_down(key), Due::At(now));
            self.stop_to_restart(key);
        }
        Ok(keys.len())
    }

    fn arrange(&mut self, ids: &[Arc<str>]) {
        let keys = self.children.arrange(ids);
        if keys.is_empty() {
            return;
        }
        self.recovering.rekey(&keys);
        self.stopping.rekey(&keys);
        for (key, child) in self.children.iter() {
            if let Some(pid) = child.phase.pid() {
                self.ctx.set_rank(pid, key);
            }
        }
    }

    fn add(&mut self, spec: ChildSpec, parent: Parent, reply: Reply<StartedChild>) {
        if self.dynamic.is_some() {
            let _ = reply.send(Err(ControlError::Dynamic));
            return;
        }
        let id = Arc::clone(&spec.id);
        let source = if id.is_empty() {
            SpecError::EmptyId
        } else if let Some(key) = self.children.add(spec, parent) {
            if let Some(child) = self.children.get_mut(key) {
                child.is_added = true;
                child.starting.push(reply);
            }
            self.recovering.set(key, true, Due::At(Instant::now()));
            return;
        } else {
            SpecError::DuplicateId { id }
        };
        let _ = reply.send(Err(ControlError::Spec { source }));
    }

    fn remove(&mut self, RemoveChild { child, guest }: RemoveChild, reply: Reply<()>) {
        let found = match &child {
            ChildRef::Id(id) => self.children.find(id),
            ChildRef::Process(pid) => self.children.find_process(*pid),
        };
        let found = found.and_then(|key| Some((key, self.children.get_mut(key)?)));
        // To a guest, children that others started are unknown.
        let found = found.filter(|(_, found)| guest.is_none_or(|guest| found.is_started_by(guest)));
        let Some((key, child)) = found else {
            let _ = reply.send(Err(child.unknown()));
            return;
        };
        let id = Arc::clone(&child.id);
        child.removing.push(reply);
        child.reply_started(&Err(ControlError::Removed { id }));
        self.recovering.remove(key);
        if self.children.is_down(key) {
            self.forget(key);
        } else {
            self.stop(key, "it is removed from its supervisor");
        }
    }

    fn restart(&mut self, id: Arc<str>, reply: Reply<StartedChild>) {
        let found = self.children.find(&id).and_then(|key| Some((key, self.children.get_mut(key)?)));
        let Some((key, child)) = found else {
            let _ = reply.send(Err(ControlError::UnknownChild { id }));
            return;
        };
        if !child.removing.is_empty() {
            let _ = reply.send(Err(ControlError::Removed { id }));
            return;
        }
        if self.is_quarantined(key) {
            let _ = reply.send(Err(ControlError::Quarantined { id }));
            return;
        }
        if let Some(child) = self.children.get_mut(key) {
            child.starting.push(reply);
        }
        let now = Instant::now();
        self.recovering.set(key, self.children.is_down(key), Due::At(now));
        if self.strategy == Strategy::OneForOne {
            self.stop_to_restart(key);
        } else {
            // It cannot be started before the others.
            self.recovering.hurry(now);
        }
    }

    // Actions ------------------------------------------------------------------------------------------------------

    /// Does what can be done now.
    fn advance(&mut self) {
        self.hurry_stopping();
        if self.ending.is_none() {
            match self.strategy {
                Strategy::OneForOne => self.recover_each(),
                Strategy::RestForOne | Strategy::OneForAll => self.recover_all(),
            }
        }
        if self.ending.is_some()
            && let Some(last) = self.children.last()
        {
            self.stop(last, SHUTS_DOWN);
        }
    }

    /// Returns when there is more to do, unless an event comes first.
    fn wake(&self) -> Option<Instant> {
        let given_up = self.stopping.first();
        let due = match self.strategy {
            Strategy::OneForOne => self.recovering.down().first(),
            Strategy::RestForOne | Strategy::OneForAll => self.recovering.all_due(),
        };
        [given_up, due].into_iter().flatten().min().and_then(Due::time)
    }

    /// Restarts the children that are down and due. The others were asked to end with the request.
    fn recover_each(&mut self) {
        for key in self.recovering.down().due(Instant::now()) {
            if self.ending.is_none() {
                self.start_again(key);
            }
        }
    }

    fn recover_all(&mut self) {
        let is_due = self.recovering.all_due().is_some_and(|due| due <= Due::At(Instant::now()));
        if self.stop_last() || !is_due {
            return;
        }
        let down = self.recovering.down().keys();
        let are_up = down.into_iter().all(|key| self.start_again(key));
        if !are_up {
            self.stop_last();
        }
    }

    /// Stops the last child that has to be down. Returns whether there is one that is not.
    fn stop_last(&mut self) -> bool {
        let last = self.recovering.last_up();
        if let Some(last) = last {
            self.stop_to_restart(last);
        }
        last.is_some()
    }

    fn stop_to_restart(&mut self, key: Key) {
        self.stop(key, "its supervisor restarts it");
    }

    /// Starts a child that is down. Returns whether the children after it can be started now.
    fn start_again(&mut self, key: Key) -> bool {
        if self.leave_quarantined(key) {
            return true;
        }
        let error = match self.start(key) {
            Ok(()) => return true,
            Err(error) if self.is_end(&error) => return false,
            Err(error) => Arc::new(error),
        };
        let Some(child) = self.children.get_mut(key) else { return true };
        let (id, source) = (Arc::clone(&child.id), Arc::clone(&error));
        child.reply_started(&Err(ControlError::NotStarted { id, source }));
        if child.is_added || child.restart == Restart::Temporary {
            self.forget(key);
            return true;
        }
        let reason = DownReason::NotStarted(error);
        child.last = Some((reason.clone(), Instant::now()));
        self.failed(key, reason);
        false
    }

    fn start(&mut self, key: Key) -> Result<(), SpawnError> {
        let Some(child) = self.children.get_mut(key) else { return Ok(()) };
        let mut spawn = match (&child.origin, &self.dynamic) {
            (Origin::Dynamic(dynamic), Some(spec)) => spec.spawn(&dynamic.child),
            (Origin::Spec(spawn), _) => Spawn::clone(spawn),
            (Origin::Dynamic(_), None) => return Ok(()),
        };
        spawn.owner = Some(key);
        let pid = match &child.parent {
            Parent::Supervisor => self.ctx.spawn(spawn)?,
            Parent::Other(frame) => {
                let ctx = self.ctx.ctx().with_parent_frame(frame.clone());
                self.ctx.processes().spawn(&ctx, spawn)?
            }
        };
        self.children.started(key, pid, Instant::now());
        self.recovering.remove(key);
        Ok(())
    }

    /// Ends the supervisor if it can spawn nothing more. Returns whether it does.
    fn is_end(&mut self, error: &SpawnError) -> bool {
        match error {
            SpawnError::ContextEnded { source } => {
                let message = format!("the supervisor can no longer start children: {source}");
                self.end(Err(CallError::new(source.kind(), message)));
            }
            // It is being terminated with all that it owns.
            SpawnError::StarterEnded { .. } => self.end(Ok(())),
            SpawnError::HostStopping { host } if Some(host) == self.host.as_ref() => self.end(Ok(())),
            _ => return false,
        }
        true
    }

    /// Asks a child to end, unless it was asked.
    fn stop(&mut self, key: Key, reason: &str) {
        let Some(child) = self.children.get_mut(key) else { return };
        let ChildPhase::Running { pid, since } = child.phase else { return };
        child.phase = ChildPhase::Stopping { pid, since, waits: None };
        let grace = match child.shutdown {
            Shutdown::AtOnce => return self.terminate(key),
            Shutdown::Within(grace) => grace,
            Shutdown::Unlimited => Duration::MAX,
        };
        // If it has ended already, its exit is in the mailbox soon.
        let _ = self.ctx.processes().cancel(pid, reason, grace);
        self.stopping.set(key, Due::after(Instant::now(), grace));
    }

    /// Terminates a child that was asked to end.
    fn terminate(&mut self, key: Key) {
        let Some(child) = self.children.get_mut(key) else { return };
        let ChildPhase::Stopping { pid, waits, .. } = &mut child.phase else { return };
        *waits = Some(TERMINATED_WAITS);
        let _ = self.ctx.processes().terminate(*pid);
        self.stopping.set(key, Due::after(Instant::now(), TERMINATED_WAIT));
    }

    /// Terminates children whose shutdown time has passed, and goes on without terminated children that do not end.
    fn hurry_stopping(&mut self) {
        for key in self.stopping.due(Instant::now()) {
            let Some(child) = self.children.get_mut(key) else { continue };
            let ChildPhase::Stopping { pid, waits, .. } = &mut child.phase else { continue };
            let pid = *pid;
            match waits {
                None => self.terminate(key),
                Some(2..) => {
                    *waits = waits.map(|left| left - 1);
                    self.stopping.set(key, Due::after(Instant::now(), TERMINATED_WAIT));
                }
                Some(_) => {
                    tracing::error!(
                        %pid,
                        "a child was terminated and has not ended, because it blocks its thread; its supervisor goes on without it"
                    );
                    self.ctx.demonitor(pid);
                    self.ctx.disown(pid);
                    self.down(pid, DownReason::Blocked, |restart| restart.is_due(&ExitReason::Killed));
                }
            }
        }
    }
}

async fn next(commands: Option<&mut CommandReceiver>) -> Command {
    match commands {
        Some(commands) => commands.next().await,
        None => pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
