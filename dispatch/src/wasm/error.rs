//! The errors of engines and components, and the failures of calls whose guest did not return a result.

use std::path::PathBuf;

use frame_registry::text;
use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::limits::Limits;
use crate::error::{CallError, ErrorKind};

/// An engine was not built, or a component was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WasmError {
    /// This machine cannot run an engine of this configuration.
    #[error("the engine cannot be made: {reason}")]
    Engine {
        /// What is wrong.
        reason: String,
    },
    /// A [`HostModule`](super::HostModule) could not be linked.
    #[error("a host module cannot be linked: {reason}")]
    Module {
        /// What is wrong.
        reason: String,
    },
    /// The directory for compiled components cannot be used.
    #[error("compiled components cannot be kept in `{}`: {reason}", path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The bytes are something else.
    #[error("not a WebAssembly component: {found}")]
    NotAComponent {
        /// What they are.
        found: &'static str,
    },
    /// It is a component, and not a valid one, or larger than the engine allows.
    #[error("the component cannot be compiled: {reason}")]
    Compile {
        /// What is wrong.
        reason: String,
    },
    /// It would take more work to compile than the [limits](super::ComponentLimits) of the engine allow.
    #[error("the component is not compiled: it has more than {limit} {what}, which is the limit `{setting}`")]
    TooComplex {
        /// What it has too many of.
        what: &'static str,
        /// The name of the limit.
        setting: &'static str,
        /// How many it may have.
        limit: u64,
    },
    /// It imports an interface that neither the engine nor a module has.
    #[error("the component imports what is not there: {reason}")]
    Import {
        /// Which import, and what is wrong with it.
        reason: String,
    },
    /// It does not export what a function exports.
    #[error(
        "the component is not a function: {reason}; it must export `run` as in the world `frame:function/function`"
    )]
    Export {
        /// What is wrong.
        reason: String,
    },
    /// It needs more than the function may use, before it even runs.
    #[error("the component starts with {needed} {what}, and the function may have {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much it starts with.
        needed: u64,
        /// How much there may be.
        limit: u64,
    },
}

/// How many of the functions on the guest's stack an error names, and how many bytes of each name: both are the guest's to
/// choose.
const FRAMES: usize = 3;
const LONGEST_NAME: usize = 80;

/// How many bytes an error keeps of all that wasmtime says, which has names of the guest in it, too.
const LONGEST_SOURCE: usize = 1024;

/// What wasmtime says where a guest hands over more than its store allows. The type of the error is wasmtime's own.
const TOO_MUCH_DATA: &str = "fuel allocated for hostcalls has been exhausted";

/// The failure of a call whose guest ended with `error`.
pub(crate) fn guest_failure(error: &wasmtime::Error, limits: &Limits, payload: usize) -> CallError {
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
pub(crate) fn resource_failure(limits: &Limits) -> Option<CallError> {
    limits.is_exceeded().then(|| exhausted(limits.host_memory().to_string()))
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
