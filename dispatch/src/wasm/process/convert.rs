//! What guests say of processes and are told of them.

use std::sync::Arc;

use frame_registry::Options;
use tokio::time::Instant;

use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::process::exit::in_words;
use crate::process::{Exit, ExitReason, LinkDown, Message, Start};
use crate::wasm::bindings::frame::function::{processes, types};
use crate::wasm::convert::{self, to_guest_within};
use crate::wasm::json::Budget;

/// What a guest wants to start. All the JSON in it may take `json_memory` bytes together.
pub(super) fn start(start: processes::Process, json_memory: usize) -> Result<Start, CallError> {
    let id = |error: &dyn std::error::Error| CallError::invalid(error.to_string());
    let host = start.host.parse().map_err(|error| id(&error))?;
    let entry = start.entry.parse().map_err(|error| id(&error))?;
    let mut json = Budget::new(json_memory);
    let mut take = |payload, what: &str| {
        let taken = convert::from_guest_within(payload, &mut json);
        taken.map_err(|error| {
            error.into_error(&format!("{what} for a process of `{}` is", start.entry), ErrorKind::Invalid)
        })
    };
    let mut process = Start::new(host, entry).with_payload(take(start.payload, "the payload")?);
    for message in start.messages {
        process = process.with_message(take(message, "a message")?);
    }
    if let Some(text) = &start.options {
        process = process.with_options(options(text, &start.entry, &mut json)?);
    }
    if let Some(name) = start.name {
        process = process.with_name(name);
    }
    if start.monitor {
        process = process.with_monitor();
    }
    if start.link {
        process = process.with_link();
    }
    Ok(process)
}

fn options(text: &str, entry: &str, json: &mut Budget) -> Result<Options, CallError> {
    convert::options(text, &format!("a process of `{entry}`"), json)
}

/// What a process received, of which a payload may have `longest` bytes.
pub(super) fn message(message: Message, longest: usize) -> Result<processes::Message, CallError> {
    Ok(match message {
        Message::Sent { from, payload } => {
            let sender = from.map(|pid| pid.to_string());
            let payload = to_guest_within(payload, longest).map_err(|_too_large| {
                let from = sender.as_deref().map_or_else(String::new, |sender| format!(" from {sender}"));
                too_large(&format!("a message{from} was"), longest)
            })?;
            processes::Message::Sent(processes::Sent { sender, payload })
        }
        Message::Exited(exit) => processes::Message::Exited(self::exit(exit, longest)),
        Message::LinkDown(exit) => processes::Message::LinkDown(self::exit(exit, longest)),
        Message::Cancelled { reason, deadline } => {
            let grace = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let grace_ms = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
            processes::Message::Cancelled(processes::Cancellation { reason: reason.to_string(), grace_ms })
        }
    })
}

/// The failure of a host function whose payload is more than a guest is handed at once.
pub(super) fn too_large(what: &str, longest: usize) -> CallError {
    let message = format!("{what} larger than the {longest} bytes that this component is handed at once");
    CallError::new(ErrorKind::Exhausted, message).with_retryable(false)
}

fn exit(exit: Exit, longest: usize) -> processes::Exit {
    let (error, origin) = match &exit.reason {
        ExitReason::Failed(error) => (Some((&**error).into()), None),
        ExitReason::LinkDown(LinkDown { origin, .. }) => (None, Some(origin.to_string())),
        _ => (None, None),
    };
    let result = exit.result.and_then(|result| to_guest_within(Arc::unwrap_or_clone(result), longest).ok());
    processes::Exit {
        process: exit.pid.to_string(),
        reason: reason(&exit.reason),
        message: in_words(&exit.reason),
        error,
        origin,
        result,
    }
}

fn reason(reason: &ExitReason) -> processes::ExitReason {
    match reason {
        ExitReason::Normal => processes::ExitReason::Normal,
        ExitReason::Failed(_) => processes::ExitReason::Failed,
        ExitReason::Panicked(_) => processes::ExitReason::Panicked,
        ExitReason::Cancelled(_) => processes::ExitReason::Cancelled,
        ExitReason::Killed => processes::ExitReason::Killed,
        ExitReason::LinkDown(_) => processes::ExitReason::LinkDown,
        ExitReason::HostStopped => processes::ExitReason::HostStopped,
    }
}

/// What came of [`exec`](crate::process::ProcessManager::exec).
pub(super) fn result(payload: Payload, longest: usize) -> Result<types::Payload, CallError> {
    to_guest_within(payload, longest)
        .map_err(|_too_large| too_large("what the process gave back is", longest))
}
