//! Waiting for the exit of a process.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::exit::Exit;
use super::instance::Instance;
use crate::pid::Pid;

/// A future of the exit of a process: for whoever is no process; one that is
/// [has it in its mailbox](super::ProcessCtx::monitor). Dropping it changes nothing about the process.
#[must_use = "it does nothing but to give the exit to whoever awaits it"]
pub struct Monitor {
    pid: Pid,
    exit: State,
}

enum State {
    Ended(Option<Exit>),
    Waiting { exit: oneshot::Receiver<Exit>, instance: Weak<Instance>, number: u64 },
}

impl Monitor {
    pub(super) const fn ended(exit: Exit) -> Self {
        Self { pid: exit.pid, exit: State::Ended(Some(exit)) }
    }

    pub(super) fn waiting(exit: oneshot::Receiver<Exit>, instance: &Arc<Instance>, number: u64) -> Self {
        let (pid, instance) = (instance.pid, Arc::downgrade(instance));
        Self { pid, exit: State::Waiting { exit, instance, number } }
    }

    /// The process.
    pub const fn pid(&self) -> Pid {
        self.pid
    }
}

impl Future for Monitor {
    type Output = Exit;

    /// # Panics
    ///
    /// If it is polled again behind its end.
    fn poll(mut self: Pin<&mut Self>, waker: &mut Context<'_>) -> Poll<Exit> {
        let pid = self.pid;
        match &mut self.exit {
            State::Ended(exit) => Poll::Ready(exit.take().expect("it is not polled behind its end")),
            State::Waiting { exit, .. } => Pin::new(exit).poll(waker).map(|exit| {
                // The other side is dropped only behind what it sends.
                let exit = exit.unwrap_or(Exit { pid, reason: super::ExitReason::Killed, result: None });
                self.exit = State::Ended(None);
                exit
            }),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let State::Waiting { instance, number, .. } = &self.exit
            && let Some(instance) = instance.upgrade()
        {
            instance.unwatch(*number);
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("pid", &self.pid).finish_non_exhaustive()
    }
}
