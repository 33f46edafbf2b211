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
//! let log = AuditLog::open(&AuditConfig { file: file.clone(), required: true, sync: false }, "example")?;
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
mod writer;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use frame_net::audit::{Attempt, Audit, Begun, Outcome};
use frame_registry::Frame;
use tokio::time::timeout;

use self::file::LogFile;
pub(crate) use self::line::{Event, Record, VERSION};
use self::queue::Queue;
use self::writer::Writer;
use crate::trace::TRACE_CONTEXT;

/// `[audit]`: where the audit log is, and what it promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// The file.
    pub file: PathBuf,
    /// Whether what cannot be recorded is refused. Each attempt then waits until a record that it begins is in the file.
    pub required: bool,
    /// Whether records are on the disk, and not only in the file, before an attempt goes on.
    pub sync: bool,
}

impl AuditConfig {
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
}

impl AuditLog {
    /// Opens the log, writes that the app has started, and starts the thread that writes.
    ///
    /// # Errors
    ///
    /// If the file is not one that can be written, or the thread cannot be started.
    pub fn open(config: &AuditConfig, app: &str) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(config.required));
        let mut writer = Writer::new(LogFile::open(&config.file)?, config, Arc::clone(&queue))?;
        writer.write_start(app)?;
        thread::Builder::new().name("frame-audit".to_owned()).spawn(move || writer.run())?;
        Ok(Self { inner: Arc::new(Inner { queue, is_required: config.required }) })
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
        if timeout(limit, self.inner.queue.flush()).await.is_err() {
            tracing::warn!("the last records were not written to the audit log within {limit:?}");
        }
    }
}

impl Audit for AuditLog {
    fn begin(&self, attempt: &Arc<Attempt>) -> Begun {
        if !self.inner.is_required {
            return Begun::Recorded;
        }
        match self.inner.queue.push_open(attempt) {
            Ok(written) => Begun::Waits(Box::pin(written)),
            Err(why) => Begun::Refused(why),
        }
    }

    fn end(&self, attempt: Arc<Attempt>, outcome: Outcome) {
        self.inner.queue.push_end(attempt, outcome);
    }

    fn trace_id(&self, frame: &Frame) -> Option<Arc<str>> {
        Some(frame.get(&TRACE_CONTEXT)?.trace_id().to_string().into())
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
