//! What a call fails with where its guest gave no result.

use frame_registry::text;
use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::limits::Limits;
use crate::error::{CallError, ErrorKind};

/// How many of the functions on the guest's stack an error names, and how many bytes of each name: both are the guest's to
/// choose.
const FRAMES: usize = 3;
const LONGEST_NAME: usize = 80;

/// How many bytes an error keeps of all that wasmtime says, which has names of the guest in it, too.
const LONGEST_SOURCE: usize = 1024;

/// What wasmtime says where a guest hands over more than its store allows. The type of the error is wasmtime's own.
const TOO_MUCH_DATA: &str = "fuel allocated for hostcalls has been exhausted";

/// The failure of a call whose guest ended with `error`.
pub(crate) fn of_guest(error: &wasmtime::Error, limits: &Limits, payload: usize) -> CallError {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return CallError::new(
            ErrorKind::Internal,
            format!("it exited with status {status}; a function returns its result"),
        );
    }
    if let Some(refused) = limits.refused() {
        let message = format!("{refused}{}", place(error));
        return exhausted(message).with_source(source(error));
    }
    if matches!(error.root_cause().downcast_ref(), Some(ResourceTableError::Full)) {
        let message = format!("{}{}", limits.host_memory(), place(error));
        return exhausted(message).with_source(source(error));
    }
    if error.root_cause().to_string().contains(TOO_MUCH_DATA) {
        let message = format!("it handed over more than the {payload} bytes it may at once{}", place(error));
        return exhausted(message).with_source(source(error));
    }
    let cause = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => text::excerpt(&error.root_cause().to_string(), LONGEST_NAME * FRAMES),
    };
    CallError::new(ErrorKind::Internal, format!("{cause}{}", place(error))).with_source(source(error))
}

/// The failure of a call whose guest returned before it could be ended, if its resources took more than they may.
pub(crate) fn of_resources(limits: &Limits) -> Option<CallError> {
    limits.is_over().then(|| exhausted(limits.host_memory().to_string()))
}

/// All that wasmtime says, as text that can be written anywhere.
fn source(error: &wasmtime::Error) -> String {
    text::excerpt(&format!("{error:#}"), LONGEST_SOURCE)
}

/// A limit that the same call reaches again.
pub(crate) fn exhausted(message: String) -> CallError {
    CallError::new(ErrorKind::Exhausted, message).with_retryable(false)
}

/// Where in the guest it was, as far as the component says.
fn place(error: &wasmtime::Error) -> String {
    let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
    let names: Vec<_> = frames
        .iter()
        .filter_map(|frame| frame.func_name())
        .take(FRAMES)
        .map(|name| format!("`{}`", text::excerpt(name, LONGEST_NAME)))
        .collect();
    if names.is_empty() { String::new() } else { format!(", in {}", names.join(" called by ")) }
}
