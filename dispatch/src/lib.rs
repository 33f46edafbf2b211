//! Where functions are spawned.
//!
//! [`Functions`] holds them by id; [`CallContext::call`] runs one, from another or from [`Functions::root`], through the
//! [interceptors](interceptor) that its options switch on. Whatever the function is, its
//! frame is made in one place (`frame.rs`): fork the caller's frame, set the function's id and a fresh PID, add
//! the task's pairs, run every resolver of the app over the merged options, seal. If a resolver refuses, the
//! function never starts. Nothing here knows any option.
//!
//! ```standalone_crate
//! use frame_dispatch::{CallContext, Functions, Json, Task};
//! use frame_registry::{App, FrameResolvers, Options};
//! use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let mut app = App::builder();
//! app.set_resolvers(FrameResolvers::linked())?;
//!
//! let functions = Functions::new(app.build());
//! functions.register("app:double".parse()?, Options::new(), async |_: CallContext, Json(number): Json<u32>| {
//!     Json(u64::from(number) * 2)
//! })?;
//!
//! let doubled = functions.root().call(Task::new("app:double".parse()?).with_payload(json!(21))).await?;
//! assert_eq!(doubled.as_json(), Some(&json!(42)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod bounds;
mod context;
mod error;
mod frame;
mod function;
mod functions;
mod gate;
pub mod handler;
pub mod interceptor;
#[cfg(any(feature = "lua", feature = "wasm"))]
mod log;
#[cfg(feature = "lua")]
pub mod lua;
mod nesting;
mod panics;
mod payload;
mod pid;
#[cfg(any(feature = "lua", feature = "wasm"))]
mod pool;
pub mod process;
#[cfg(any(feature = "lua", feature = "wasm"))]
mod script;
mod task;
#[cfg(feature = "wasm")]
pub mod wasm;

pub use futures_core::future::BoxFuture;

pub use crate::backoff::{Backoff, BackoffError};
pub use crate::context::{CallContext, Function};
pub use crate::error::{CallError, ErrorKind, FunctionsError};
pub use crate::frame::{ATTEMPT, FUNCTION, PID};
pub use crate::function::Retired;
pub use crate::functions::{Functions, FunctionsConfig, Stopped};
pub use crate::handler::IntoFunction;
pub use crate::interceptor::{Interceptor, InterceptorError, Interceptors, Next};
#[cfg(any(feature = "lua", feature = "wasm"))]
pub use crate::log::LogFields;
pub use crate::payload::{FromPayload, IntoPayload, Json, Payload};
pub use crate::pid::{FunctionId, Host, Pid, PidError};
#[cfg(any(feature = "lua", feature = "wasm"))]
pub use crate::pool::{PoolConfig, PoolStatistics};
#[cfg(any(feature = "lua", feature = "wasm"))]
pub use crate::script::{Quarantine, ScriptRuntime, ScriptRuntimeBuilder, ScriptRuntimeStatistics};
pub use crate::task::Task;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
