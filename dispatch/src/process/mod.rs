//! Processes: long-running units with mailboxes.
//!
//! A [`ProcessManager`] spawns processes. A process is an instance of something [registered](ProcessManager::register). It runs on
//! a [host](HostConfig), with a frame that is made as that of a function is, until it returns, fails or is terminated. Its caller
//! may have ended by then. It is identified by its [`Pid`](crate::Pid), which is never reused, and may have names.
//!
//! ```
//! use std::time::Duration;
//!
//! use frame_dispatch::process::{HostConfig, Message, ProcessContext, ProcessManager, Spawn};
//! use frame_dispatch::{Functions, Json};
//! use frame_registry::{App, Options};
//! use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let functions = Functions::new(App::builder().build());
//! let processes = ProcessManager::new(functions.clone());
//! processes.register_host("app:workers".parse()?, HostConfig::default())?;
//!
//! // Adds up numbers until it is cancelled.
//! processes.register("app:sum".parse()?, Options::new(), async |mut ctx: ProcessContext| {
//!     let mut sum = 0;
//!     loop {
//!         match ctx.receive().await {
//!             Message::Sent { payload, .. } => sum += payload.as_json().and_then(|it| it.as_u64()).unwrap_or(0),
//!             _ => return Json(sum),
//!         }
//!     }
//! })?;
//!
//! let root = functions.root();
//! let pid = processes.spawn(&root, Spawn::new("app:workers".parse()?, "app:sum".parse()?).with_name("sum"))?;
//! processes.send(&root, "sum", json!(20)).await?;
//! processes.send(&root, pid, json!(22)).await?;
//!
//! let exit = processes.monitor(pid)?;
//! processes.cancel(pid, "no more numbers", Duration::from_secs(5))?;
//! assert_eq!(exit.await.result.as_deref(), Some(&json!(42).into()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Calls
//!
//! A [call](ProcessManager::call) sends a request to a process and waits for its [reply](Message::reply). The reply does not pass
//! through a mailbox.
//!
//! # Timers and groups
//!
//! A process sends messages to itself [once](ProcessContext::send_after) or [repeatedly](ProcessContext::send_every), as
//! [`Message::Timer`]. A message can be [published](ProcessManager::publish) to all processes that have
//! [joined](ProcessManager::join) a group. [`lookup`](ProcessManager::lookup) waits for a process by its name.
//!
//! # Limits and policies
//!
//! A host [limits](HostConfig) its processes. A [`SpawnPolicy`] of the program decides about every spawn before anything is done
//! for the process. A [`Lifecycle`] handler runs as each process is spawned, and as it ends.
//!
//! # Exits
//!
//! A process has one [exit](Exit) with one [reason](ExitReason). The exit is delivered exactly once to each
//! [monitor](ProcessManager::monitor), after all of the process is dropped. If the reason is not a normal one,
//! [linked](ProcessManager::link) processes end as well, unless they [trap](ProcessContext::trap_links) that.
//!
//! To [cancel](ProcessManager::cancel) a process is to ask it to end: it receives a message, and is terminated after a grace
//! period. To [terminate](ProcessManager::terminate) it is to drop its future. A script or a component ends within milliseconds,
//! wherever it is. A native process ends where it next awaits something that is not ready. One that blocks its thread cannot be
//! ended from outside.

mod batch;
mod call;
mod cell;
mod context;
mod error;
mod group;
#[cfg(any(feature = "lua", feature = "wasm"))]
pub(crate) mod guest;
mod host;
mod info;
mod mailbox;
#[cfg(test)]
#[path = "mailbox/tests.rs"]
mod mailbox_tests;
mod manager;
pub(crate) mod message;
mod names;
#[cfg(any(feature = "lua", feature = "wasm"))]
pub(crate) mod pattern;
mod policy;
mod send;
mod spawn;
pub mod supervisor;
mod timer;

/// The primitives of [`mailbox`], [`host`]'s admission and the waiters of [`names`]. The model checker compiles these files with its
/// own.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(super) use std::sync::{Arc, Mutex, MutexGuard};
}

pub use self::call::{ProcessCallError, ReplyError, ReplyTo};
pub use self::cell::monitor::{Monitor, MonitorRef};
pub use self::context::ProcessContext;
pub use self::error::{ExecError, ProcessError, RegisterError, SpawnError};
pub use self::group::{GroupError, GroupId, Published};
pub use self::host::{HostConfig, HostId, HostKind};
pub use self::info::{ProcessInfo, ProcessState, ProcessTable};
pub use self::manager::{HostStopped, ManagerConfig, ProcessManager};
pub use self::message::{Destination, Exit, ExitReason, LinkDown, Message};
pub use self::names::LookupError;
pub use self::names::spawn_or_signal::Spawned;
pub use self::policy::{SPAWN_KEY, SpawnHosts, SpawnPolicy, SpawnRequest};
pub use self::send::{SendError, SendErrorReason};
pub use self::spawn::{EntryId, EntryKind, IntoProcess, Lifecycle, PROCESS, Process, ProcessRef, Spawn};
pub use self::timer::{Tick, TimerError, TimerRef};
