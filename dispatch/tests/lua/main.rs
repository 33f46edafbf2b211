//! Functions in Lua, from the outside.

mod conversion;
mod coroutines;
mod errors;
mod host;
mod isolation;
mod libraries;
mod limits;
mod logging;
mod modules;
mod patterns;
mod processes;
mod support;
