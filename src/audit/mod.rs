//! The audit log of an app: a file of JSON objects, one a line. The guide describes the objects.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use frame_net::audit::{AUDIT, Audit};
//! use frame_net::{NetConfig, dialer};
//! use frame_registry::{App, FrameBuilder, FrameResolvers};
//! use frame_runtime::audit::{AuditConfig, AuditLog};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let directory = tempfile::tempdir()?;
//! let file = directory.path().join("audit.log");
//! let config = AuditConfig { required: true, ..AuditConfig::new(file.clone()) };
//! let log = AuditLog::open(&config, "example")?;
//!
//! let mut app = App::builder();
//! app.set_resolvers(FrameResolvers::linked())?;
//! app.set(&AUDIT, Arc::new(log.clone()) as Arc<dyn Audit>)?;
//! frame_net::boot(&mut app, NetConfig::default())?;
//! let dialer = dialer(&FrameBuilder::new().seal(), &app.build())?;
//! assert!(dialer.connect(&"127.0.0.1:9".parse()?).await.is_err());
//!
//! log.flush(Duration::from_secs(5)).await;
//! assert!(std::fs::read_to_string(file)?.contains("special address: loopback"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Units hand their records to a bounded queue, from which a thread of its own writes them to the file. So no unit and no
//! runtime waits for the disk, but for an attempt that must be recorded before it goes on.

mod file;
mod line;
mod queue;
mod rate;
mod writer;

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use frame_net::audit::{Attempt, Audit, Begun, Outcome};
use frame_registry::Frame;
use tokio::sync::Notify;
use tokio::time::timeout;

use self::file::LogFile;
pub(crate) use self::line::{Event, Record, VERSION};
use self::queue::Queue;
use self::writer::Writer;
use crate::trace::TRACE_KEY;

/// `[audit]`: where the audit log is, and what it promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// The file.
    pub file: PathBuf,
    /// Whether what cannot be recorded is refused. Each attempt then waits until a record that it begins is in the file.
    pub required: bool,
    /// Whether records are on the disk, and not only in the file, before an attempt goes on.
    pub sync: bool,
    /// How many attempts a unit may begin in a second, each with records of its own. What comes faster is refused if the log is
    /// required, and otherwise counted together: one unit does not fill the disk for all of them.
    pub attempts_per_second: NonZeroU32,
}

impl AuditConfig {
    /// The attempts of a unit in a second, unless told otherwise.
    pub const ATTEMPTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(1000).unwrap();

    /// A log that is not required and not synced.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        let attempts_per_second = Self::ATTEMPTS_PER_SECOND;
        Self { file: file.into(), required: false, sync: false, attempts_per_second }
    }

    /// Returns why no user can have the log there: something that is not a regular file has the name.
    pub(crate) fn check_kind(&self) -> io::Result<()> {
        file::check_kind(&self.file)
    }

    /// Returns why this user could not write the file, as far as that can be told without making it.
    pub(crate) fn check_writable(&self) -> io::Result<()> {
        #[cfg(unix)]
        {
            use rustix::fs::{Access, access};

            if self.file.symlink_metadata().is_ok() {
                access(&self.file, Access::READ_OK | Access::WRITE_OK)?;
            } else if let Some(directory) = self.file.parent() {
                access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
            }
        }
        Ok(())
    }
}

/// The audit log of an app that runs. Cloning it is one reference count. Its thread ends with the last clone, once it has
/// written what there is.
#[derive(Clone)]
pub struct AuditLog {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Arc<Queue>,
    is_required: bool,
    /// How many attempts have begun and not ended.
    open: Arc<AtomicUsize>,
    /// Told when none is open any more.
    none_open: Notify,
}

