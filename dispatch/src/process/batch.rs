//! The room that a process makes in its mailbox within one poll of its task. Senders that wait for it are woken after the poll,
//! or when the process finds no message: it may block its thread until one comes.
//!
//! Woken at once, each would find room for one message, and wait again.

use std::cell::Cell;
use std::ptr;

use super::mailbox::Mailbox;

/// The process whose task a thread polls.
#[derive(Clone, Copy)]
struct Polled {
    mailbox: *const Mailbox,
    /// Whether there is room that senders wait for.
    owes_room: bool,
}

thread_local! {
    static POLLED: Cell<Polled> = const { Cell::new(Polled { mailbox: ptr::null(), owes_room: false }) };
}

/// One poll of the task of a process. Its drop wakes the senders.
pub(super) struct Batch<'a> {
    mailbox: &'a Mailbox,
    outer: Polled,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(mailbox: &'a Mailbox) -> Self {
        Self { mailbox, outer: POLLED.replace(Polled { mailbox, owes_room: false }) }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if POLLED.replace(self.outer).owes_room {
            self.mailbox.give_owed();
        }
    }
}

/// Returns whether the senders of a mailbox are woken later, at the end of a batch.
pub(super) fn is_open(mailbox: &Mailbox) -> bool {
    let polled = POLLED.get();
    let is_open = ptr::eq(polled.mailbox, mailbox);
    if is_open {
        POLLED.set(Polled { owes_room: true, ..polled });
    }
    is_open
}
