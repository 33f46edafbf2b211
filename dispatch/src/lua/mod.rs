//! Functions in Lua 5.4.
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
//! Lua's own functions, but for `collectgarbage`, `dofile`, `loadfile`, `require` and `string.dump`, and its libraries,
//! but for `debug`, `io`, `os` and `package`; `load` takes text only, `setmetatable` no `__gc`, and `print` and `warn` go
//! to the log. And:
//!
//! | | |
//! |---|---|
//! | `call(id, payload, options)` | Calls another function, whose frame inherits from this call's, and returns its result. `options` is a table of declared options by name. A failure is raised as a table with `kind`, `message`, `retryable` and `function`. |
//! | `frame.get(name)` | The value of a [public](frame_registry::Key::public) key of this call's frame, or `nil`. |
//! | `log.info(message, fields)` | An event of `tracing`, with the function's id and PID; also `trace`, `debug`, `warn` and `error`. |
//! | `null` | JSON's null inside a table, which cannot hold `nil`. |
//! | `array(t)` | Marks a table as an array, where it is empty. |
//! | `bytes(s)` | As a result or a payload: the bytes of a string, in place of JSON. |
//!
//! `error { kind = "invalid", message = "…" }` fails with another [kind](crate::ErrorKind::as_str) than `internal`.
//! An engine can have more, as [modules](LuaModule).
//!
//! # What keeps it in
//!
//! A call sees nothing of another. Calls of one function share VMs, one at a time, and every call has its own globals and
//! its own copies of the libraries; a VM in which a call was ended is thrown away.
//!
//! A script is suspended every millisecond that it runs, so that others get the thread, and that is where cancelling
//! and the deadline end it: `pcall`, coroutines and `__close` hold nothing up. Where Lua cannot suspend it (in a message
//! handler, or a metamethod that a library function calls) it is ended after 200 ms. Memory is limited, and so is the work
//! that one call of a library function does.
//!
//! One instruction cannot be interrupted, and one can do much: comparing two strings of many NUL bytes takes about 21 ns
//! for each of them. In the worst case known, 28 comparisons of strings of 16 MB that one concatenation made, a script
//! with the default [memory](LuaConfig::memory) ends about ten seconds late, and holds its thread up for as long. Half
//! the memory halves that.
//!
//! Where a function of the host or of a library fails, `pcall` and `xpcall` give the error as a string or a table, as
//! above. A `__close` handler is given it as it is raised: as a userdata, whose text has the host's traceback.

mod config;
mod convert;
mod engine;
mod fault;
mod function;
mod hook;
mod host;
mod module;
mod pattern;
mod text;
mod vm;
mod watch;

pub use self::config::LuaConfig;
pub use self::engine::{LuaEngine, LuaEngineBuilder, LuaError};
pub use self::function::LuaFunction;
pub use self::module::{Constant, LuaModule, ModuleBuilder};
pub use mlua;
