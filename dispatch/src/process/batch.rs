//! Batches: what a process defers and caches within one poll of its task.
//!
//! Senders that wait for room in its mailbox are woken after the poll, or when the process finds no message, because it may block
//! its thread until one comes. If they were woken immediately, each would find room for one message and wait again. For the same
//! reason a batch continues in the next poll if the process receives without a pause, until half of the mailbox is free, or room
//! for some hundreds of messages.
//!
//! The process that it last sent to is cached. All senders to a process would otherwise contend for the same memory, to look it up
//! and to count references.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::task::Context;

use tokio::task::coop::poll_proceed;

use super::cell::ProcessCell;
use super::mailbox::Mailbox;
use crate::panics;
use crate::pid::Pid;

/// A process that received this many messages in a poll which used up the budget of its task is expected to receive more.
const RECEIVES_ON: u32 = 64;

/// The process whose task a thread polls.
struct Polled {
    mailbox: Cell<*const Mailbox>,
    /// How often it made room, which is not free yet.
    room: Cell<u32>,
    /// The process that it last sent to.
    sent_to: Cell<Option<Pid>>,
    /// Whether that process is cached.
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

/// One poll of the task of a process. Its drop wakes the senders and clears the cache.
pub(crate) struct Batch<'a> {
    mailbox: &'a Mailbox,
    /// Whether room that was made in the previous poll is not free yet.
    owes_room: bool,
    /// The state of the poll that contains this one, if there is one.
    outer_mailbox: *const Mailbox,
    outer_room: u32,
}

impl<'a> Batch<'a> {
    /// Begins a batch. `owes_room` is set if the previous one [continues](Self::end) in it.
    pub(crate) fn begin(mailbox: &'a Mailbox, owes_room: bool) -> Self {
        POLLED.with(|polled| Self {
            mailbox,
            owes_room,
            outer_mailbox: polled.mailbox.replace(mailbox),
            outer_room: polled.room.replace(0),
        })
    }

    /// Ends the batch, or continues it in the next poll of the task, which is then scheduled. Returns whether it continues.
    ///
    /// A process with many messages receives as many in each poll as the budget of its task allows. Senders that were woken after
    /// each of those polls would find little room, and soon wait again.
    pub(crate) fn end(self, context: &mut Context<'_>) -> bool {
        let room = POLLED.with(|polled| polled.room.get());
        // If no budget is left, this schedules another poll, so senders do not depend on what the process waits for.
        room >= RECEIVES_ON && poll_proceed(context).is_pending() && self.go_on()
    }

    /// Continues the batch in the next one, unless it has made much room.
    pub(crate) fn go_on(mut self) -> bool {
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
        // Clears the cache.
        recipient(|_| false);
    }
}

/// Returns whether room that is made in a mailbox now becomes free at the end of a batch.
pub(crate) fn is_open(mailbox: &Mailbox) -> bool {
    POLLED.with(|polled| {
        let is_open = ptr::eq(polled.mailbox.get(), mailbox);
        if is_open {
            polled.room.set(polled.room.get().saturating_add(1));
        }
        is_open
    })
}

/// Takes the cached receiver of the last message of this poll, and returns it if it `is_wanted`.
pub(crate) fn recipient(is_wanted: impl FnOnce(&ProcessCell) -> bool) -> Option<Arc<ProcessCell>> {
    // Most polls cache none.
    let is_kept = POLLED.with(|polled| polled.is_kept.take());
    let recipient = if is_kept { RECIPIENT.try_with(Cell::take).ok().flatten()? } else { return None };
    if is_wanted(&recipient) {
        return Some(recipient);
    }
    // It may hold the last reference to values of its frame, whose panics are not failures of this process.
    let _ = panics::catch(|| drop(recipient));
    None
}

/// Caches a receiver until the poll ends, if the poll has sent to it more than once. For a single message it does not pay: the
/// reference would be released while the receiver runs on another thread.
pub(crate) fn keep_recipient(recipient: Arc<ProcessCell>) {
    let is_kept = POLLED.with(|polled| {
        let is_kept = !polled.mailbox.get().is_null()
            && polled.sent_to.replace(Some(recipient.pid)) == Some(recipient.pid);
        // A nested poll may have sent meanwhile, and cached another receiver.
        polled.is_kept.set(is_kept || polled.is_kept.get());
        is_kept
    });
    if is_kept {
        let _ = RECIPIENT.try_with(|kept| kept.set(Some(recipient)));
    }
}
