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

use super::cell::{ProcessCell, State};
use super::context::ProcessContext;
use super::exit::Exit;
use super::message::Message;
use super::monitor::{numbered, write_numbered};
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::{Pid, PidError};

/// Names one timer of a process. No other timer has the same reference.
///
/// As text it is the PID of the process, `#` and a number: `{local@app:workers|0x00001}#0x1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerRef {
    process: Pid,
    number: u64,
}

impl TimerRef {
    /// The process whose timer it is.
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
        match numbered(text)? {
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
    /// What the timer was set with.
    pub payload: Payload,
    /// How many further ticks of a [repeated](ProcessContext::send_every) timer came due before this one was received. They are
    /// not delivered.
    pub missed: u64,
}

/// A timer was not set.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TimerError {
    /// The process has as many timers as it may have.
    #[error("{pid} has {limit} timers, which is the limit (`timers` of its host); cancel one first")]
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
        /// How.
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

impl ProcessContext {
    /// Sends `payload` to this process after `time`, once, as a [`Message::Timer`]. The payload tells one timer from another, as
    /// the returned reference does.
    ///
    /// The message finds room in a full mailbox. A time that is too long to be counted does not pass. The timer ends with the
    /// process. Time during which the system is suspended may not count.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use frame_dispatch::process::{HostConfig, Message, ProcessContext, ProcessManager, Spawn};
    /// use frame_dispatch::{Functions, Json};
    /// use frame_registry::{App, Options};
    /// use serde_json::json;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let functions = Functions::new(App::builder().build());
    /// let processes = ProcessManager::new(functions.clone());
    /// processes.register_host("app:workers".parse()?, HostConfig::default())?;
    ///
    /// // Collects what it is sent, for 10 milliseconds after the first message.
    /// processes.register("app:batch".parse()?, Options::new(), async |mut ctx: ProcessContext| {
    ///     let (mut batch, mut flush) = (Vec::new(), None);
    ///     loop {
    ///         match ctx.receive().await {
    ///             Message::Sent { payload, .. } => {
    ///                 batch.extend(payload.as_json().cloned());
    ///                 if flush.is_none() {
    ///                     flush = Some(ctx.send_after(Duration::from_millis(10), json!("flush"))?);
    ///                 }
    ///             }
    ///             _ => return Ok::<_, frame_dispatch::process::TimerError>(Json(batch)),
    ///         }
    ///     }
    /// })?;
    ///
    /// let start = Spawn::new("app:workers".parse()?, "app:batch".parse()?);
    /// let start = start.with_message(json!(1)).with_message(json!(2));
    /// assert_eq!(processes.exec(&functions.root(), start).await?, json!([1, 2]).into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TimerError::TooMany`] if the process has as many timers as its host [allows](super::HostConfig::timers), and
    /// [`TimerError::Ended`] if it has ended. A timer counts until its message is received, or it is cancelled.
    pub fn send_after(&self, time: Duration, payload: impl Into<Payload>) -> Result<TimerRef, TimerError> {
        self.shared_instance().add_timer(time, None, payload.into())
    }

    /// Sends `payload` to this process every `period`, first after one `period`; otherwise as [`send_after`](Self::send_after).
    ///
    /// There is never more than one unread message of a timer. Ticks that come due meanwhile are skipped and counted in
    /// [`Tick::missed`]; the next tick comes at the next multiple of the period, as with tokio's `MissedTickBehavior::Skip`.
    /// The same holds if the program was stopped for a while.
    ///
    /// # Errors
    ///
    /// As those of [`send_after`](Self::send_after); [`TimerError::ZeroPeriod`] if the period is zero.
    pub fn send_every(&self, period: Duration, payload: impl Into<Payload>) -> Result<TimerRef, TimerError> {
        if period.is_zero() {
            return Err(TimerError::ZeroPeriod);
        }
        self.shared_instance().add_timer(period, Some(period), payload.into())
    }