impl AuditLog {
    /// Opens the log, writes that the app has started, and starts the thread that writes.
    ///
    /// # Errors
    ///
    /// If the file is not one that can be written, or the thread cannot be started.
    pub fn open(config: &AuditConfig, app: &str) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(config.required, config.attempts_per_second));
        let mut writer = Writer::new(LogFile::open(&config.file)?, config, app, Arc::clone(&queue))?;
        writer.write_start()?;
        thread::Builder::new().name("frame-audit".to_owned()).spawn(move || writer.run())?;
        let (is_required, open, none_open) = (config.required, Arc::default(), Notify::new());
        Ok(Self { inner: Arc::new(Inner { queue, is_required, open, none_open }) })
    }

    /// Opens the file anew if it was moved away or replaced.
    pub fn reopen(&self) {
        self.inner.queue.reopen();
    }

    /// Waits until what has been recorded so far is written, or `limit` has passed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn flush(&self, limit: Duration) {
        wait(limit, self.inner.queue.flush()).await;
    }

    /// The same when the app has stopped, which is recorded, and nothing after it: attempts that are still open may end until then,
    /// but not for long. Those of a call that was cancelled end after the call, when its script is taken down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn finish(&self, limit: Duration) {
        /// Native code may hold a connection for as long as it likes.
        const LONGEST: Duration = Duration::from_millis(500);
        let ended = async {
            while self.inner.open.load(Ordering::Acquire) > 0 {
                self.inner.none_open.notified().await;
            }
        };
        let _ = timeout(LONGEST.min(limit), ended).await;
        wait(limit, self.inner.queue.finish()).await;
    }
}

async fn wait(limit: Duration, written: impl Future<Output = ()>) {
    if timeout(limit, written).await.is_err() {
        tracing::warn!("the last records were not written to the audit log within {limit:?}");
    }
}

impl Audit for AuditLog {
    fn begin(&self, attempt: &Arc<Attempt>) -> Begun {
        let open = &self.inner.open;
        if !self.inner.is_required {
            open.fetch_add(1, Ordering::AcqRel);
            return Begun::Recorded;
        }
        let written = match self.inner.queue.push_open(attempt) {
            Ok(written) => written,
            Err(why) => return Begun::Refused(why),
        };
        open.fetch_add(1, Ordering::AcqRel);
        let open = Arc::clone(open);
        // What could not be recorded has no end.
        Begun::Waits(Box::pin(async move {
            written.await.inspect_err(|_| _ = open.fetch_sub(1, Ordering::AcqRel))
        }))
    }

    fn end(&self, attempt: Arc<Attempt>, outcome: Outcome) {
        let is_begun = outcome.is_begun;
        self.inner.queue.push_end(attempt, outcome);
        if is_begun && self.inner.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inner.none_open.notify_one();
        }
    }

    fn trace_id(&self, frame: &Frame) -> Option<Arc<str>> {
        Some(frame.get(&TRACE_KEY)?.trace_id().to_string().into())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("required", &self.inner.is_required).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use frame_net::audit::AUDIT;
    use frame_net::{Dialer, Endpoint, NetConfig, dialer};
    use frame_registry::{App, FrameBuilder, FrameResolvers};
    use tokio::time::{Instant, sleep};

    use super::*;

    /// A dialer whose attempts are recorded, and an address that accepts connections.
    fn dialer_with(log: &AuditLog) -> (Dialer, TcpListener, Endpoint) {
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        app.set(&AUDIT, Arc::new(log.clone()) as Arc<dyn Audit>).unwrap();
        let allowed = r#"{ "clearnet": { "allow": ["127.0.0.1"] } }"#;
        frame_net::boot(&mut app, serde_json::from_str::<NetConfig>(allowed).unwrap()).unwrap();
        let dialer = dialer(&FrameBuilder::new().seal(), &app.build()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap().to_string().parse().unwrap();
        (dialer, listener, to)
    }

    #[tokio::test]
    async fn what_does_not_end_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let log = AuditLog::open(&AuditConfig::new(directory.path().join("audit.log")), "tried").unwrap();
        let (dialer, _listener, to) = dialer_with(&log);
        let _held = dialer.connect(&to).await.unwrap();
        let begun = Instant::now();
        log.finish(Duration::from_secs(5)).await;
        assert!(begun.elapsed() < Duration::from_secs(4));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_attempt_that_ends_after_its_call_is_in_the_log() {
        for required in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("audit.log");
            let config = AuditConfig { required, ..AuditConfig::new(&file) };
            let log = AuditLog::open(&config, "tried").unwrap();
            let (dialer, _listener, to) = dialer_with(&log);

            let stream = dialer.connect(&to).await.unwrap();
            tokio::spawn(async move {
                sleep(Duration::from_millis(50)).await;
                drop(stream);
            });
            log.finish(Duration::from_secs(5)).await;
            let written = std::fs::read_to_string(&file).unwrap();
            assert!(written.contains(r#""end":"closed""#), "{written}");
            assert!(written.lines().last().unwrap().contains(r#""event":"stop""#), "{written}");

            // Where it is required, nothing is attempted after that.
            assert_eq!(dialer.connect(&to).await.is_err(), required);
        }
    }
}
