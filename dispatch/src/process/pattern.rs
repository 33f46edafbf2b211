//! Patterns: which messages a script or a component waits for, as data. Unlike code of a guest, a pattern can be applied to the
//! messages of waiting senders, and its cost is bounded by its size.

use serde_json::Value;

use super::cell::monitor::MonitorRef;
use super::message::Message;
use super::timer::TimerRef;
use crate::payload::Payload;
use crate::pid::Pid;

/// The most bytes of a pattern as JSON.
pub(crate) const MAX_PATTERN: usize = 4096;

/// The properties of a message. A property that is not set matches all messages.
#[derive(Debug, Default)]
pub(crate) struct Pattern {
    pub(crate) kind: Option<MessageKind>,
    /// The process that sent it or ended.
    pub(crate) sender: Option<Pid>,
    pub(crate) monitor: Option<MonitorRef>,
    pub(crate) timer: Option<TimerRef>,
    /// A value that the payload contains.
    pub(crate) payload: Option<Value>,
}

/// The kind of a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Sent,
    Exited,
    LinkDown,
    Timer,
    GroupChanged,
    Cancelled,
}

impl MessageKind {
    const fn of(message: &Message) -> Self {
        match message {
            Message::Sent { .. } => Self::Sent,
            Message::Exited { .. } => Self::Exited,
            Message::LinkDown(_) => Self::LinkDown,
            Message::Timer(_) => Self::Timer,
            Message::GroupChanged(_) => Self::GroupChanged,
            Message::Cancelled { .. } => Self::Cancelled,
        }
    }
}

impl Pattern {
    pub(crate) fn matches(&self, message: &Message) -> bool {
        let sender = match message {
            Message::Sent { from, .. } => *from,
            Message::Exited { exit, .. } | Message::LinkDown(exit) => Some(exit.pid),
            Message::Timer(tick) => Some(tick.timer.process()),
            Message::GroupChanged(_) | Message::Cancelled { .. } => None,
        };
        let monitor = match message {
            Message::Exited { monitor, .. } => Some(*monitor),
            _ => None,
        };
        let timer = match message {
            Message::Timer(tick) => Some(tick.timer),
            _ => None,
        };
        self.kind.is_none_or(|kind| kind == MessageKind::of(message))
            && self.sender.is_none_or(|wanted| sender == Some(wanted))
            && self.monitor.is_none_or(|wanted| monitor == Some(wanted))
            && self.timer.is_none_or(|wanted| timer == Some(wanted))
            && self.payload.as_ref().is_none_or(|wanted| {
                message.payload().and_then(Payload::as_json).is_some_and(|payload| contains(payload, wanted))
            })
    }
}

/// Returns whether a value contains another: the members of an object, the first elements of a list.
fn contains(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Object(value), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| value.get(name).is_some_and(|value| contains(value, wanted)))
        }
        (Value::Array(value), Value::Array(wanted)) => {
            wanted.len() <= value.len()
                && wanted.iter().zip(value).all(|(wanted, value)| contains(value, wanted))
        }
        // Scripts do not always distinguish integers from floats.
        (Value::Number(value), Value::Number(wanted)) => value == wanted || value.as_f64() == wanted.as_f64(),
        _ => value == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_payload_contains_what_has_fewer_members_or_elements() {
        let payload = json!({ "tag": "answer", "id": 7, "list": [1, { "a": null, "b": true }, "three"] });
        for wanted in [
            json!({}),
            json!({ "tag": "answer" }),
            json!({ "id": 7.0, "list": [] }),
            json!({ "list": [1, { "a": null }] }),
            payload.clone(),
        ] {
            assert!(contains(&payload, &wanted), "{wanted}");
        }
        for wanted in [
            json!(null),
            json!("answer"),
            json!([]),
            json!({ "tag": "answers" }),
            json!({ "none": null }),
            json!({ "id": 8 }),
            json!({ "list": [{ "a": null }] }),
            json!({ "list": [1, {}, "three", 4] }),
        ] {
            assert!(!contains(&payload, &wanted), "{wanted}");
        }
    }
}
