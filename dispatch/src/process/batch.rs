//! What a process keeps within one poll of its task.
//!
//! Senders that wait for room in its mailbox are woken after the poll, or when it finds no message: it may block its thread until
//! one comes. Woken at once, each would find room for one message, and wait again.
//!
//! The process that it last sent a message to is kept for the next: to look it up and to share it, its senders would contend for
//! the same memory.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use super::instance::Instance;
use super::mailbox::Mailbox;
use crate::panics;
use crate::pid::Pid;

/// The process whose task a thread polls.
struct Polled {
    mailbox: Cell<*const Mailbox>,
    /// Whether it made room that is not free yet.
    owes_room: Cell<bool>,
    /// What it sent its last message to.
    sent_to: Cell<Option<Pid>>,
}

thread_local! {
    static POLLED: Polled = const {
        Polled { mailbox: Cell::new(ptr::null()), owes_room: Cell::new(false), sent_to: Cell::new(None) }
    };
    static RECIPIENT: Cell<Option<Arc<Instance>>> = const { Cell::new(None) };
}

/// One poll of the task of a process. Its drop wakes the senders, and keeps nothing.
pub(super) struct Batch<'a> {
    mailbox: &'a Mailbox,
    /// Those of the poll that this one is within, if it is.
    outer_mailbox: *const Mailbox,
    outer_owes_room: bool,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(mailbox: &'a Mailbox) -> Self {
        POLLED.with(|polled| Self {
            mailbox,
            outer_mailbox: polled.mailbox.replace(mailbox),
            outer_owes_room: polled.owes_room.replace(false),
        })
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let owes_room = POLLED.with(|polled| {
            polled.mailbox.set(self.outer_mailbox);
            polled.sent_to.set(None);
            polled.owes_room.replace(self.outer_owes_room)
        });
        if owes_room {
            self.mailbox.end_batch();
        }
        if let Some(recipient) = recipient() {
            // It may be the last that keeps what is on its frame, of which a panic is nothing to this process.
            let _ = panics::catch(|| drop(recipient));
        }
    }
}

/// Returns whether the room that is made now in a mailbox is free later, at the end of a batch.
pub(super) fn is_open(mailbox: &Mailbox) -> bool {
    POLLED.with(|polled| {
        let is_open = ptr::eq(polled.mailbox.get(), mailbox);
        if is_open {
            polled.owes_room.set(true);
        }
        is_open
    })
}

/// Takes the process that was last sent to in this poll.
pub(super) fn recipient() -> Option<Arc<Instance>> {
    RECIPIENT.try_with(Cell::take).ok().flatten()
}

/// Keeps a process until the poll ends, if that has sent to it more than once. Kept for one message, it would be given back while
/// it runs on another thread.
pub(super) fn keep_recipient(recipient: Arc<Instance>) {
    let is_kept = POLLED.with(|polled| {
        !polled.mailbox.get().is_null() && polled.sent_to.replace(Some(recipient.pid)) == Some(recipient.pid)
    });
    if is_kept {
        let _ = RECIPIENT.try_with(|kept| kept.set(Some(recipient)));
    }
}
