//! Timers: messages that a process sends to itself later.
//!
//! All timers of a process share one task, which is spawned for the first of them and sleeps until the next is due. A timer has
//! at most one message in the mailbox. While that is unread the timer is not armed, so a process that does not receive costs
//! nothing, and a ticking timer cannot fill its mailbox.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::mem;
use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustc_hash::FxBuildHasher;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::cell::ProcessCell;
use super::cell::monitor::{parse_numbered, write_numbered};
use super::message::{Exit, Message};
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::{Pid, PidError};

/// Identifies one timer of a process. No other timer has the same reference.
///
/// As text it is the PID of the process, `#` and a number: `{local@app:workers|0x00001}#0x1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerRef {
    process: Pid,
    number: u64,
}

impl TimerRef {
    /// Returns the process that set the timer.
    pub const fn process(&self) -> Pid {
        self.process
    }
}

impl fmt::Display for TimerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_numbered(f, self.process, self.number)
    }
}

impl fmt::Debug for TimerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TimerRef {
    type Err = PidError;

    fn from_str(text: &str) -> Result<Self, PidError> {
        match parse_numbered(text)? {
            (process, Some(number)) => Ok(Self { process, number }),
            (_, None) => Err(PidError::Malformed { text: text.to_owned() }),
        }
    }
}

/// A timer was due. A process receives it from itself, as [`Message::Timer`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Tick {
    /// The timer.
    pub timer: TimerRef,
    /// The payload that the timer was set with.
    pub payload: Payload,
    /// The number of further ticks of a [repeated](super::ProcessContext::send_every) timer that came due before this one was
    /// received. They are not delivered.
    pub missed: u64,
}

/// A timer was not set.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TimerError {
    /// The process has reached its limit of timers.
    #[error("{pid} has reached its timer limit of {limit} (`timers` of its host); cancel one first")]
    TooMany {
        /// The process.
        pid: Pid,
        /// The [limit](super::HostConfig::timers).
        limit: usize,
    },
    /// A timer cannot repeat without a pause.
    #[error("the period of a timer must be greater than zero")]
    ZeroPeriod,
    /// The process has ended.
    #[error("{} has ended: {}", exit.pid, exit.reason)]
    Ended {
        /// Its exit.
        exit: Exit,
    },
}

impl From<TimerError> for CallError {
    fn from(error: TimerError) -> Self {
        let kind = match error {
            TimerError::TooMany { .. } => ErrorKind::Exhausted,
            TimerError::ZeroPeriod => ErrorKind::Invalid,
            TimerError::Ended { .. } => ErrorKind::Cancelled,
        };
        Self::new(kind, error.to_string()).with_retryable(false)
    }
}

/// The timers of one process. Time is a parameter.
#[derive(Default)]
pub(crate) struct Timers {
    /// All timers that count towards the limit.
    by_number: HashMap<u64, Timer, FxBuildHasher>,
    /// The timers that wait to be due, by time and number.
    armed: BTreeSet<(Instant, u64)>,
    last_number: u64,
    task: Option<TimerTask>,
}

struct Timer {
    payload: Payload,
    period: Option<Duration>,
    /// `None` if it is too far away to be represented.
    due: Option<Instant>,
    /// Whether its message is in the mailbox.
    is_delivered: bool,
}

/// The task that delivers the ticks.
struct TimerTask {
    task: AbortHandle,
    /// Wakes the task if a timer is due before those that it knows of.
    earlier: Arc<Notify>,
}

/// The outcome of cancelling a timer.
#[derive(Debug, PartialEq, Eq)]
enum CancelledTimer {
    /// There was no such timer, or it had ended.
    Nothing,
    Armed,
    /// Its message is in the mailbox.
    Delivered,
}

impl Timers {
    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    fn add(&mut self, now: Instant, time: Duration, period: Option<Duration>, payload: Payload) -> u64 {
        self.last_number += 1;
        let (number, due) = (self.last_number, now.checked_add(time));
        self.by_number.insert(number, Timer { payload, period, due, is_delivered: false });
        self.arm(due, number);
        number
    }

    fn arm(&mut self, due: Option<Instant>, number: u64) {
        let Some(due) = due else { return };
        self.armed.insert((due, number));
        let is_first = self.next_due() == Some(due);
        if let Some(task) = self.task.as_ref().filter(|_| is_first) {
            task.earlier.notify_one();
        }
    }

    /// Returns when the next tick is due.
    fn next_due(&self) -> Option<Instant> {
        self.armed.first().map(|&(due, _)| due)
    }

