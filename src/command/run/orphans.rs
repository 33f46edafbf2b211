//! Orphans in a container: where the program is PID 1, the system makes every process whose parent has ended a child of it.

use std::convert::Infallible;
use std::future::pending;
use std::io;

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Reaps what ends, until what this returns is dropped. Nothing where the program is not PID 1: it starts no processes itself, and
/// a program that has this as a library may.
///
/// # Errors
///
/// If SIGCHLD cannot be listened for.
pub(super) fn reap() -> io::Result<JoinSet<()>> {
    let mut reaping = JoinSet::new();
    if std::process::id() == 1 {
        // From now on. What ended before is seen at first.
        let mut ended = signal(SignalKind::child())?;
        reaping.spawn(async move {
            let never: Infallible = loop {
                // Several that end at once may be one signal.
                while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
                if ended.recv().await.is_none() {
                    break pending().await;
                }
            };
            match never {}
        });
    }
    Ok(reaping)
}
