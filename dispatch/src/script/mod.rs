//! What the engines of scripts and components share: slices of time on a thread, the clock that ends them,
//! and threads of their own.

pub(crate) mod clock;
mod runtime;
mod slices;
mod thread;
mod unit;

#[cfg(feature = "lua")]
pub(crate) use self::runtime::leave_stalled_thread;
pub use self::runtime::{ScriptRuntime, ScriptRuntimeBuilder, ScriptRuntimeStatistics};
#[cfg(all(feature = "lua", unix))]
pub(crate) use self::thread::install_signal;
pub use self::unit::Quarantine;
pub(crate) use self::unit::Unit;

/// The primitives under [`slices`]: a seam. The model checker compiles that file with primitives of its own in place of these.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(super) use std::sync::{Arc, Mutex, MutexGuard};
}
