//! Looking for a process by its name, with a wait.

use std::time::Duration;

use tokio::time::timeout;

use super::context::ProcessContext;
use super::manager::ProcessManager;
use super::names;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::pid::Pid;

/// No process was found by a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No process was registered by the name in time.
    #[error("no process is registered as {name:?}, after a wait of {time:?}")]
    NotFound {
        /// The name.
        name: String,
        /// How long it was waited for.
        time: Duration,
    },
    /// A name that no process can have.
    #[error(
        "{name:?} is not a valid name for a process; a name has 1 to 255 bytes, no control or format characters, and does not begin with `{{`"
    )]
    InvalidName {
        /// The name; of a long one the beginning.
        name: String,
    },
    /// The caller's context ended.
    #[error("the caller's context has ended")]
    ContextEnded {
        /// The reason.
        source: CallError,
    },
}

impl From<LookupError> for CallError {
    fn from(error: LookupError) -> Self {
        let kind = match error {
            LookupError::NotFound { .. } => ErrorKind::NotFound,
            LookupError::InvalidName { .. } => ErrorKind::Invalid,
            LookupError::ContextEnded { source } => return source,
        };
        Self::new(kind, error.to_string())
    }
}

impl ProcessManager {
    /// Returns the process that has a name, and waits for one for at most `time`, and as long as `ctx` may.
    /// [`whereis`](Self::whereis) does not wait.
    ///
    /// The name is free again when the process has ended, which may be at any time.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use frame_dispatch::Functions;
    /// use frame_dispatch::process::{HostConfig, ProcessContext, ProcessManager, Spawn};
    /// use frame_registry::{App, Options};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let functions = Functions::new(App::builder().build());
    /// let processes = ProcessManager::new(functions.clone());
    /// processes.register_host("app:workers".parse()?, HostConfig::default())?;
    /// processes.register("app:db".parse()?, Options::new(), async |mut ctx: ProcessContext| {
    ///     ctx.receive().await;
    /// })?;
    ///
    /// let root = functions.root();
    /// let start = Spawn::new("app:workers".parse()?, "app:db".parse()?).with_name("db");
    /// let (found, started) = tokio::join!(processes.lookup(&root, "db", Duration::from_secs(5)), async {
    ///     processes.spawn(&root, start)
    /// });
    /// assert_eq!(found?, started?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A [`LookupError`].
    ///
    /// # Panics
    ///
    /// If it has to wait on a runtime without a timer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lookup(&self, ctx: &CallContext, name: &str, time: Duration) -> Result<Pid, LookupError> {
        names::check(name).map_err(|name| LookupError::InvalidName { name })?;
        ctx.check().map_err(|source| LookupError::ContextEnded { source })?;
        if let Some(pid) = self.whereis(name) {
            return Ok(pid);
        }
        let not_found = || LookupError::NotFound { name: name.to_owned(), time };
        if time.is_zero() {
            return Err(not_found());
        }
        let found = self.names().waiters().wait(name, || self.whereis(name));
        match ctx.bound(timeout(time, found)).await {
            Ok(found) => found.map_err(|_elapsed| not_found()),
            Err(source) => Err(LookupError::ContextEnded { source }),
        }
    }
}

impl ProcessContext {
    /// [Looks](ProcessManager::lookup) for a process by its name, and waits for one for at most `time`.
    ///
    /// # Errors
    ///
    /// A [`LookupError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lookup(&self, name: &str, time: Duration) -> Result<Pid, LookupError> {
        self.processes().lookup(self.ctx(), name, time).await
    }
}
