//! A process that does what it is told, and reports what it hears.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use frame_dispatch::process::{
    Destination, ExitReason, LinkDown, Message, MonitorRef, ProcessContext, ProcessError, SendError,
    SendErrorReason, Spawn, SpawnError,
};
use frame_dispatch::{CallError, ErrorKind, Payload, Pid};
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;

use crate::operation::{Ending, OnCancel};

pub(crate) const FAILED: &str = "it fails, as it was told";
pub(crate) const SAID_CANCELLED: &str = "it says that it is cancelled";
pub(crate) const PANICKED: &str = "it panics, as it was told";

/// Why a process ended, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    Normal,
    Failed(String),
    Panicked(String),
    Cancelled(String),
    Killed,
    LinkDown(Pid, Box<Why>),
    HostStopped,
}

impl Why {
    pub(crate) fn of(reason: &ExitReason) -> Self {
        match reason {
            ExitReason::Normal => Self::Normal,
            ExitReason::Failed(error) => Self::Failed(error.to_string()),
            ExitReason::Panicked(message) => Self::Panicked(message.to_string()),
            ExitReason::Cancelled(reason) => Self::Cancelled(reason.to_string()),
            ExitReason::Killed => Self::Killed,
            ExitReason::LinkDown(LinkDown { origin, reason, .. }) => {
                Self::LinkDown(*origin, Box::new(Self::of(reason)))
            }
            ExitReason::HostStopped => Self::HostStopped,
            other => panic!("a reason that the model does not have: {other}"),
        }
    }
}

/// What a process receives, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Sent {
        from: Option<Pid>,
        value: u64,
    },
    /// Which of several monitors of a process delivers its exit first is not laid down, so that is left out where it is compared.
    Exited {
        pid: Pid,
        why: Why,
        has_result: bool,
        monitor: Option<MonitorRef>,
    },
    LinkDown {
        pid: Pid,
        why: Why,
    },
    Cancelled {
        reason: String,
    },
}

/// Why something was refused, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    Unknown,
    Ended(Why),
    Itself,
    NameTaken(Pid),
    HostFull,
    SendToEnded,
}

impl From<ProcessError> for Refusal {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::Unknown { .. } => Self::Unknown,
            ProcessError::Ended { exit } => Self::Ended(Why::of(&exit.reason)),
            ProcessError::Itself { .. } => Self::Itself,
            ProcessError::NameTaken { holder, .. } => Self::NameTaken(holder),
            other => panic!("{other}"),
        }
    }
}

impl From<SpawnError> for Refusal {
    fn from(error: SpawnError) -> Self {
        match error {
            SpawnError::NameTaken { holder, .. } => Self::NameTaken(holder),
            SpawnError::HostFull { .. } => Self::HostFull,
            other => panic!("{other}"),
        }
    }
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        match error.reason {
            SendErrorReason::NotFound => Self::Unknown,
            SendErrorReason::Ended => Self::SendToEnded,
            other => panic!("{other}"),
        }
    }
}

/// What a process is told to do.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// And whether that monitors.
    Start(Box<Spawn>, bool),
    Link(Pid),
    Unlink(Pid),
    Monitor(Pid),
    Demonitor(MonitorRef),
    Trap(bool),
    Deafen(bool),
    Send(Destination<'static>, u64),
    End(Ending),
}

/// What came of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Did {
    Started(Result<Pid, Refusal>),
    Outcome(Result<(), Refusal>),
    Monitored(Result<MonitorRef, Refusal>),
    Demonitored(bool),
}

#[derive(Debug)]
pub(crate) enum Report {
    Heard(Heard),
    Did(Did),
}

/// What the puppets of a history share with who pulls the strings.
#[derive(Debug)]
pub(crate) struct Strings {
    commands: Mutex<HashMap<u64, Command>>,
    next: AtomicU64,
    pub(crate) reports: UnboundedSender<(Pid, Report)>,
}

impl Strings {
    pub(crate) fn new(reports: UnboundedSender<(Pid, Report)>) -> Self {
        Self { commands: Mutex::default(), next: AtomicU64::new(0), reports }
    }

    /// The message that says so.
    pub(crate) fn tell(&self, command: Command) -> Payload {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).insert(id, command);
        Payload::Bytes(id.to_le_bytes().to_vec())
    }

    fn command(&self, payload: &Payload) -> Option<Command> {
        let id = u64::from_le_bytes(payload.as_bytes()?.try_into().ok()?);
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    fn report(&self, ctx: &ProcessContext, report: Report) {
        // Whoever wanted to know may be gone, as the runtime is dropped.
        let _ = self.reports.send((ctx.pid(), report));
    }
}

