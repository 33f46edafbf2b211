//! Errors between Lua and the host.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlua::{AnyUserData, Function, IntoLua, Lua, Table, UserData, Value};

use super::convert;
use super::shared::Shared;
use super::watch::{CallEnded, Watch};
use crate::error::{CallError, Cause, ErrorKind, shorten_message};

/// What Lua says when an allocation was refused.
pub(super) const OUT_OF_MEMORY: &str = "not enough memory";

/// A failed call, kept behind the table that a script sees of it.
struct Failure {
    error: Arc<CallError>,
    /// How much memory it takes that Lua does not count, and what all of a VM take.
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl UserData for Failure {}

impl Drop for Failure {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The failed calls that a VM keeps.
pub(super) struct Failures {
    /// How much memory they take that Lua does not count.
    bytes: Arc<AtomicUsize>,
    /// What shows one as its text.
    text: Function,
}

impl Failures {
    pub(super) fn new(lua: &Lua) -> mlua::Result<Self> {
        let text = lua.create_function(|_, table: Table| {
            Ok(failure(&table).map_or_else(|| "error".to_owned(), |error| error.to_string()))
        })?;
        Ok(Self { bytes: Arc::default(), text })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// One more.
    fn keep(&self, error: Arc<CallError>, bytes: usize) -> Failure {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Failure { error, bytes, all: Arc::clone(&self.bytes) }
    }
}

/// The failed call that is behind a table.
fn failure(table: &Table) -> Option<Arc<CallError>> {
    let failure: AnyUserData = table.metatable()?.raw_get("failure").ok()?;
    failure.borrow::<Failure>().map(|it| Arc::clone(&it.error)).ok()
}

/// About how much memory a failed call takes, with what caused it.
pub(super) fn bytes(error: &CallError) -> usize {
    /// Counts what is written.
    struct Length(usize);

    impl fmt::Write for Length {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.len();
            Ok(())
        }
    }