    /// Returns the next tick that is due.
    fn fire(&mut self, now: Instant) -> Option<(u64, Payload)> {
        let number = self.armed.first().filter(|(due, _)| *due <= now)?.1;
        self.armed.pop_first();
        let timer = self.by_number.get_mut(&number)?;
        timer.is_delivered = true;
        let payload = match timer.period {
            Some(_) => timer.payload.clone(),
            None => mem::take(&mut timer.payload),
        };
        Some((number, payload))
    }

    /// Notes that the message of a timer was received. Arms a repeated timer again. Returns how many ticks were missed.
    fn received(&mut self, now: Instant, number: u64) -> u64 {
        let Some(timer) = self.by_number.get_mut(&number) else { return 0 };
        let (Some(period), Some(due)) = (timer.period, timer.due) else {
            self.by_number.remove(&number);
            return 0;
        };
        let (late, every) = (now.saturating_duration_since(due).as_nanos(), period.as_nanos());
        let since_tick = Duration::from_nanos(u64::try_from(late % every).unwrap_or(u64::MAX));
        timer.due = now.checked_add(period.saturating_sub(since_tick));
        timer.is_delivered = false;
        let due = timer.due;
        self.arm(due, number);
        u64::try_from(late / every).unwrap_or(u64::MAX)
    }

    fn cancel(&mut self, number: u64) -> CancelledTimer {
        let Some(timer) = self.by_number.remove(&number) else { return CancelledTimer::Nothing };
        if timer.is_delivered {
            return CancelledTimer::Delivered;
        }
        if let Some(due) = timer.due {
            self.armed.remove(&(due, number));
        }
        CancelledTimer::Armed
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        if let Some(TimerTask { task, .. }) = &self.task {
            task.abort();
        }
    }
}

/// Adds a timer to a process.
pub(crate) fn add(
    cell: &Arc<ProcessCell>,
    time: Duration,
    period: Option<Duration>,
    payload: Payload,
) -> Result<TimerRef, TimerError> {
    if period.is_some_and(|period| period.is_zero()) {
        return Err(TimerError::ZeroPeriod);
    }
    let mut state = cell.state();
    if let Some(exit) = state.exit_of(cell.pid) {
        return Err(TimerError::Ended { exit });
    }
    let limit = cell.host.config.timers;
    let timers = state.relations().timers.get_or_insert_default();
    if timers.len() >= limit {
        return Err(TimerError::TooMany { pid: cell.pid, limit });
    }
    let number = timers.add(Instant::now(), time, period, payload);
    if timers.task.is_none() {
        let earlier = Arc::new(Notify::new());
        let task = cell.host.runtime.spawn(deliver(Arc::downgrade(cell), Arc::clone(&earlier)));
        timers.task = Some(TimerTask { task: task.abort_handle(), earlier });
    }
    Ok(TimerRef { process: cell.pid, number })
}

/// Cancels a timer of a process. Returns whether there was a timer or an unread message of it.
pub(crate) fn cancel(cell: &ProcessCell, timer: TimerRef) -> bool {
    if timer.process != cell.pid {
        return false;
    }
    let mut state = cell.state();
    let cancelled = state.timers().map_or(CancelledTimer::Nothing, |timers| timers.cancel(timer.number));
    if cancelled != CancelledTimer::Delivered {
        return cancelled == CancelledTimer::Armed;
    }
    let is_of_timer = |message: &Message| matches!(message, Message::Timer(tick) if tick.timer == timer);
    let discarded = cell.mailbox.discard(is_of_timer);
    drop(state);
    !discarded.is_empty()
}

/// Notes that a tick was received, and sets how many ticks were missed.
pub(crate) fn received(cell: &ProcessCell, tick: &mut Tick) {
    if let Some(timers) = cell.state().timers() {
        tick.missed = timers.received(Instant::now(), tick.timer.number);
    }
}

/// Delivers the ticks that are due. Returns when the next one is due, if there is one. Returns an error once the process has ended.
fn deliver_due(cell: &ProcessCell) -> Result<Option<Instant>, NoTimers> {
    let now = Instant::now();
    loop {
        let mut state = cell.state();
        let timers = state.timers().ok_or(NoTimers)?;
        let Some((number, payload)) = timers.fire(now) else { return Ok(timers.next_due()) };
        let timer = TimerRef { process: cell.pid, number };
        cell.push_system(state, Message::Timer(Box::new(Tick { timer, payload, missed: 0 })));
    }
}

/// A process has ended, and has no timers.
struct NoTimers;

