//! Spawning a process by a name, or signalling the process that has it.

use std::collections::HashMap;
use std::iter::once;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxBuildHasher;
use tokio::sync;

use crate::context::CallContext;
use crate::pid::Pid;
use crate::process::cell::{ProcessCell, relations};
use crate::process::error::{ProcessError, SpawnError};
use crate::process::manager::ProcessManager;
use crate::process::message::Message;
use crate::process::send::{SendError, SendErrorReason, send_later};
use crate::process::spawn::{self, Spawn};

/// The outcome of [`ProcessManager::spawn_or_signal`](crate::process::ProcessManager::spawn_or_signal).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spawned {
    /// The process was spawned.
    New(Pid),
    /// Another process had the name, and received the messages.
    Signalled(Pid),
}

impl Spawned {
    /// Returns the process that has the name.
    pub const fn pid(self) -> Pid {
        match self {
            Self::New(pid) | Self::Signalled(pid) => pid,
        }
    }
}

/// Spawns a process with a name, or signals the one that has it. `may_relate_to` decides whether the caller may monitor and link
/// to a process that has the name.
pub(crate) async fn spawn_or_signal<E: From<SpawnError>>(
    manager: &ProcessManager,
    ctx: &CallContext,
    mut spawn: Spawn,
    may_relate_to: impl Fn(Pid) -> Result<(), E>,
) -> Result<Spawned, E> {
    let Some(name) = spawn.name.clone() else {
        return Ok(manager.spawn(ctx, spawn).map(Spawned::New)?);
    };
    super::check(&name).map_err(|name| SpawnError::InvalidName { name })?;
    loop {
        let holder = match manager.names().holder(&name) {
            Some(holder) => holder,
            None => match spawn_locked(manager, ctx, &name, &spawn).await? {
                LockedSpawn::Spawned(pid) => return Ok(Spawned::New(pid)),
                LockedSpawn::Holder(holder) => holder,
            },
        };
        ctx.check().map_err(|source| SpawnError::ContextEnded { source })?;
        if spawn.monitor || spawn.link {
            may_relate_to(holder.pid)?;
        }
        // If the holder has ended, the name is free or belongs to another process.
        if relate(manager, ctx, &holder, &spawn)? && signal(manager, ctx, &holder, &mut spawn).await? {
            return Ok(Spawned::Signalled(holder.pid));
        }
    }
}

enum LockedSpawn {
    Spawned(Pid),
    /// Another process has the name.
    Holder(Arc<ProcessCell>),
}

/// Spawns a process unless another has the name. Only one caller at a time does so, because a process that is being spawned takes
/// a permit of its host before it has the name: another caller would find the host full, and not the process.
async fn spawn_locked(
    manager: &ProcessManager,
    ctx: &CallContext,
    name: &str,
    spawn: &Spawn,
) -> Result<LockedSpawn, SpawnError> {
    let waiter = manager.names().spawning.waiter(name);
    let lock = ctx.bound(waiter.lock()).await.map_err(|source| SpawnError::ContextEnded { source })?;
    let outcome = loop {
        if let Some(holder) = manager.names().holder(name) {
            break LockedSpawn::Holder(holder);
        }
        match manager.spawn(ctx, spawn.clone()) {
            // A caller without the lock, which only spawns or registers a name, was faster.
            Err(SpawnError::NameTaken { .. }) => (),
            spawned => break LockedSpawn::Spawned(spawned?),
        }
    };
    drop(lock);
    Ok(outcome)
}

/// Makes the caller monitor and link to the holder of the name, as is asked for. Returns whether the holder is alive.
fn relate(
    manager: &ProcessManager,
    ctx: &CallContext,
    holder: &Arc<ProcessCell>,
    spawn: &Spawn,
) -> Result<bool, SpawnError> {
    let Some(starter) = spawn::starter(manager, ctx, spawn)? else { return Ok(true) };
    if starter.pid == holder.pid {
        if spawn.monitor {
            let source = ProcessError::Itself { pid: holder.pid };
            return Err(SpawnError::NotMonitored { holder: holder.pid, source: source.into() });
        }
        return Ok(true);
    }
    match relations::relate(&starter, holder, spawn.link, spawn.monitor) {
        Ok(()) => Ok(true),
        Err(exit) if exit.pid == holder.pid => Ok(false),
        Err(_) => Err(SpawnError::StarterEnded { starter: starter.pid }),
    }
}

