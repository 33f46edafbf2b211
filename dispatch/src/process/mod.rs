//! Long-running processes, with mailboxes.
//!
//! A [`ProcessManager`] starts them: a process is something [registered](ProcessManager::register) that runs on a
//! [host](HostConfig), with a frame that is made as that of a function is. It lives there until it is done, fails, or is
//! ended; whoever started it may be gone by then. It is known by its [`Pid`](crate::Pid), which is never given twice, and by
//! names.
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
//! // Adds up what it is sent, until it is cancelled.
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
//! processes.cancel(pid, "that is all", Duration::from_secs(5))?;
//! assert_eq!(exit.await.result.as_deref(), Some(&json!(42).into()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Calls
//!
//! To [call](ProcessManager::call) a process is to send it a request and wait for its [reply](Message::reply). The reply does not
//! go through a mailbox.
//!
//! # Timers and groups
//!
//! A process sends messages to itself [later](ProcessContext::send_after) or [again and again](ProcessContext::send_every), as
//! [`Message::Timer`]. A message can be [published](ProcessManager::publish) to all processes that have
//! [joined](ProcessManager::join) a group. A process that is not there yet is waited for by its
//! [name](ProcessManager::lookup).
//!
//! # Who may start what
//!
//! A host [limits](HostConfig) what lives on it. A [`SpawnPolicy`] of the program decides about every start before anything is
//! done for the process, and a [`Lifecycle`] handler takes part in those that are made.
//!
//! # How a process ends
//!
//! Its [exit](Exit) has one [reason](ExitReason), and everyone who [monitors](ProcessManager::monitor) it is told of that
//! exactly once, when all of it is dropped. Where the reason is not a normal one the processes that it is
//! [linked](ProcessManager::link) to end as well, unless they [trap](ProcessContext::trap_links) that.
//!
//! To [cancel](ProcessManager::cancel) a process is to ask it: it receives a message, and is terminated after a grace
//! period. To [terminate](ProcessManager::terminate) it is to drop its future. A script or a component is ended within
//! milliseconds, wherever it is; a native process where it next awaits something that is not ready. One that blocks its
//! thread cannot be ended from outside.

mod admission;
mod batch;
mod call;
pub(crate) mod cell;
#[cfg(any(feature = "lua", feature = "wasm"))]
mod children;
mod config;
mod context;
mod entry;
mod error;
pub(crate) mod exit;
mod group;
#[cfg(any(feature = "lua", feature = "wasm"))]
pub(crate) mod guest;
mod host;
mod info;
mod lifecycle;
mod lookup;
mod mailbox;
#[cfg(test)]
mod mailbox_tests;
mod manager;
mod message;
mod monitor;
mod monitoring;
mod name_waiters;
mod names;
mod owner;
#[cfg(any(feature = "lua", feature = "wasm"))]
pub(crate) mod pattern;
mod policy;
mod recent;
mod relations;
mod send;
mod signal;
mod spawn;
mod spawn_hosts;
mod stop;
pub mod supervisor;
mod sync;
mod timer;
mod turns;

pub use self::call::{ProcessCallError, ReplyError, ReplyTo};
pub use self::config::ManagerConfig;
pub use self::context::ProcessContext;
pub use self::entry::{EntryId, EntryKind, IntoProcess, Process};
pub use self::error::{ExecError, ProcessError, RegisterError, SendError, SendErrorReason, SpawnError};
pub use self::exit::{Exit, ExitReason, LinkDown};
pub use self::group::{GroupError, GroupId, Published};
pub use self::host::{HostConfig, HostId, HostKind};
pub use self::info::{ProcessInfo, ProcessState, ProcessTable};
pub use self::lifecycle::{Lifecycle, ProcessRef};
pub use self::lookup::LookupError;
pub use self::manager::ProcessManager;
pub use self::message::{Destination, Message};
pub use self::monitor::{Monitor, MonitorRef};
pub use self::policy::{SpawnPolicy, SpawnRequest};
pub use self::spawn::{PROCESS, Spawn, Spawned};
pub use self::spawn_hosts::{SPAWN_KEY, SpawnHosts};
pub use self::stop::HostStopped;
pub use self::timer::{Tick, TimerError, TimerRef};