/// Delivers the ticks of one process, to which it holds a weak reference.
async fn deliver(cell: Weak<ProcessCell>, earlier: Arc<Notify>) {
    loop {
        let Some(Ok(next_due)) = cell.upgrade().map(|cell| deliver_due(&cell)) else { return };
        let is_due = async {
            match next_due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = is_due => (),
            () = earlier.notified() => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        After(u64),
        Every(u64),
        Pass(u64),
        /// Delivers all that is due.
        Fire,
        /// Receives the message of one timer.
        Receive(prop::sample::Index),
        Cancel(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0..20_u64).prop_map(Step::After),
            2 => (1..10_u64).prop_map(Step::Every),
            4 => (0..30_u64).prop_map(Step::Pass),
            4 => Just(Step::Fire),
            4 => any::<prop::sample::Index>().prop_map(Step::Receive),
            1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        ]
    }

    /// A timer as arithmetic on whole units of time.
    #[derive(Clone)]
    struct Model {
        number: u64,
        set: u64,
        /// The time, and whether it repeats.
        time: u64,
        repeats: bool,
        /// The last time at which it was received, or set.
        received: u64,
        is_delivered: bool,
    }

    impl Model {
        /// The first tick after it was last received.
        fn due(&self) -> u64 {
            let passed = if self.repeats { (self.received - self.set) / self.time } else { 0 };
            self.set + (passed + 1) * self.time
        }
    }

    proptest! {
        #[test]
        fn timers_tick_as_arithmetic_says(steps in prop::collection::vec(step(), 1..200)) {
            let (mut timers, mut models) = (Timers::default(), Vec::<Model>::new());
            let (begin, mut now) = (Instant::now(), 0);
            let at = |time: u64| begin + Duration::from_millis(time);
            for step in steps {
                match step {
                    Step::After(time) | Step::Every(time) => {
                        let repeats = matches!(step, Step::Every(_));
                        let duration = Duration::from_millis(time);
                        let number = timers.add(at(now), duration, repeats.then_some(duration), json!(time).into());
                        models.push(Model { number, set: now, time, repeats, received: now, is_delivered: false });
                    }
                    Step::Pass(time) => now += time,
                    Step::Fire => {
                        let mut due: Vec<_> = models.iter_mut().filter(|it| !it.is_delivered && it.due() <= now).collect();
                        due.sort_by_key(|it| (it.due(), it.number));
                        for model in due {
                            model.is_delivered = true;
                            prop_assert_eq!(timers.fire(at(now)), Some((model.number, json!(model.time).into())));
                        }
                        prop_assert_eq!(timers.fire(at(now)), None);
                    }
                    Step::Receive(index) => {
                        let Some(place) = (!models.is_empty()).then(|| index.index(models.len())) else { continue };
                        if !models[place].is_delivered {
                            continue;
                        }
                        let missed = timers.received(at(now), models[place].number);
                        if models[place].repeats {
                            let model = &mut models[place];
                            prop_assert_eq!(missed, (now - model.due()) / model.time);
                            (model.received, model.is_delivered) = (now, false);
                        } else {
                            prop_assert_eq!(missed, 0);
                            models.remove(place);
                        }
                    }
                    Step::Cancel(index) => {
                        let Some(place) = (!models.is_empty()).then(|| index.index(models.len())) else { continue };
                        let model = models.remove(place);
                        let expected = if model.is_delivered { CancelledTimer::Delivered } else { CancelledTimer::Armed };
                        prop_assert_eq!(timers.cancel(model.number), expected);
                        prop_assert_eq!(timers.cancel(model.number), CancelledTimer::Nothing);
                    }
                }
                let next = models.iter().filter(|it| !it.is_delivered).map(Model::due).min();
                prop_assert_eq!(timers.next_due(), next.map(at));
                prop_assert_eq!(timers.len(), models.len());
            }
        }
    }

    #[test]
    fn a_time_that_cannot_be_counted_does_not_pass_and_can_be_cancelled() {
        let mut timers = Timers::default();
        let number = timers.add(Instant::now(), Duration::MAX, None, Payload::default());
        assert_eq!((timers.next_due(), timers.len()), (None, 1));
        assert_eq!(timers.cancel(number), CancelledTimer::Armed);
    }

    #[test]
    fn a_reference_reads_back_from_its_text() {
        let process = Pid::next(crate::Host::named("local@app:workers"));
        let timer = TimerRef { process, number: 17 };
        assert_eq!(timer.to_string(), format!("{process}#0x11"));
        assert_eq!(timer.to_string().parse::<TimerRef>().unwrap(), timer);
        for text in [process.to_string(), format!("{process}#17"), format!("{process}#0x+1"), String::new()] {
            text.parse::<TimerRef>().unwrap_err();
        }
    }
}