/// Sends the messages to the holder of the name, and removes them from `spawn`. Returns whether it lived to receive all of them.
async fn signal(
    manager: &ProcessManager,
    ctx: &CallContext,
    holder: &ProcessCell,
    spawn: &mut Spawn,
) -> Result<bool, SpawnError> {
    let mut messages = mem::take(&mut spawn.messages).into_iter();
    while let Some(payload) = messages.next() {
        let message = Message::sent(ctx, payload, None);
        let sent = match holder.mailbox.try_send(message) {
            Ok(()) => Ok(()),
            Err(undelivered) => send_later(ctx, holder, undelivered, manager.config().max_wait).await,
        };
        match sent {
            Ok(()) => (),
            Err(SendError { reason: SendErrorReason::Ended, payload, .. }) => {
                spawn.messages = once(*payload).chain(messages).collect();
                return Ok(false);
            }
            Err(source) => {
                return Err(SpawnError::NotSignalled { holder: holder.pid, source: source.into() });
            }
        }
    }
    Ok(true)
}

/// A fair mutex for each key. A key takes memory only while a caller holds its mutex or waits for it.
#[derive(Default)]
pub(crate) struct KeyedMutex(Mutex<HashMap<Arc<str>, CountedMutex, FxBuildHasher>>);

#[derive(Default)]
struct CountedMutex {
    /// How many waiters there are, that of the holder included.
    waiters: usize,
    mutex: Arc<sync::Mutex<()>>,
}

/// A place in the queue for the mutex of a key. Dropping it leaves the queue, or releases the mutex.
pub(crate) struct KeyedWaiter<'a> {
    mutexes: &'a KeyedMutex,
    key: Arc<str>,
    mutex: Arc<sync::Mutex<()>>,
}

impl KeyedMutex {
    pub(crate) fn waiter(&self, key: &str) -> KeyedWaiter<'_> {
        let key: Arc<str> = key.into();
        let mut mutexes = self.mutexes();
        let counted = mutexes.entry(Arc::clone(&key)).or_default();
        counted.waiters += 1;
        KeyedWaiter { mutexes: self, key, mutex: Arc::clone(&counted.mutex) }
    }

    fn mutexes(&self) -> MutexGuard<'_, HashMap<Arc<str>, CountedMutex, FxBuildHasher>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyedWaiter<'_> {
    /// Waits until the callers before this one have released the mutex.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue.
    pub(crate) async fn lock(&self) -> sync::MutexGuard<'_, ()> {
        self.mutex.lock().await
    }
}

impl Drop for KeyedWaiter<'_> {
    fn drop(&mut self) {
        let mut mutexes = self.mutexes.mutexes();
        let Some(counted) = mutexes.get_mut(&self.key) else { return };
        counted.waiters -= 1;
        if counted.waiters == 0 {
            mutexes.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn one_caller_at_a_time_has_the_lock_and_one_that_gives_up_lets_the_next_pass() {
        let mutexes = KeyedMutex::default();
        let waiters = [(); 3].map(|()| mutexes.waiter("name"));
        let [first, second, third] = &waiters;
        let (mut first, mut third) = (Box::pin(first.lock()), Box::pin(third.lock()));
        let mut second = Box::pin(second.lock());
        let Poll::Ready(lock) = poll(first.as_mut()) else { panic!("the lock is free") };
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        let other = mutexes.waiter("other");
        assert!(poll(pin!(other.lock())).is_ready(), "another key has another lock");
        drop(second);
        assert!(poll(third.as_mut()).is_pending());
        drop(lock);
        assert!(poll(third.as_mut()).is_ready());
    }

    #[test]
    fn a_key_is_kept_as_long_as_it_is_in_use() {
        let mutexes = KeyedMutex::default();
        let (first, second) = (mutexes.waiter("name"), mutexes.waiter("name"));
        assert_eq!(mutexes.mutexes().len(), 1);
        drop(first);
        assert!(Arc::ptr_eq(&mutexes.waiter("name").mutex, &second.mutex), "it is the same lock");
        drop(second);
        assert!(mutexes.mutexes().is_empty());
    }
}
