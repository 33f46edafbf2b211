//! What a process keeps within one poll of its task.
//!
//! Senders that wait for room in its mailbox are woken after the poll, or when it finds no message: it may block its thread until
//! one comes. Woken at once, each would find room for one message, and wait again. For the same reason a batch goes on in the next
//! poll if the process receives without a pause, until half of the mailbox is free, or room for some hundreds of messages.
//!
//! The process that it last sent a message to is kept for the next: to look it up and to share it, its senders would contend for
//! the same memory.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::task::Context;

use tokio::task::coop::poll_proceed;

use super::cell::ProcessCell;
use super::mailbox::Mailbox;
use crate::panics;
use crate::pid::Pid;

/// A process that received so many messages in a poll that used up the budget of its task is expected to receive more.
const RECEIVES_ON: u32 = 64;

/// The process whose task a thread polls.
struct Polled {
    mailbox: Cell<*const Mailbox>,
    /// How many times it made room, which is not free yet.
    room: Cell<u32>,
    /// What it sent its last message to.
    sent_to: Cell<Option<Pid>>,
    /// Whether that is kept.
    is_kept: Cell<bool>,
}

thread_local! {
    static POLLED: Polled = const {
        Polled {
            mailbox: Cell::new(ptr::null()),
            room: Cell::new(0),
            sent_to: Cell::new(None),
            is_kept: Cell::new(false),
        }
    };
    static RECIPIENT: Cell<Option<Arc<ProcessCell>>> = const { Cell::new(None) };
}

/// One poll of the task of a process. Its drop wakes the senders, and keeps nothing.
pub(super) struct Batch<'a> {
    mailbox: &'a Mailbox,
    /// Whether room that was made in the poll before is not free yet.
    owes_room: bool,
    /// Those of the poll that this one is within, if it is.
    outer_mailbox: *const Mailbox,
    outer_room: u32,
}

impl<'a> Batch<'a> {
    /// Begins a batch. `owes_room` tells that the one before [goes on](Self::end) in it.
    pub(super) fn begin(mailbox: &'a Mailbox, owes_room: bool) -> Self {
        POLLED.with(|polled| Self {
            mailbox,
            owes_room,
            outer_mailbox: polled.mailbox.replace(mailbox),
            outer_room: polled.room.replace(0),
        })
    }

    /// Ends the batch, or has it go on in the next poll of the task, which comes soon then. Returns whether it goes on.
    ///
    /// A process that has many messages receives as many in each poll as the budget of its task allows. Senders that are woken
    /// after each of those polls find little room, and soon wait again.
    pub(super) fn end(self, context: &mut Context<'_>) -> bool {
        let room = POLLED.with(|polled| polled.room.get());
        // If no budget is left, this has the task polled again, so senders do not depend on what the process waits for.
        room >= RECEIVES_ON && poll_proceed(context).is_pending() && self.go_on()
    }

    /// Has the batch go on in the next one, unless it has made much room.
    pub(super) fn go_on(mut self) -> bool {
        let goes_on = self.mailbox.owes_little();
        if goes_on {
            POLLED.with(|polled| polled.room.set(0));
            self.owes_room = false;
        }
        goes_on
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let room = POLLED.with(|polled| {
            polled.mailbox.set(self.outer_mailbox);
            polled.sent_to.set(None);
            polled.room.replace(self.outer_room)
        });
        if self.owes_room || room > 0 {
            self.mailbox.end_batch();
        }
        // None is wanted any more.
        recipient(|_| false);
    }
}

/// Returns whether the room that is made now in a mailbox is free later, at the end of a batch.
pub(super) fn is_open(mailbox: &Mailbox) -> bool {
    POLLED.with(|polled| {
        let is_open = ptr::eq(polled.mailbox.get(), mailbox);
        if is_open {
            polled.room.set(polled.room.get().saturating_add(1));
        }
        is_open
    })
}

/// Takes the process that was last sent to in this poll, and returns it if it `is_wanted`.
pub(super) fn recipient(is_wanted: impl FnOnce(&ProcessCell) -> bool) -> Option<Arc<ProcessCell>> {
    // Most polls keep none.
    let is_kept = POLLED.with(|polled| polled.is_kept.take());
    let recipient = if is_kept { RECIPIENT.try_with(Cell::take).ok().flatten()? } else { return None };
    if is_wanted(&recipient) {
        return Some(recipient);
    }
    // It may be the last reference to the values of its frame, whose panics are not failures of this process.
    let _ = panics::catch(|| drop(recipient));
    None
}

/// Keeps a process until the poll ends, if that has sent to it more than once. For a single message it would not pay: the
/// reference would be released while the process runs on another thread.
pub(super) fn keep_recipient(recipient: Arc<ProcessCell>) {
    let is_kept = POLLED.with(|polled| {
        let is_kept = !polled.mailbox.get().is_null()
            && polled.sent_to.replace(Some(recipient.pid)) == Some(recipient.pid);
        // What the receiver woke may have sent in between, so that another is kept.
        polled.is_kept.set(is_kept || polled.is_kept.get());
        is_kept
    });
    if is_kept {
        let _ = RECIPIENT.try_with(|kept| kept.set(Some(recipient)));
    }
}