    // What each takes besides its text.
    const OWN: usize = 512;
    let mut length = Length(0);
    let mut next: Option<&dyn Error> = Some(error);
    while let Some(error) = next {
        let _ = write!(length, "{error}");
        length.0 += OWN;
        next = error.source();
    }
    length.0
}

/// Where an error that ended a script was raised.
#[derive(Debug)]
struct Trace(String);

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Trace {}

/// Raises a failed call in a script, with what caused it.
pub(super) fn raise(error: CallError) -> mlua::Error {
    mlua::Error::external(Cause(Arc::new(error.shortened())))
}

/// Raises the failure of a function that a script called, as it is.
pub(super) fn pass_on(error: CallError) -> mlua::Error {
    mlua::Error::external(Cause(Arc::new(error)))
}

/// The value that a script sees of a failed call: a table with its kind, its message, whether it is worth a retry and
/// the function that failed, which shows as its text.
pub(super) fn give(lua: &Lua, shared: &Shared, error: Arc<CallError>) -> mlua::Result<Value> {
    let bytes = bytes(&error);
    if !shared.fits(lua, bytes) {
        return Err(out_of_memory());
    }
    let table = lua.create_table_with_capacity(0, 4)?;
    table.raw_set("kind", error.kind().as_str())?;
    table.raw_set("message", error.message())?;
    table.raw_set("retryable", error.is_retryable())?;
    table.raw_set("function", error.function().map(ToString::to_string))?;
    let metatable = lua.create_table_with_capacity(0, 3)?;
    metatable.raw_set("__metatable", "error")?;
    metatable.raw_set("__tostring", &shared.failures.text)?;
    metatable.raw_set("failure", lua.create_userdata(shared.failures.keep(error, bytes))?)?;
    table.set_metatable(Some(metatable))?;
    Ok(Value::Table(table))
}

/// What a script sees of an error that it caught: never one of the host's own kind, and none at all once its call is
/// over.
pub(super) fn recover(lua: &Lua, shared: &Shared, value: Value) -> mlua::Result<Value> {
    let watch = &shared.watch;
    if watch.is_ended() {
        return Err(mlua::Error::external(CallEnded));
    }
    match value {
        Value::Error(error) => {
            if is_memory(&error) {
                watch.note_exhausted();
                return OUT_OF_MEMORY.into_lua(lua);
            }
            match call_error(&error) {
                Some(error) => give(lua, shared, error),
                None => message(&error).into_lua(lua),
            }
        }
        Value::String(text) => {
            if text.as_bytes() == OUT_OF_MEMORY.as_bytes() {
                watch.note_exhausted();
            }
            Ok(Value::String(text))
        }
        other => Ok(other),
    }
}

/// Why a script failed, of the value that it raised.
pub(super) fn take(watch: &Watch, value: &Value) -> CallError {
    if watch.has_ended().is_some() {
        return watch.end();
    }
    let error = match value {
        Value::Error(error) => return take_error(watch, error),
        Value::String(text) if text.as_bytes() == OUT_OF_MEMORY.as_bytes() => {
            watch.note_exhausted();
            return exhausted();
        }
        Value::String(text) => CallError::new(ErrorKind::Internal, shorten_message(&text.to_string_lossy())),
        Value::Table(table) => return take_table(watch, table),
        other => CallError::new(
            ErrorKind::Internal,
            format!(
                "raised {}; raise a string, or a table with `kind` and `message`",
                convert::type_of(other)
            ),
        ),
    };
    match watch.take_trace() {
        Some(trace) => error.with_source(Trace(trace)),
        None => error,
    }
}

/// Why a script failed, of an error that the host raised in it, or Lua.
pub(super) fn take_error(watch: &Watch, error: &mlua::Error) -> CallError {
    if watch.has_ended().is_some() || error.downcast_ref::<CallEnded>().is_some() {
        return watch.end();
    }
    if is_memory(error) {
        watch.note_exhausted();
        return exhausted();
    }
    match call_error(error) {
        Some(cause) => uncaught(cause.kind(), cause.is_retryable(), &cause),
        None => CallError::new(ErrorKind::Internal, shorten_message(&message(error))),
    }
}

fn take_table(watch: &Watch, table: &Table) -> CallError {
    let field = |name: &str| table.raw_get::<Value>(name).unwrap_or(Value::Nil);
    let own_kind = field("kind");
    let kind = own_kind.as_string().and_then(|kind| ErrorKind::from_name(&kind.to_string_lossy()));
    let retryable = field("retryable").as_boolean();
    if let Some(cause) = failure(table) {
        let kind = kind.unwrap_or(cause.kind());
        return uncaught(kind, retryable.unwrap_or(cause.is_retryable()), &cause);
    }
    let mut message = match (field("message"), watch.take_text()) {
        (Value::String(message), _) => shorten_message(&message.to_string_lossy()),
        (_, Some(text)) => shorten_message(&text),
        (_, None) => {
            "raised a table without a `message`; raise a string, or a table with `kind` and `message`"
                .to_owned()
        }
    };
    if let (None, Value::String(unknown)) = (kind, &own_kind) {
        let unknown = shorten_message(&unknown.to_string_lossy());
        let kinds = ErrorKind::ALL.map(ErrorKind::as_str).join(", ");
        message = format!("{message} (raised with the unknown kind {unknown:?}; the kinds are {kinds})");
    }
    let error = CallError::new(kind.unwrap_or(ErrorKind::Internal), message);
    match retryable {
        Some(retryable) => error.with_retryable(retryable),
        None => error,
    }
}

/// The error that a value is, which the host raised or Lua.
pub(super) fn raised(value: Value) -> mlua::Error {
    match value {
        Value::Error(error) => *error,
        Value::String(text) if text.as_bytes() == OUT_OF_MEMORY.as_bytes() => out_of_memory(),
        Value::String(text) => mlua::Error::runtime(text.to_string_lossy()),
        other => mlua::Error::runtime(format!("raised {}", convert::type_of(&other))),
    }
}

/// The failure of a script that did not catch another.
fn uncaught(kind: ErrorKind, is_retryable: bool, cause: &Arc<CallError>) -> CallError {
    let Some(function) = cause.function() else {
        // It says of the script what it said of what the script asked for.
        return CallError::clone(cause).with_kind(kind).with_retryable(is_retryable);
    };
    let message = format!("a call of `{function}` failed, and the script did not catch it");
    // The first is what is to be looked into. A chain of all in between could be long: scripts hand failures on to others.
    let first = match cause.source().and_then(|source| source.downcast_ref()) {
        Some(Cause(first)) => first,
        None => cause,
    };
    CallError::new(kind, message).with_retryable(is_retryable).with_source(Cause(Arc::clone(first)))
}

/// The limit is one of each VM, so that the same call would reach it again.
pub(super) fn exhausted() -> CallError {
    CallError::new(ErrorKind::Exhausted, "the script ran out of memory").with_retryable(false)
}

pub(super) fn out_of_memory() -> mlua::Error {
    mlua::Error::MemoryError(OUT_OF_MEMORY.to_owned())
}

/// What a script is told that was to be given more than it has room for.
pub(super) fn no_room(name: &str) -> CallError {
    let message = format!("{name} does not fit into the memory that the script has left");
    CallError::new(ErrorKind::Exhausted, message).with_retryable(false)
}

fn is_memory(error: &mlua::Error) -> bool {
    error.chain().any(|error| matches!(error.downcast_ref(), Some(mlua::Error::MemoryError(_))))
}

/// The failed call that a host function reports.
fn call_error(error: &mlua::Error) -> Option<Arc<CallError>> {
    match error {
        mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } => {
            call_error(cause)
        }
        mlua::Error::ExternalError(error) => {
            if let Some(Cause(error)) = error.downcast_ref() {
                return Some(Arc::clone(error));
            }
            error.downcast_ref::<CallError>().map(|error| Arc::new(error.clone()))
        }
        _ => None,
    }
}

/// Without the host's own stack, and with the place in the script, as Lua's own errors have it.
fn message(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { traceback, cause } => {
            let message = message(cause);
            match place(traceback) {
                Some(place) => format!("{place}: {message}"),
                None => message,
            }
        }
        mlua::Error::RuntimeError(message) => message.clone(),
        mlua::Error::BadArgument { to, pos, name: _, cause } => {
            let to = to.as_deref().unwrap_or("?");
            format!("bad argument #{pos} to '{to}' ({})", message(cause))
        }
        mlua::Error::FromLuaConversionError { from, to, .. } => {
            let expected = match to.as_str() {
                "f32" | "f64" => "number",
                "i8" | "i16" | "i32" | "i64" | "isize" | "u8" | "u16" | "u32" | "u64" | "usize" => "integer",
                other => &other.to_lowercase(),
            };
            format!("{expected} expected, got {}", if *from == "nil" { "no value" } else { from })
        }
        other => other.to_string(),
    }
}

/// The first place in a traceback that is in a script: `name:line`. `mlua` waits for futures in a chunk without a name.
fn place(traceback: &str) -> Option<&str> {
    let mut places = traceback.lines().filter_map(|line| line.strip_prefix('\t'));
    let line =
        places.find(|line| !["[C]", "[string \"?\"]", "..."].iter().any(|own| line.starts_with(own)))?;
    let (place, _) = line.split_once(": in ")?;
    Some(place)
}
