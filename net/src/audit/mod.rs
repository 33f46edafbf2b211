//! The audit log: what a unit attempts, recorded before anything of it leaves.
//!
//! The embedder sets an [`Audit`] on the app under [`AUDIT`]. Each attempt of a [`Dialer`](crate::Dialer) is then recorded
//! with [`Audit::begin`] before a packet of it leaves, and with [`Audit::end`] when it has ended. An app without a log pays
//! one lookup for each dialer.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use frame_net::audit::{AUDIT, Attempt, Audit, Begun, Outcome};
//! use frame_net::{NetConfig, dialer};
//! use frame_registry::{App, FrameBuilder, FrameResolvers};
//!
//! #[derive(Debug, Default)]
//! struct Lines(Mutex<Vec<String>>);
//!
//! impl Audit for Lines {
//!     fn begin(&self, _: &Arc<Attempt>) -> Begun {
//!         Begun::Recorded
//!     }
//!
//!     fn end(&self, attempt: Arc<Attempt>, outcome: Outcome) {
//!         let line = format!("{} {}: {}", attempt.kind, attempt.destination, outcome.end);
//!         self.0.lock().unwrap().push(line);
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let lines = Arc::new(Lines::default());
//! let mut app = App::builder();
//! app.set_resolvers(FrameResolvers::linked())?;
//! app.set(&AUDIT, lines.clone() as Arc<dyn Audit>)?;
//! frame_net::boot(&mut app, NetConfig::default())?;
//!
//! let dialer = dialer(&FrameBuilder::new().seal(), &app.build())?;
//! assert!(dialer.connect(&"127.0.0.1:9".parse()?).await.is_err());
//! assert_eq!(*lines.0.lock().unwrap(), ["connect 127.0.0.1:9: refused"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attempt;
mod callers;
mod datagrams;
mod end;
mod recording;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use frame_registry::{Frame, Key};

pub use self::attempt::{Attempt, AttemptKind, Destination, Outcome, Verdict};
pub use self::callers::{CALLERS, Callers, callers};
pub(crate) use self::datagrams::Peers;
pub use self::end::End;
pub(crate) use self::recording::{Recording, RequestDetails, Subject};
use crate::network::BoxFuture;

/// The audit log of an app. The embedder sets it; without it nothing is recorded.
pub static AUDIT: Key<Arc<dyn Audit>> = Key::new("net.audit");

/// Records what units attempt.
///
/// The methods are called by the tasks that dial, so they must not block.
pub trait Audit: fmt::Debug + Send + Sync + 'static {
    /// Records that an attempt begins, and decides whether it may go on. Nothing of it leaves before it is
    /// [recorded](Begun::Recorded), or the future that is [returned](Begun::Waits) has succeeded.
    ///
    /// It is not called for an attempt that is refused before anything could leave; that has an [end](Self::end) only.
    fn begin(&self, attempt: &Arc<Attempt>) -> Begun;

    /// Records how an attempt has ended. Each attempt that began ends once.
    fn end(&self, attempt: Arc<Attempt>, outcome: Outcome);

    /// Returns the id of the distributed trace that `frame` is part of, if the embedder has traces.
    fn trace_id(&self, frame: &Frame) -> Option<Arc<str>> {
        let _ = frame;
        None
    }
}

/// Whether an attempt is recorded; from [`Audit::begin`].
pub enum Begun {
    /// It may go on.
    Recorded,
    /// It may go on once the future has succeeded. Dropping the future abandons the attempt.
    Waits(BoxFuture<'static, Result<(), Unrecorded>>),
    /// It may not go on.
    Refused(Unrecorded),
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorded => f.write_str("Recorded"),
            Self::Waits(_) => f.write_str("Waits"),
            Self::Refused(why) => f.debug_tuple("Refused").field(why).finish(),
        }
    }
}

/// An attempt cannot be recorded, so it was refused. It may succeed later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unrecorded {
    /// The log cannot be written.
    #[error("the audit log cannot be written: {reason}; nothing is sent until it can")]
    Failed {
        /// What the operating system says.
        reason: Arc<str>,
    },
    /// The unit has as many records that are still to be written as it may have.
    #[error("the audit log has no more room for records of this unit at the moment; try again later")]
    Full,
    /// The unit begins attempts faster than the log takes records of one unit.
    #[error(
        "the audit log records {per_second} attempts of a unit in a second, and this unit has begun more; try again later"
    )]
    TooFast {
        /// How many may begin in a second.
        per_second: NonZeroU32,
    },
}
