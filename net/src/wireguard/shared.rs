//! What a tunnel's task has in common with who uses the tunnel.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::wireguard::routes::Routes;
use crate::wireguard::stack::Stack;

/// The stack, and the bell of the task that carries its packets.
pub(super) struct Shared {
    stack: Mutex<Stack>,
    bell: Notify,
    pub(super) routes: Arc<Routes>,
    is_unused: AtomicBool,
    began: Instant,
}

impl Shared {
    pub(super) fn new(routes: Arc<Routes>, stack: impl FnOnce(smoltcp::time::Instant) -> Stack) -> Arc<Self> {
        let began = Instant::now();
        let stack = Mutex::new(stack(smoltcp::time::Instant::ZERO));
        let (bell, is_unused) = (Notify::new(), AtomicBool::new(false));
        Arc::new(Self { stack, bell, routes, is_unused, began })
    }

    /// The stack, for a short time. Its wakers may be woken meanwhile.
    pub(super) fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task look after the stack.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// What is rung.
    pub(super) const fn bell(&self) -> &Notify {
        &self.bell
    }

    /// The time, as the stack has it.
    pub(super) fn now(&self) -> smoltcp::time::Instant {
        let micros = self.began.elapsed().as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// Whether nobody can use the tunnel any more.
    pub(super) fn is_unused(&self) -> bool {
        self.is_unused.load(Ordering::Acquire)
    }
}

/// A share in the tunnel of the network, or of something that it made. The task ends after the last of them.
pub(super) struct User(pub(super) Arc<Shared>);

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