fn is_command(message: &Message) -> bool {
    matches!(message, Message::Sent { payload: Payload::Bytes(_), .. })
}

pub(crate) fn on_cancel_to_payload(on_cancel: OnCancel) -> Payload {
    let number = match on_cancel {
        OnCancel::GoOn => 0,
        OnCancel::BeDone => 1,
        OnCancel::SayCancelled => 2,
        OnCancel::Fail => 3,
    };
    json!(number).into()
}

fn on_cancel(payload: &Payload) -> OnCancel {
    let all = [OnCancel::GoOn, OnCancel::BeDone, OnCancel::SayCancelled, OnCancel::Fail];
    payload
        .as_json()
        .and_then(serde_json::Value::as_u64)
        .map_or(OnCancel::GoOn, |index| all[usize::try_from(index).expect("a small number")])
}

fn end(ending: Ending) -> Result<Payload, CallError> {
    match ending {
        Ending::Done => Ok(json!("done").into()),
        Ending::Fail => Err(CallError::new(ErrorKind::Internal, FAILED)),
        Ending::SayCancelled => Err(CallError::new(ErrorKind::Cancelled, SAID_CANCELLED)),
        Ending::Panic => panic!("{PANICKED}"),
    }
}

pub(crate) async fn puppet(
    mut ctx: ProcessContext,
    payload: Payload,
    strings: &Strings,
) -> Result<Payload, CallError> {
    let on_cancel = on_cancel(&payload);
    let mut is_deaf = false;
    let mut monitors = HashSet::new();
    loop {
        let message = if is_deaf { ctx.receive_where(is_command).await } else { ctx.receive().await };
        let heard = match message {
            Message::Sent { payload, .. } if payload.as_bytes().is_some() => {
                let did = match strings.command(&payload).expect("a command is told once") {
                    Command::Start(start, monitor) => {
                        let started = ctx.spawn(*start).map_err(Refusal::from);
                        monitors.extend(started.iter().filter(|_| monitor).map(|pid| MonitorRef::from(*pid)));
                        Did::Started(started)
                    }
                    Command::Link(pid) => Did::Outcome(ctx.link(pid).map_err(Refusal::from)),
                    Command::Unlink(pid) => {
                        ctx.unlink(pid);
                        Did::Outcome(Ok(()))
                    }
                    Command::Monitor(pid) => {
                        let monitored = ctx.monitor(pid).map_err(Refusal::from);
                        if let Ok(monitor) = &monitored {
                            assert!(monitors.insert(*monitor), "{monitor} was made twice");
                        }
                        Did::Monitored(monitored)
                    }
                    Command::Demonitor(monitor) => {
                        let is_ended = ctx.demonitor(monitor);
                        assert_eq!(is_ended, monitors.remove(&monitor), "{monitor}");
                        Did::Demonitored(is_ended)
                    }
                    Command::Trap(traps) => {
                        ctx.trap_links(traps);
                        Did::Outcome(Ok(()))
                    }
                    Command::Deafen(deafen) => {
                        is_deaf = deafen;
                        Did::Outcome(Ok(()))
                    }
                    Command::Send(to, value) => {
                        Did::Outcome(ctx.send(to, json!(value)).await.map_err(Refusal::from))
                    }
                    Command::End(ending) => return end(ending),
                };
                strings.report(&ctx, Report::Did(did));
                continue;
            }
            Message::Sent { from, payload, .. } => {
                let value = payload.as_json().and_then(serde_json::Value::as_u64).expect("a number");
                Heard::Sent { from, value }
            }
            Message::Exited { monitor, exit } => {
                assert!(monitors.remove(&monitor), "{monitor} delivers an exit, and is no monitor");
                assert_eq!(monitor.pid(), exit.pid);
                let (why, has_result) = (Why::of(&exit.reason), exit.result.is_some());
                Heard::Exited { pid: exit.pid, why, has_result, monitor: None }
            }
            Message::LinkDown(exit) => Heard::LinkDown { pid: exit.pid, why: Why::of(&exit.reason) },
            Message::Cancelled { reason, .. } => Heard::Cancelled { reason: reason.to_string() },
            other => panic!("a message that the model does not have: {other:?}"),
        };
        let is_cancelled = matches!(heard, Heard::Cancelled { .. });
        strings.report(&ctx, Report::Heard(heard));
        match on_cancel {
            OnCancel::BeDone if is_cancelled => return end(Ending::Done),
            OnCancel::SayCancelled if is_cancelled => return end(Ending::SayCancelled),
            OnCancel::Fail if is_cancelled => return end(Ending::Fail),
            _ => (),
        }
    }
}
