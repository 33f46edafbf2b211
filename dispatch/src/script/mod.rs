//! What the engines of scripts and components share: slices of time on a thread, the clock that ends them,
//! and threads of their own.

pub(crate) mod clock;
mod runtime;
#[cfg(feature = "lua")]
pub(crate) mod signal;
mod slices;
mod sync;
mod thread;
mod unit;

#[cfg(feature = "lua")]
pub(crate) use self::runtime::leave_stalled_thread;
pub use self::runtime::{ScriptRuntime, ScriptRuntimeBuilder, ScriptRuntimeStatistics};
pub use self::unit::Quarantine;
pub(crate) use self::unit::Unit;
