//! What a tunnel's task shares with the connections of the stack.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Stack;
use crate::wireguard::packet::Packets;
use crate::wireguard::task;

/// The stack, and the bell of the task that carries its packets.
pub(in crate::wireguard) struct Shared {
    stack: Mutex<Stack>,
    bell: Notify,
    is_unused: AtomicBool,
    began: Instant,
}

impl Shared {
    pub(in crate::wireguard) fn new(stack: impl FnOnce(smoltcp::time::Instant) -> Stack) -> Arc<Self> {
        let began = Instant::now();
        let stack = Mutex::new(stack(smoltcp::time::Instant::ZERO));
        let (bell, is_unused) = (Notify::new(), AtomicBool::new(false));
        Arc::new(Self { stack, bell, is_unused, began })
    }

    /// The stack, for a short time. Its wakers may be woken meanwhile.
    pub(super) fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task look after the stack.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// The time, as the stack has it.
    fn now(&self) -> smoltcp::time::Instant {
        let micros = self.began.elapsed().as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// The stack as its task sees it.
pub(in crate::wireguard) struct Interface(pub(in crate::wireguard) Arc<Shared>);

impl task::Interface for Interface {
    fn exchange(&mut self, inbound: &mut Packets, outbound: &mut Packets) -> Option<Duration> {
        self.0.stack().poll(self.0.now(), inbound, outbound)
    }

    async fn ready(&mut self) {
        self.0.bell.notified().await;
    }

    fn is_done(&mut self) -> bool {
        self.0.is_unused.load(Ordering::Acquire) && self.0.stack().is_delivered()
    }
}

impl Drop for Interface {
    /// Also where the runtime ends before the tunnel's users.
    fn drop(&mut self) {
        self.0.stack().end();
    }
}

/// A share in the tunnel of the network, or of something that it made. The task ends after the last of them.
pub(in crate::wireguard) struct User(pub(in crate::wireguard) Arc<Shared>);

impl std::ops::Deref for User {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.is_unused.store(true, Ordering::Release);
        self.ring();
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User")
    }
}
