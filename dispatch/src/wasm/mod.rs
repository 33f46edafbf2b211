//! Functions and processes that are WebAssembly components.
//!
//! A [`WasmEngine`] makes a [`WasmFunction`] of a component, which is registered as any other function is. The component
//! is one of the world `frame:function/function`, in `wit/function.wit`: it exports `run`, and can import
//!
//! | interface | what for |
//! |---|---|
//! | `frame:function/functions` | calls other functions, with frames that inherit from that of the call |
//! | `frame:function/frame` | reads [public](frame_registry::Key::public) keys of the frame |
//! | `frame:function/log` | writes to the log: at most 10 000 lines or 1 MiB a call, then no more; a process as much each ten minutes |
//! | WASI 0.2 | with nothing of the host but its clocks and randomness: no arguments, environment, directories, sockets or names. What is written to standard output and error goes to the log, and counts there |
//!
//! and whatever a [`HostModule`] adds.
//!
//! Components are not trusted. Every call runs in an instance of its own, which starts as the component says and of which
//! nothing is left behind it; what it may use is in its [`WasmConfig`]. A guest lets other tasks of its thread run every
//! few milliseconds, wherever it is, and is ended there when the call is: by its deadline, by a cancellation, by
//! dropping the call. A trap, a limit, a host module that panics are the failure of the call alone.
//!
//! ```
//! use frame_dispatch::wasm::{WasmConfig, WasmEngine};
//! use frame_dispatch::{Functions, Task};
//! use frame_registry::{App, Options};
//! use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! # let echo = frame_guests::guest("echo");
//! let engine = WasmEngine::new()?;
//! let functions = Functions::new(App::builder().build());
//! functions.register("app:echo".parse()?, Options::new(), engine.function(&echo, WasmConfig::default())?)?;
//!
//! let task = Task::new("app:echo".parse()?).with_payload(json!({ "hello": "world" }));
//! assert_eq!(functions.root().call(task).await?.as_json(), Some(&json!({ "hello": "world" })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Processes
//!
//! A [`WasmFunction`] is a [process](crate::process), too: one of the world `frame:function/process`, in `wit/process.wit`,
//! imports `frame:function/processes` beside the others, where the engine has the [`ProcessModule`]. There it receives
//! messages, sends them, and starts, monitors, links and ends processes; that has an example. Its `run` is given what the
//! process is started with, and the process ends when it returns.
//!
//! What suits one is [`WasmConfig::process`]. It has the budgets of a call, for as long as it lives: the memory that it has
//! is all that it ever gets, and it takes one of the engine's [instances](WasmEngineBuilder::instances). What may grow
//! with its age is by time, as the log is, or by what it does at once, as payloads are. While it waits for a message it
//! takes no time of any processor.
//!
//! [Terminating](crate::process::ProcessManager::terminate) it ends it within milliseconds, also in a loop that never
//! ends. A trap is a failure of the kind [`Internal`](crate::ErrorKind::Internal), a limit one of the kind
//! [`Exhausted`](crate::ErrorKind::Exhausted); monitors receive it.

mod cache;
mod config;
mod convert;
mod engine;
mod epoch;
mod error;
mod function;
mod host;
mod inspect;
mod json;
mod limits;
mod process;
mod state;
mod wasi;

pub use wasmtime;
pub use wasmtime_wasi;

pub use self::config::{ComponentLimits, WasmConfig};
pub use self::engine::{WasmEngine, WasmEngineBuilder};
pub use self::error::WasmError;
pub use self::function::WasmFunction;
pub use self::host::HostModule;
pub use self::process::ProcessModule;
pub use self::state::{GuestState, Weigher};

/// The worlds of `wit`, as wasmtime calls them: that of processes, which contains that of functions.
mod bindings {
    wasmtime::component::bindgen!({
        world: "frame:function/process",
        path: "wit",
        imports: {
            "frame:function/functions.call": async | trappable,
            "frame:function/processes.receive": async | trappable,
            "frame:function/processes.receive-matching": async | trappable,
            "frame:function/processes.call": async | trappable,
            "frame:function/processes.send": async | trappable,
            "frame:function/processes.spawn-or-signal": async | trappable,
            "frame:function/processes.exec": async | trappable,
            "frame:function/supervisors.start-child": async | trappable,
            "frame:function/supervisors.stop-child": async | trappable,
            "frame:function/processes.lookup": async | trappable,
            "frame:function/groups.publish": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: { "frame:function/processes.reply-to": crate::process::ReplyTo },
        require_store_data_send: true,
    });
}
