//! What the clock knows of the guest code that a thread runs, and its quarantine.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::{CallError, ErrorKind};

/// A script or a component. All calls and processes of one share it.
#[derive(Debug)]
pub(crate) struct Unit {
    name: Arc<str>,
    quarantine: OnceLock<Quarantine>,
}

impl Unit {
    /// Creates a unit. `name` stands for it in errors and in the log.
    pub(crate) fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), quarantine: OnceLock::new() }
    }

    /// Returns the reason why its calls are refused, if they are.
    pub(crate) fn quarantine(&self) -> Option<&Quarantine> {
        self.quarantine.get()
    }

    /// Quarantines it, because of a thread that it held. Returns `false` if it was already.
    pub(super) fn set_quarantine(&self, processor_time: Duration) -> bool {
        let quarantine = Quarantine { unit: Arc::clone(&self.name), processor_time };
        self.quarantine.set(quarantine).is_ok()
    }

    /// Admits a call.
    ///
    /// # Errors
    ///
    /// If it is quarantined.
    pub(crate) fn admit(&self) -> Result<(), CallError> {
        match self.quarantine() {
            None => Ok(()),
            Some(quarantine) => {
                Err(CallError::new(ErrorKind::Exhausted, quarantine.to_string()).with_retryable(false))
            }
        }
    }
}

/// The reason why the calls of a script or a component are refused: it held a thread of a
/// [`ScriptRuntime`](crate::ScriptRuntime) in an operation that cannot be interrupted. Its `Display` is a
/// sentence.
///
/// A quarantine is never lifted. A script that is compiled anew is not quarantined, even if its source is the
/// same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    unit: Arc<str>,
    processor_time: Duration,
}

impl Quarantine {
    /// Returns the processor time that it had used when it was found to hold the thread.
    pub const fn processor_time(&self) -> Duration {
        self.processor_time
    }
}

impl fmt::Display for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, processor_time } = self;
        write!(
            f,
            "{unit} is quarantined: it held a thread for {} ms of processor time without a point where it can be \
             interrupted; reload it",
            processor_time.as_millis()
        )
    }
}
