//! How a process is started by a name, or signalled if it is there.

use std::iter::once;
use std::mem;
use std::sync::Arc;

use super::cell::ProcessCell;
use super::error::{ProcessError, SendError, SendErrorReason, SpawnError};
use super::manager::ProcessManager;
use super::message::Message;
use super::send::send_later;
use super::spawn::{Spawn, Spawned};
use super::{names, relations};
use crate::context::CallContext;
use crate::pid::Pid;

impl ProcessManager {
    /// Starts a process with a name; or, where a living one has the name, sends that the
    /// [messages](Spawn::with_message), as [`send`](Self::send) does. Of several that do this at once exactly one starts
    /// the process, and the others find it. Without a name it is started.
    ///
    /// Where it is to be [monitored](Spawn::with_monitor) or [linked](Spawn::with_link), the one that has the name is, too,
    /// before it is sent anything; nothing happens if it is already. Its payload, options and pairs are those that it was
    /// started with.
    ///
    /// A message is given to one process: where that ends before it has received it, nobody does. Where it ends before it
    /// was sent all, the next is given those that are left; the exit of the one before is told to whoever monitored it with
    /// this.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); [`SpawnError::NotSignalled`] if a message was not delivered, and
    /// [`SpawnError::NotMonitored`] if a process was to monitor itself.
    ///
    /// # Cancel safety
    ///
    /// Dropped as it waits for room in a mailbox, some messages may be delivered, and others not; a monitor and a link stay.
    pub async fn spawn_or_signal(&self, ctx: &CallContext, start: Spawn) -> Result<Spawned, SpawnError> {
        self.start_or_signal_if(ctx, start, |_| Ok(())).await
    }

    /// The same where whoever wants it may not monitor or link to all that could have the name.
    pub(super) async fn start_or_signal_if<E: From<SpawnError>>(
        &self,
        ctx: &CallContext,
        mut start: Spawn,
        may_relate_to: impl Fn(Pid) -> Result<(), E>,
    ) -> Result<Spawned, E> {
        let Some(name) = start.name.clone() else {
            return Ok(self.spawn(ctx, start).map(Spawned::New)?);
        };
        names::check(&name).map_err(|name| SpawnError::InvalidName { name })?;
        loop {
            let holder = match self.names().holder(&name) {
                Some(holder) => holder,
                None => match self.start_in_turn(ctx, &name, &start).await? {
                    Found::Nobody(started) => return Ok(Spawned::New(started)),
                    Found::Holder(holder) => holder,
                },
            };
            ctx.check().map_err(|source| SpawnError::ContextEnded { source })?;
            if start.monitor || start.link {
                may_relate_to(holder.pid)?;
            }
            // Where it has ended its name is free, or somebody else's.
            if self.relate(ctx, &holder, &start)? && self.signal(ctx, &holder, &mut start).await? {
                return Ok(Spawned::Signalled(holder.pid));
            }
        }
    }

    /// Starts it, unless somebody was faster. One at a time does, because who starts it has a place on its host before it has
    /// the name: another would find no place, and not who has the name.
    async fn start_in_turn(&self, ctx: &CallContext, name: &str, start: &Spawn) -> Result<Found, SpawnError> {
        let turn = self.turns().line_up(name);
        let taken = ctx.bound(turn.taken()).await.map_err(|source| SpawnError::ContextEnded { source })?;
        let found = loop {
            if let Some(holder) = self.names().holder(name) {
                break Found::Holder(holder);
            }
            match self.spawn(ctx, start.clone()) {
                // By whoever does not take turns, and only starts; or is given the name.
                Err(SpawnError::NameTaken { .. }) => (),
                started => break Found::Nobody(started?),
            }
        };
        drop(taken);
        Ok(found)
    }

    /// Has whoever starts it monitor who has the name, and linked to it, as is wanted. Says whether that lives.
    fn relate(
        &self,
        ctx: &CallContext,
        holder: &Arc<ProcessCell>,
        start: &Spawn,
    ) -> Result<bool, SpawnError> {
        let Some(starter) = self.starter(ctx, start)? else { return Ok(true) };
        if starter.pid == holder.pid {
            if start.monitor {
                let source = ProcessError::Itself { pid: holder.pid };
                return Err(SpawnError::NotMonitored { holder: holder.pid, source: source.into() });
            }
            return Ok(true);
        }
        match relations::relate(&starter, holder, start.link, start.monitor) {
            Ok(()) => Ok(true),
            Err(exit) if exit.pid == holder.pid => Ok(false),
            Err(_) => Err(SpawnError::StarterEnded { starter: starter.pid }),
        }
    }

    /// Sends the messages; those that were delivered are gone from `start`. Says whether the process lived to be sent all.
    async fn signal(
        &self,
        ctx: &CallContext,
        holder: &ProcessCell,
        start: &mut Spawn,
    ) -> Result<bool, SpawnError> {
        let mut messages = mem::take(&mut start.messages).into_iter();
        while let Some(payload) = messages.next() {
            let message = Message::sent(ctx, payload, None);
            let sent = match holder.mailbox.try_send(message) {
                Ok(()) => Ok(()),
                Err(refused) => send_later(ctx, holder, refused, self.config().max_wait).await,
            };
            match sent {
                Ok(()) => (),
                Err(SendError { reason: SendErrorReason::Ended, payload, .. }) => {
                    start.messages = once(*payload).chain(messages).collect();
                    return Ok(false);
                }
                Err(source) => {
                    return Err(SpawnError::NotSignalled { holder: holder.pid, source: source.into() });
                }
            }
        }
        Ok(true)
    }
}

/// Who had the name.
enum Found {
    /// So this was started.
    Nobody(Pid),
    Holder(Arc<ProcessCell>),
}
