//! Conversions between processes and their WIT types.

use std::sync::Arc;

use tokio::time::Instant;
use wasmtime::component::Resource;

use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::process::guest;
use crate::process::message::in_words;
use crate::process::pattern::{MAX_PATTERN, MessageKind, Pattern};
use crate::process::supervisor::{DynamicChild, Restart};
use crate::process::{Exit, ExitReason, LinkDown, Message, MonitorRef, ReplyTo, Spawn};
use crate::wasm::bindings::frame::function::{processes, supervisors, types};
use crate::wasm::convert::{self, to_guest_within};
use crate::wasm::json::JsonBudget;

/// Converts a process to be spawned. All of its JSON together may take `json_memory` bytes.
pub(super) fn spawn(spawn: processes::Process, json_memory: usize) -> Result<Spawn, CallError> {
    let id = |error: &dyn std::error::Error| CallError::invalid(error.to_string());
    let host = spawn.host.parse().map_err(|error| id(&error))?;
    let entry = spawn.entry.parse().map_err(|error| id(&error))?;
    let mut json = JsonBudget::new(json_memory);
    let mut take = |payload, what: &str| {
        let taken = convert::from_guest_within(payload, &mut json);
        taken.map_err(|error| {
            error.into_error(&format!("{what} for a process of `{}` is", spawn.entry), ErrorKind::Invalid)
        })
    };
    let mut process = Spawn::new(host, entry).with_payload(take(spawn.payload, "the payload")?);
    for message in spawn.messages {
        process = process.with_message(take(message, "a message")?);
    }
    if let Some(text) = &spawn.options {
        process = process.with_options(convert::options(
            text,
            &format!("a process of `{}`", spawn.entry),
            &mut json,
        )?);
    }
    if let Some(name) = spawn.name {
        process = process.with_name(name);
    }
    if spawn.monitor {
        process = process.with_monitor();
    }
    if spawn.link {
        process = process.with_link();
    }
    if spawn.owned {
        process = process.with_owner();
    }
    Ok(process)
}

/// Converts a child of a dynamic supervisor. All of its JSON together may take `json_memory` bytes.
pub(super) fn child(
    child: supervisors::Child,
    supervisor: &str,
    json_memory: usize,
) -> Result<DynamicChild, CallError> {
    let mut json = JsonBudget::new(json_memory);
    let mut taken = DynamicChild::new();
    if let Some(payload) = child.payload {
        let payload = convert::from_guest_within(payload, &mut json).map_err(|error| {
            error.into_error(&format!("the payload for a child of `{supervisor}` is"), ErrorKind::Invalid)
        })?;
        taken = taken.with_payload(payload);
    }
    if let Some(options) = &child.options {
        taken =
            taken.with_options(convert::options(options, &format!("a child of `{supervisor}`"), &mut json)?);
    }
    if let Some(name) = child.name {
        taken = taken.with_name(name);
    }
    Ok(match child.restart {
        Some(supervisors::Restart::Permanent) => taken.with_restart(Restart::Permanent),
        Some(supervisors::Restart::Transient) => taken.with_restart(Restart::Transient),
        Some(supervisors::Restart::Temporary) => taken.with_restart(Restart::Temporary),
        None => taken,
    })
}

/// Converts a pattern. Its JSON may take `json_memory` bytes.
pub(super) fn pattern(pattern: processes::Pattern, json_memory: usize) -> Result<Pattern, CallError> {
    let kind = pattern.kind.map(|kind| match kind {
        processes::MessageKind::Sent => MessageKind::Sent,
        processes::MessageKind::Exited => MessageKind::Exited,
        processes::MessageKind::LinkDown => MessageKind::LinkDown,
        processes::MessageKind::Timer => MessageKind::Timer,
        processes::MessageKind::GroupChanged => MessageKind::GroupChanged,
        processes::MessageKind::Cancelled => MessageKind::Cancelled,
    });
    let payload = pattern.payload.map(|text| {
        if text.len() > MAX_PATTERN {
            let message = format!("the pattern has {} bytes, and may have {MAX_PATTERN}", text.len());
            return Err(CallError::invalid(message));
        }
        let read = JsonBudget::new(json_memory).read(&text);
        read.map_err(|error| error.into_error("the pattern is", ErrorKind::Invalid))
    });
    Ok(Pattern {
        kind,
        sender: pattern.sender.as_deref().map(guest::pid).transpose()?,
        monitor: pattern.monitor.as_deref().map(guest::monitor_ref).transpose()?,
        payload: payload.transpose()?,
        timer: None,
    })
}

/// Converts a received message, whose payload may have `longest` bytes. `keep` stores the handle for a reply.
pub(super) fn message(
    message: Message,
    longest: usize,
    keep: impl FnOnce(ReplyTo) -> Option<Resource<ReplyTo>>,
) -> Result<processes::Message, CallError> {
    Ok(match message {
        Message::Sent { from, payload, reply } => {
            let sender = from.map(|pid| pid.to_string());
            let payload = to_guest_within(payload, longest).map_err(|_too_large| {
                let from = sender.as_deref().map_or_else(String::new, |sender| format!(" from {sender}"));
                too_large(&format!("a message{from} was"), longest)
            })?;
            let reply = reply.and_then(keep);
            processes::Message::Sent(processes::Sent { sender, payload, reply })
        }
        Message::Exited { monitor, exit } => {
            processes::Message::Exited(self::exit(*exit, Some(monitor), longest))
        }
        Message::LinkDown(exit) => processes::Message::LinkDown(self::exit(*exit, None, longest)),
        Message::Timer(tick) => {
            let payload = to_guest_within(tick.payload, longest)
                .map_err(|_too_large| too_large("the payload of a timer is", longest))?;
            let timer = tick.timer.to_string();
            processes::Message::Timer(processes::Tick { timer, payload, missed: tick.missed })
        }
        Message::GroupChanged(group) => processes::Message::GroupChanged(processes::Group {
            host: group.host().to_string(),
            name: group.name().to_owned(),
        }),
        Message::Cancelled { reason, deadline } => {
            let grace = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let grace_ms = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
            processes::Message::Cancelled(processes::Cancellation { reason: reason.to_string(), grace_ms })
        }
    })
}

/// Returns the error for a payload that is too large for a guest.
pub(super) fn too_large(what: &str, longest: usize) -> CallError {
    let message = format!("{what} larger than the {longest} bytes that this component is handed at once");
    CallError::new(ErrorKind::Exhausted, message).with_retryable(false)
}

fn exit(exit: Exit, monitor: Option<MonitorRef>, longest: usize) -> processes::Exit {
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
        monitor: monitor.map(|monitor| monitor.to_string()),
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

/// Converts the result of [`exec`](crate::process::ProcessManager::exec).
pub(super) fn result(payload: Payload, longest: usize) -> Result<types::Payload, CallError> {
    to_guest_within(payload, longest).map_err(|_too_large| too_large("the result of the process is", longest))
}

/// Converts the reply to a call.
pub(super) fn reply(payload: Payload, longest: usize) -> Result<types::Payload, CallError> {
    to_guest_within(payload, longest).map_err(|_too_large| too_large("the reply is", longest))
}
