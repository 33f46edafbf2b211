//! What the program is told by signals.
//!
//! A thread of its own waits for them, from before the manifest is read. It never logs and takes no lock for longer than an
//! instant, so a second signal ends the program whatever the rest of it waits for.

use std::convert::Infallible;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, fs, io, process, thread};

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, MutexGuard, Notify, watch};
use tokio::task::JoinSet;

use crate::threads;

/// How long a second signal waits for a socket that is being made, to remove it.
const PATIENCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(1);

/// The program is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// SIGINT, which is Ctrl-C.
    Interrupt,
    /// SIGTERM.
    #[cfg(unix)]
    Terminate,
}

impl Stop {
    /// The exit code of a program that a signal ended, as shells give it: 128 and the signal's number.
    const fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            #[cfg(unix)]
            Self::Terminate => 143,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            #[cfg(unix)]
            Self::Terminate => "SIGTERM",
        })
    }
}

/// The signals of this process: from when they are listened for, they do not end it as they would by default.
///
/// SIGHUP asks for a reload, SIGINT and SIGTERM for a stop. A second of the latter ends the program at once.
#[derive(Clone)]
pub(super) struct Signals {
    shared: Arc<Shared>,
    /// What asked for the stop.
    stop: watch::Receiver<Option<Stop>>,
}

struct Shared {
    /// Holds one request: several that come before one is taken are one.
    reload: Notify,
    stop: watch::Sender<Option<Stop>>,
    /// What a program that is ended at once would leave.
    sockets: Mutex<Vec<PathBuf>>,
}

impl Signals {
    /// Listens, on a thread of its own.
    ///
    /// # Errors
    ///
    /// If the system refuses the thread, or what a signal is noticed with.
    pub(super) fn listen() -> io::Result<Self> {
        let (sender, stop) = watch::channel(None);
        let shared = Arc::new(Shared { reload: Notify::new(), stop: sender, sockets: Mutex::default() });
        let handler = Arc::clone(&shared);
        let wait = waiting(handler)?;
        let builder = threads::builder("frame-signals".to_owned());
        builder.spawn(wait).map_err(|error| threads::refused("the thread that waits for signals", error))?;
        Ok(Self { shared, stop })
    }

    /// Waits until a reload is asked for.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn reload(&self) {
        self.shared.reload.notified().await;
    }

    /// Waits until the stop of the program is asked for. It stays asked for.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn stop(&self) -> Stop {
        let mut stop = self.stop.clone();
        let stop = stop.wait_for(Option::is_some).await.ok().and_then(|stop| *stop);
        match stop {
            Some(stop) => stop,
            // The other side is here.
            None => std::future::pending().await,
        }
    }

    /// Has the next signal end the program at once, as if there had been one before.
    pub(super) fn end_with_next(&self) {
        self.shared.stop.send_if_modified(|stop| {
            stop.get_or_insert(Stop::Interrupt);
            false
        });
    }

    /// Returns the sockets that a second signal removes, which would be left otherwise. While this is held none is removed: hold
    /// it while sockets are made.
    pub(super) async fn sockets(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.shared.sockets.lock().await
    }
}

impl Shared {
    fn stop(&self, stop: Stop) {
        let is_second = self.stop.send_replace(Some(stop)).is_some();
        if is_second {
            self.end(stop);
        }
    }

    fn end(&self, stop: Stop) -> ! {
        let began = Instant::now();
        loop {
            if let Ok(paths) = self.sockets.try_lock() {
                for path in &*paths {
                    let _ = fs::remove_file(path);
                }
                break;
            }
            // One is being made. That takes no time, unless the file system does not answer.
            if began.elapsed() >= PATIENCE {
                break;
            }
            thread::sleep(PAUSE);
        }
        process::exit(stop.exit_code())
    }
}

#[cfg(unix)]
fn waiting(shared: Arc<Shared>) -> io::Result<impl FnOnce() + Send + 'static> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    Ok(move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => shared.reload.notify_one(),
                SIGINT => shared.stop(Stop::Interrupt),
                _ => shared.stop(Stop::Terminate),
            }
        }
    })
}

/// Ctrl-C. There is no signal for reloads here.
#[cfg(not(unix))]
fn waiting(shared: Arc<Shared>) -> io::Result<impl FnOnce() + Send + 'static> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(move || {
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                shared.stop(Stop::Interrupt);
            }
        });
    })
}

/// Reaps what ends, until what this returns is dropped. Nothing where the program is not PID 1: it starts no processes itself, and
/// a program that has this as a library may.
///
/// # Errors
///
/// If SIGCHLD cannot be listened for.
pub(super) fn reap_orphans() -> io::Result<JoinSet<()>> {
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