    /// Cancels a timer. No message of it is in the mailbox afterwards, and none will be.
    ///
    /// Returns whether there was anything to cancel: a timer that was not due yet, that repeats, or whose message was not
    /// received yet. Returns `false` for a timer of another process.
    pub fn cancel_timer(&self, timer: TimerRef) -> bool {
        self.instance().cancel_timer(timer)
    }
}

/// The timers of one process. Time is a parameter.
#[derive(Default)]
pub(super) struct Timers {
    /// All that count.
    by_number: HashMap<u64, Timer, FxBuildHasher>,
    /// Those that wait to be due, by time and number.
    armed: BTreeSet<(Instant, u64)>,
    last_number: u64,
    driver: Option<Driver>,
}

struct Timer {
    payload: Payload,
    period: Option<Duration>,
    /// None if it is too far away to be counted.
    due: Option<Instant>,
    /// Whether its message is in the mailbox.
    is_delivered: bool,
}

/// The task that delivers the messages.
struct Driver {
    task: AbortHandle,
    /// Wakes the task if a timer is due before those that it knows of.
    sooner: Arc<Notify>,
}

/// What was cancelled.
#[derive(Debug, PartialEq, Eq)]
enum CancelledTimer {
    /// There was no such timer, or it was done.
    Nothing,
    Armed,
    /// Its message is in the mailbox.
    Delivered,
}

impl Timers {
    pub(super) fn len(&self) -> usize {
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
        if let Some(driver) = self.driver.as_ref().filter(|_| is_first) {
            driver.sooner.notify_one();
        }
    }

    /// When the next message is to be delivered.
    fn next_due(&self) -> Option<Instant> {
        self.armed.first().map(|&(due, _)| due)
    }

    /// Takes the next message that is due.
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

    /// The message of a timer was received. Arms one that repeats again, and returns how many ticks were missed.
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
        if let Some(driver) = &self.driver {
            driver.task.abort();
        }
    }
}

impl State {
    fn timers(&mut self) -> Option<&mut Timers> {
        self.relations.as_deref_mut().and_then(|relations| relations.timers.as_deref_mut())
    }
}

impl ProcessCell {
    fn add_timer(
        self: &Arc<Self>,
        time: Duration,
        period: Option<Duration>,
        payload: Payload,
    ) -> Result<TimerRef, TimerError> {
        let mut state = self.state();
        if let Some(exit) = state.exit_of(self.pid) {
            return Err(TimerError::Ended { exit });
        }
        let limit = self.host.config.timers;
        let timers = state.relations().timers.get_or_insert_default();
        if timers.len() >= limit {
            return Err(TimerError::TooMany { pid: self.pid, limit });
        }
        let number = timers.add(Instant::now(), time, period, payload);
        if timers.driver.is_none() {
            let sooner = Arc::new(Notify::new());
            let task = self.host.runtime.spawn(deliver(Arc::downgrade(self), Arc::clone(&sooner)));
            timers.driver = Some(Driver { task: task.abort_handle(), sooner });
        }
        Ok(TimerRef { process: self.pid, number })
    }

    fn cancel_timer(&self, timer: TimerRef) -> bool {
        if timer.process != self.pid {
            return false;
        }
        let mut state = self.state();
        let cancelled = state.timers().map_or(CancelledTimer::Nothing, |timers| timers.cancel(timer.number));
        if cancelled != CancelledTimer::Delivered {
            return cancelled == CancelledTimer::Armed;
        }
        let is_of_timer = |message: &Message| matches!(message, Message::Timer(tick) if tick.timer == timer);
        let discarded = self.mailbox.discard(is_of_timer);
        drop(state);
        !discarded.is_empty()
    }

    /// Completes a message that was taken out of the mailbox.
    pub(super) fn received(&self, mut message: Message) -> Message {
        match &mut message {
            Message::Timer(tick) => {
                if let Some(timers) = self.state().timers() {
                    tick.missed = timers.received(Instant::now(), tick.timer.number);
                }
            }
            Message::GroupChanged(group) => self.received_group_changed(group),
            _ => (),
        }
        message
    }

    /// Delivers what is due. Returns when the next message is, if there is one; an error once the process has ended.
    fn deliver_due(&self) -> Result<Option<Instant>, Ended> {
        let now = Instant::now();
        loop {
            let mut state = self.state();
            let timers = state.timers().ok_or(Ended)?;
            let Some((number, payload)) = timers.fire(now) else { return Ok(timers.next_due()) };
            let timer = TimerRef { process: self.pid, number };
            self.tell(state, Message::Timer(Box::new(Tick { timer, payload, missed: 0 })));
        }
    }
}

/// A process has ended, and has no timers.
struct Ended;

/// Delivers the messages of the timers of one process, which it does not keep.
async fn deliver(process: Weak<ProcessCell>, sooner: Arc<Notify>) {
    loop {
        let Some(Ok(next_due)) = process.upgrade().map(|process| process.deliver_due()) else { return };
        let is_due = async {
            match next_due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = is_due => (),
            () = sooner.notified() => (),
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
