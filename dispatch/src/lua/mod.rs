//! Functions and processes in Lua 5.4.
//!
//! A [`LuaEngine`] makes a [`LuaFunction`] of a script, which is registered as any other. The script is run for every
//! call: `...` is the payload, and what it returns is the result.
//!
//! ```
//! use frame_dispatch::lua::{LuaConfig, LuaEngine};
//! use frame_dispatch::{Functions, Task};
//! use frame_registry::{App, Options};
//! use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let engine = LuaEngine::builder().build()?;
//! let source = "local order = ...
//!               local total = 0
//!               for _, item in ipairs(order.items) do total = total + item.price end
//!               return { total = total, of = frame.get('function') }";
//!
//! let functions = Functions::new(App::builder().build());
//! let function = engine.function("total.lua", source, LuaConfig::default())?;
//! functions.register("shop:total".parse()?, Options::new(), function)?;
//!
//! let task = Task::new("shop:total".parse()?).with_payload(json!({ "items": [{ "price": 3 }, { "price": 4 }] }));
//! assert_eq!(functions.root().call(task).await?, json!({ "total": 7, "of": "shop:total" }).into());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a script has
//!
//! Lua's own functions, except for `collectgarbage`, `dofile`, `loadfile`, `require` and `string.dump`, and its libraries,
//! except for `debug`, `io` and `package`. Of `os` there are `time` and `date`, in UTC, and `clock`, which counts from its
//! first use in the call. `load` takes text only, `setmetatable` refuses `__gc` and weak keys, and `print` and `warn` write to the log.
//! `math.random` is seeded by the operating system in every call. Scripts also have:
//!
//! | | |
//! |---|---|
//! | `call(id, payload, options)` | Calls another function, whose frame inherits from this call's, and returns its result. `options` is a table of declared options by name. A failure is raised as a table with `kind`, `message`, `retryable` and `function`. |
//! | `frame.get(name)` | The value of a [public](frame_registry::Key::public) key of this call's frame, or `nil`. |
//! | `log.info(message, fields)` | An event of `tracing`, with the function's id and PID, and `fields` as [`LogFields`](crate::LogFields); also `trace`, `debug`, `warn` and `error`. A call writes at most 10 000 lines or 1 MiB; a process as much in every ten minutes. |
//! | `null` | JSON's null inside a table, which cannot hold `nil`. |
//! | `array(t)` | Marks a table as an array, where it is empty. |
//! | `bytes(s)` | As a result or a payload: the bytes of a string, in place of JSON. |
//!
//! `error { kind = "invalid", message = "…" }` fails with another [kind](crate::ErrorKind::as_str) than `internal`.
//! An engine can have more, as [modules](LuaModule).
//!
//! # Processes
//!
//! A [`LuaFunction`] can be [started](crate::process::ProcessManager::spawn), too. The script is run once, in a VM of its
//! own, and the process is done where it returns. `log` then names the `process` in place of the function, as
//! `frame.get("process")` does. With the module [`ProcessModule`], which an engine is given or not, scripts have `process`:
//! those that are processes a mailbox, and all of them what starts processes, sends to them and ends them.
//!
//! ```
//! use frame_dispatch::Functions;
//! use frame_dispatch::lua::{LuaConfig, LuaEngine, ProcessModule};
//! use frame_dispatch::process::{HostConfig, ProcessManager, Spawn};
//! use frame_registry::{App, Options};
//! use serde_json::json;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let functions = Functions::new(App::builder().build());
//! let processes = ProcessManager::new(functions.clone());
//! processes.register_host("app:workers".parse()?, HostConfig::default())?;
//! let engine = LuaEngine::builder().module(ProcessModule::new(&processes)).build()?;
//!
//! let worker = "if ... < 3 then error('not yet') end return ...";
//! let worker = engine.function("worker.lua", worker, LuaConfig::process())?;
//! processes.register("app:worker".parse()?, Options::new(), worker)?;
//!
//! // Starts a worker again for as long as it fails.
//! let supervisor = "for attempt = 1, 10 do
//!                     process.spawn { host = 'app:workers', entry = 'app:worker', payload = attempt, monitor = true }
//!                     local exit = process.receive()
//!                     if exit.kind == 'cancelled' or exit.reason == 'normal' then return exit.result end
//!                     log.warn(exit.message)
//!                   end";
//! let supervisor = engine.function("supervisor.lua", supervisor, LuaConfig::process())?;
//! processes.register("app:supervisor".parse()?, Options::new(), supervisor)?;
//!
//! let start = Spawn::new("app:workers".parse()?, "app:supervisor".parse()?);
//! assert_eq!(processes.exec(&functions.root(), start).await?, json!(3).into());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | of a process | is bounded by |
//! |---|---|
//! | its time | [`LuaConfig::time`]: none with [`LuaConfig::process`], 30 seconds by default, after which it fails |
//! | how many there are | [`HostConfig::processes`](crate::process::HostConfig::processes), and the [pool](LuaConfig::pool) of each script |
//! | its VM | [`LuaConfig::memory`]; a message counts there once it is received |
//! | its mailbox | [`HostConfig::mailbox`](crate::process::HostConfig::mailbox) messages, which are memory of the host and in no VM: of scripts, each of [`LuaConfig::payload`] at most, and in memory no larger than what its sender had left |
//!
//! By default that is 1 024 messages of 16 MiB in each mailbox, and any script can fill its own. Where scripts are not
//! trusted, choose less: 64 messages of 256 KiB are 16 MiB.
//!
//! # What keeps it in
//!
//! A call sees nothing of another. Calls of one function share VMs, one at a time, and every call has its own globals and
//! its own copies of the libraries; a VM in which a call was ended is thrown away.
//!
//! A script runs at the speed of plain Lua. Once it has run for a millisecond or two, its thread is sent a
//! [signal](LuaEngineBuilder::signal). The handler has Lua suspend the script at its next instruction, so that other tasks get
//! the thread. There the script also ends if its call is cancelled or past its deadline, or its process is terminated; neither
//! `pcall` nor coroutines nor `__close` delay that. Lua cannot suspend a script in some places, such as a message handler, or a
//! metamethod that a library function calls. A script that stays in one is ended after 100 ms. On systems without signals,
//! scripts count their instructions instead, and take about twice the time.
//!
//! Library functions are bounded as follows. "Suspended" means that the function can be suspended midway, as a script is.
//!
//! | | what bounds it |
//! |---|---|
//! | `string.find`, `match`, `gmatch`, `gsub` | suspended; the limits of patterns are those of plain Lua |
//! | `string.rep` | the memory of the VM |
//! | `string.pack`, `packsize`, `unpack` | a format of 64 KiB |
//! | `string.format` | 10 000 values, and 1 MiB for `%q` |
//! | the other string functions, `utf8` | the length of the strings: some milliseconds for each megabyte |
//! | `table.sort` | suspended, also in a comparison function or `__lt`; stable. Up to 4 096 numbers or short strings are sorted at once |
//! | `table.insert`, `remove`, `move` | the size of the table; suspended if many elements move, or if the table has a metatable |
//! | `table.concat`, `unpack`, `pack` | the size of the table, and the stack |
//! | `load` | a source of 64 KiB, and 100 ms |
//! | `os.date` | a format of 1 KiB |
//! | recursion | the memory of the VM; the error is "stack overflow" |
//! | JSON, as payloads or text | [`LuaConfig::payload`], and the memory of the VM |
//!
//! A few operations take a single instruction, and nothing can interrupt them. The worst known are a table assignment that
//! rehashes integer keys crafted to collide (a minute), one collection of weak tables chained by their keys (15 seconds; a
//! script can still set `__mode` after `setmetatable`), and comparing two strings of NUL bytes (21 ns for each byte). A
//! [`ScriptRuntime`](crate::ScriptRuntime) is the remedy: on its threads such a script holds up only its own call, and is
//! quarantined.
//!
//! If a host or library function fails, `pcall`, `xpcall` and `__close` handlers receive the error as a string with the place
//! in the script, or as a table, as above.

mod base;
mod bridge;
mod compile;
mod config;
mod convert;
mod coroutine;
mod engine;
mod fault;
mod function;
#[cfg(all(test, unix))]
mod fuzz;
mod host;
mod module;
mod os;
mod pattern;
mod preempt;
mod process;
mod protect;
mod shared;
mod sort;
mod table;
mod text;
mod vm;
mod watch;

pub use self::config::LuaConfig;
pub use self::engine::{LuaEngine, LuaEngineBuilder, LuaError};
pub use self::function::LuaFunction;
pub use self::module::{Constant, LuaModule, ModuleBuilder, Values};
pub use self::process::ProcessModule;
pub use mlua;
