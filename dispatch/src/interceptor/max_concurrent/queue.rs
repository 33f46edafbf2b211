//! The calls under one limit: those that run, and the queue of those that wait.

use std::collections::BTreeMap;
use std::convert::Infallible;

use tokio::sync::oneshot;

use crate::bounds::LimitId;

/// Calls that keep one limit together: those that run, and those that wait, first come, first served.
///
/// Their limits differ only while a function is replaced by one that is registered with another; one with a narrower
/// limit then holds up those behind it.
#[derive(Debug)]
pub(super) struct PermitQueue {
    /// It stays the same for as long as a call has a ticket.
    id: LimitId,
    running: u32,
    /// By ticket, and so in the order they came.
    waiting: BTreeMap<u64, WaitingCall>,
    next_ticket: u64,
}

#[derive(Debug)]
struct WaitingCall {
    /// How many may run at once, itself included.
    calls: u32,
    /// Never sent on. It is dropped when the call is admitted, which is how that is known.
    admission: Admission,
}

/// To be dropped, to let a call run that was admitted.
pub(super) type Admission = oneshot::Sender<Infallible>;

/// What became of a call that came. A ticket has to be given back.
#[derive(Debug)]
pub(super) enum Entered {
    /// It runs.
    Runs { ticket: u64 },
    /// It waits until the sender is dropped.
    Waits { ticket: u64, admission: oneshot::Receiver<Infallible> },
    /// As many wait as may.
    Full,
}

impl Default for PermitQueue {
    fn default() -> Self {
        Self { id: LimitId::next(), running: 0, waiting: BTreeMap::new(), next_ticket: 0 }
    }
}

impl PermitQueue {
    pub(super) const fn id(&self) -> LimitId {
        self.id
    }

    /// Returns whether a call that may run with `calls` at once can run now.
    pub(super) fn has_room(&self, calls: u32) -> bool {
        self.waiting.is_empty() && self.running < calls
    }

    /// A call comes that may run with `calls` at once, itself included, and wait with `max_waiting`.
    pub(super) fn enter(&mut self, calls: u32, max_waiting: Option<u32>) -> Entered {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if self.has_room(calls) {
            self.running += 1;
            return Entered::Runs { ticket };
        }
        if max_waiting.is_some_and(|max| self.waiting.len() >= usize::try_from(max).unwrap_or(usize::MAX)) {
            return Entered::Full;
        }
        let (sender, admission) = oneshot::channel();
        self.waiting.insert(ticket, WaitingCall { calls, admission: sender });
        Entered::Waits { ticket, admission }
    }

    /// A call gives its ticket back, whether it ran or waits. Those that are admitted in its place count as running.
    #[must_use]
    pub(super) fn leave(&mut self, ticket: u64) -> Vec<Admission> {
        if self.waiting.remove(&ticket).is_none() {
            self.running -= 1;
        }
        let mut admitted = Vec::new();
        while let Some(first) = self.waiting.first_entry()
            && self.running < first.get().calls
        {
            self.running += 1;
            admitted.push(first.remove().admission);
        }
        admitted
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    #[derive(Debug, Clone)]
    enum QueueStep {
        Enter {
            calls: u32,
            max_waiting: Option<u32>,
        },
        /// Of those that are there, by place; one that waits gives up, one that runs is done.
        Leave(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = QueueStep> {
        prop_oneof![
            (1_u32..4, prop::option::of(0_u32..3))
                .prop_map(|(calls, max_waiting)| QueueStep::Enter { calls, max_waiting }),
            any::<prop::sample::Index>().prop_map(QueueStep::Leave),
        ]
    }

    /// A call as the model has it.
    struct ModelCall {
        ticket: u64,
        calls: u32,
        runs: bool,
        told: Option<oneshot::Receiver<Infallible>>,
    }

    /// Lets the first in line run for as long as it may.
    fn admit(calls: &mut [ModelCall]) {
        while let Some(first) = calls.iter().position(|call| !call.runs) {
            let running = calls.iter().filter(|call| call.runs).count();
            if running >= calls[first].calls as usize {
                return;
            }
            calls[first].runs = true;
        }
    }

    proptest! {
        #[test]
        fn it_does_what_a_list_in_order_would(steps in prop::collection::vec(step(), 1..80)) {
            let mut queue = PermitQueue::default();
            let mut model: Vec<ModelCall> = Vec::new();
            for step in steps {
                match step {
                    QueueStep::Enter { calls, max_waiting } => {
                        let waiting = model.iter().filter(|call| !call.runs).count();
                        let runs = waiting == 0 && model.len() < calls as usize;
                        let is_full = !runs && max_waiting.is_some_and(|max| waiting >= max as usize);
                        let (ticket, told) = match queue.enter(calls, max_waiting) {
                            Entered::Runs { ticket } => (ticket, None),
                            Entered::Waits { ticket, admission } => (ticket, Some(admission)),
                            Entered::Full => {
                                prop_assert!(is_full);
                                continue;
                            }
                        };
                        prop_assert_eq!((told.is_none(), is_full), (runs, false));
                        model.push(ModelCall { ticket, calls, runs, told });
                    }
                    QueueStep::Leave(_) if model.is_empty() => {}
                    QueueStep::Leave(index) => {
                        let call = model.remove(index.index(model.len()));
                        drop(queue.leave(call.ticket));
                        admit(&mut model);
                    }
                }
                for call in &mut model {
                    let runs = call.told.as_mut().is_none_or(|told| told.try_recv() == Err(TryRecvError::Closed));
                    prop_assert_eq!(runs, call.runs);
                }
            }
            for call in model {
                drop(queue.leave(call.ticket));
            }
            prop_assert!(queue.is_empty());
        }
    }
}
