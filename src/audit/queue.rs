//! Records on their way to the writer: a bounded queue that units share fairly.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use frame_net::Unit;
use frame_net::audit::{Attempt, AttemptKind, Destination, Outcome, Unrecorded};
use tokio::sync::oneshot;

/// How many records may wait for the writer. A unit gets one more only while it has fewer than are free, so that one
/// that floods the queue leaves room for the others.
const CAPACITY: usize = 4096;

/// How long a record may wait for others to be written with it, if nothing waits for it.
const LINGER: Duration = Duration::from_millis(50);

/// For how long refusals of one unit and destination by one rule are counted after the first, and become one record.
const REPEATS: Duration = Duration::from_secs(1);

/// How many pairs of a destination and a rule are told apart for each unit in that time. The others are counted together.
const MAX_REFUSED: usize = 16;

/// When it is tried to say how many records were lost, if no record comes before.
const RETRY: Duration = Duration::from_secs(1);

/// The records that are still to be written.
pub(super) struct Queue {
    state: Mutex<State>,
    /// The writer waits here.
    changed: Condvar,
    is_required: bool,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    /// How many each unit has.
    held: HashMap<Unit, usize>,
    /// Since when the first of them waits.
    since: Option<Instant>,
    refusals: HashMap<RefusalKey, Refusals>,
    /// How many refusals of a unit are told apart.
    told_apart: HashMap<Unit, usize>,
    lost: HashMap<Unit, u64>,
    /// When the writer tries again to say how many were lost.
    retry_at: Option<Instant>,
    flushes: Vec<oneshot::Sender<()>>,
    /// Whether something waits for the writer.
    is_urgent: bool,
    /// Whether the writer waits for the first record.
    is_idle: bool,
    is_closed: bool,
}

/// A record to be written.
pub(super) enum Entry {
    /// An attempt begins, and goes on once that is written.
    Open(Arc<Attempt>, oneshot::Sender<Result<(), Unrecorded>>),
    /// An attempt has ended.
    End(Arc<Attempt>, Outcome),
}

impl Entry {
    fn unit(&self) -> &Unit {
        let (Self::Open(attempt, _) | Self::End(attempt, _)) = self;
        &attempt.unit
    }
}

/// Refusals that are one record. Those without a destination and a rule are of all that are not told apart.
type RefusalKey = (Unit, AttemptKind, Option<(Destination, Option<Arc<str>>)>);

/// Refusals after the first.
pub(super) struct Refusals {
    until: Instant,
    pub(super) attempt: Arc<Attempt>,
    pub(super) outcome: Outcome,
    pub(super) count: u64,
    pub(super) is_one_rule: bool,
}

/// What the writer has to do next.
pub(super) struct Batch {
    pub(super) entries: VecDeque<Entry>,
    pub(super) refusals: Vec<Refusals>,
    pub(super) lost: HashMap<Unit, u64>,
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    pub(super) is_last: bool,
}

impl Queue {
    pub(super) fn new(is_required: bool) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), is_required }
    }

    /// Adds that an attempt begins. The future is done when that is written.
    pub(super) fn push_open(
        &self,
        attempt: &Arc<Attempt>,
    ) -> Result<impl Future<Output = Result<(), Unrecorded>> + use<>, Unrecorded> {
        let (done, written) = oneshot::channel();
        let mut state = self.state();
        if !state.push(Entry::Open(Arc::clone(attempt), done)) {
            return Err(Unrecorded::Full);
        }
        self.wake(&mut state);
        Ok(async move {
            let ended = || Err(Unrecorded::Failed { reason: "its writer has ended".into() });
            written.await.unwrap_or_else(|_| ended())
        })
    }

    /// Adds how an attempt has ended, unless that is a refusal like many.
    pub(super) fn push_end(&self, attempt: Arc<Attempt>, outcome: Outcome) {
        let mut state = self.state();
        let has_open = self.is_required && outcome.is_begun;
        if outcome.verdict.is_refused && !has_open && state.repeats(&attempt, &outcome) {
            // The writer looks for them when their time is up.
            if state.is_idle {
                self.changed.notify_one();
            }
            return;
        }
        state.push(Entry::End(attempt, outcome));
        if state.entries.len() > CAPACITY / 2 {
            self.wake(&mut state);
        } else if state.is_idle {
            state.is_idle = false;
            self.changed.notify_one();
        }
    }

    /// Has the writer look at the file, though there may be no record for it.
    pub(super) fn reopen(&self) {
        self.wake(&mut self.state());
    }

    /// Waits until all that has been added is written, or could not be.
    pub(super) fn flush(&self) -> impl Future<Output = ()> + use<> {
        let (done, written) = oneshot::channel();
        let mut state = self.state();
        state.flushes.push(done);
        self.wake(&mut state);
        async move { _ = written.await }
    }

    /// The writer ends when it has written what there is.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.wake(&mut state);
    }

    /// Counts records that could not be written. The next that can be says how many, or a try [later](RETRY).
    pub(super) fn count_lost(&self, unit: &Unit, count: u64) {
        let mut state = self.state();
        state.count_lost(unit, count);
        state.retry_at = Some(Instant::now() + RETRY);
    }

    /// Waits for the next records.
    pub(super) fn next(&self) -> Batch {
        let mut state = self.state();
        loop {
            if state.is_urgent || state.is_closed {
                break;
            }
            let now = Instant::now();
            match state.due() {
                Some(due) if due <= now => break,
                Some(due) => {
                    let waited = self.changed.wait_timeout(state, due - now);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    state.is_idle = true;
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.is_idle = false;
                }
            }
        }
        state.take()
    }

    fn wake(&self, state: &mut State) {
        state.is_urgent = true;
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds a record if its unit has room for one.
    fn push(&mut self, entry: Entry) -> bool {
        let free = CAPACITY.saturating_sub(self.entries.len());
        let held = self.held.get(entry.unit()).copied().unwrap_or(0);
        if held >= free {
            self.count_lost(entry.unit(), 1);
            return false;
        }
        match self.held.get_mut(entry.unit()) {
            Some(held) => *held += 1,
            None => _ = self.held.insert(entry.unit().clone(), 1),
        }
        self.since.get_or_insert_with(Instant::now);
        self.entries.push_back(entry);
        true
    }

    /// Whether a refusal is counted with others of the last second. The first is a record of its own.
    fn repeats(&mut self, attempt: &Arc<Attempt>, outcome: &Outcome) -> bool {
        let (unit, kind) = (attempt.unit.clone(), attempt.kind);
        let key = (unit, kind, Some((attempt.destination.clone(), outcome.verdict.rule.clone())));
        if let Some(refusals) = self.refusals.get_mut(&key) {
            refusals.count += 1;
            return true;
        }
        let (unit, kind, _) = &key;
        let told_apart = self.told_apart.entry(unit.clone()).or_default();
        let is_one_rule = *told_apart < MAX_REFUSED;
        let key = if is_one_rule {
            *told_apart += 1;
            key
        } else {
            (unit.clone(), *kind, None)
        };
        let count = u64::from(!is_one_rule);
        let refusals = self.refusals.entry(key).and_modify(|refusals| refusals.count += 1);
        refusals.or_insert_with(|| Refusals {
            until: Instant::now() + REPEATS,
            attempt: Arc::clone(attempt),
            outcome: outcome.clone(),
            count,
            is_one_rule,
        });
        !is_one_rule
    }

    fn count_lost(&mut self, unit: &Unit, count: u64) {
        *self.lost.entry(unit.clone()).or_default() += count;
    }

    /// When the writer has something to do.
    fn due(&self) -> Option<Instant> {
        let lingered = self.since.map(|since| since + LINGER);
        let refusals = self.refusals.values().map(|refusals| refusals.until).min();
        lingered.into_iter().chain(refusals).chain(self.retry_at).min()
    }

    fn take(&mut self) -> Batch {
        let now = Instant::now();
        let (told_apart, is_last) = (&mut self.told_apart, self.is_closed);
        // At the end, and where the log is to be complete, all there are.
        let takes_all = is_last || !self.flushes.is_empty();
        let is_due = |refusals: &Refusals| takes_all || refusals.until <= now;
        let due = self.refusals.extract_if(|_, refusals| is_due(refusals));
        let refusals = due.map(|((unit, ..), refusals)| {
            if refusals.is_one_rule
                && let Some(count) = told_apart.get_mut(&unit)
            {
                *count -= 1;
                if *count == 0 {
                    told_apart.remove(&unit);
                }
            }
            refusals
        });
        let refusals = refusals.filter(|refusals| refusals.count > 0).collect();
        self.held.clear();
        self.since = None;
        self.retry_at = None;
        self.is_urgent = false;
        Batch {
            entries: std::mem::take(&mut self.entries),
            refusals,
            lost: std::mem::take(&mut self.lost),
            flushes: std::mem::take(&mut self.flushes),
            is_last,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use frame_net::audit::{AUDIT, Audit, Begun, Verdict};
    use frame_net::{Endpoint, NetConfig, UNIT_OF};
    use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, Key};

    use super::*;

    static UNIT: Key<String> = Key::new("queue_test.unit");

    /// Hands what a dialer attempts to a queue, as the log does.
    struct Log(Queue);

    impl fmt::Debug for Log {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Log")
        }
    }

    impl Audit for Log {
        fn begin(&self, _: &Arc<Attempt>) -> Begun {
            Begun::Recorded
        }

        fn end(&self, attempt: Arc<Attempt>, outcome: Outcome) {
            self.0.push_end(attempt, outcome);
        }
    }

    fn app() -> (App, Arc<Log>) {
        let log = Arc::new(Log(Queue::new(false)));
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        app.set(&UNIT_OF, |frame| frame.get(&UNIT).map(|name| Unit::new("unit", name.as_str()))).unwrap();
        app.set(&AUDIT, Arc::clone(&log) as Arc<dyn Audit>).unwrap();
        let config: NetConfig =
            serde_json::from_str(r#"{ "clearnet": { "allow": ["127.0.0.1"] } }"#).unwrap();
        frame_net::boot(&mut app, config).unwrap();
        (app.build(), log)
    }

    fn unit(name: &str) -> Frame {
        let mut frame = FrameBuilder::new();
        frame.set(&UNIT, name.to_owned());
        frame.seal()
    }

    async fn fail(app: &App, frame: &Frame, to: &str) {
        let to: Endpoint = to.parse().unwrap();
        frame_net::dialer(frame, app).unwrap().connect(&to).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_unit_that_floods_the_queue_leaves_room_for_others() {
        let (app, log) = app();
        let (greedy, modest) = (unit("greedy"), unit("modest"));
        // Nothing is there, so each attempt fails and is a record.
        for _ in 0..CAPACITY {
            fail(&app, &greedy, "127.0.0.1:1").await;
        }
        for _ in 0..10 {
            fail(&app, &modest, "127.0.0.1:1").await;
        }
        let batch = log.0.next();
        let of = |name: &str| batch.entries.iter().filter(|entry| entry.unit().name() == Some(name)).count();
        assert_eq!((of("greedy"), of("modest")), (CAPACITY / 2, 10));
        assert_eq!(batch.lost.values().sum::<u64>(), (CAPACITY / 2) as u64);
    }

    #[tokio::test]
    async fn refusals_of_one_destination_by_different_rules_are_records_of_their_own() {
        let (app, log) = app();
        let frame = unit("prober");
        let attempt = {
            fail(&app, &frame, "10.0.0.1:80").await;
            let mut batch = log.0.next();
            let Some(Entry::End(attempt, outcome)) = batch.entries.pop_front() else { panic!("no record") };
            (attempt, outcome)
        };
        let refuse = |rule: &str| {
            let (attempt, mut outcome) = attempt.clone();
            outcome.verdict = Verdict::refused(rule);
            log.0.push_end(attempt, outcome);
        };
        for _ in 0..3 {
            refuse("no TLS");
            refuse("not granted");
        }
        log.0.close();
        let batch = log.0.next();
        assert_eq!(batch.entries.len(), 2);
        let mut counted: Vec<_> = batch
            .refusals
            .iter()
            .map(|refusals| (refusals.outcome.verdict.rule.as_deref().unwrap(), refusals.count))
            .collect();
        counted.sort_unstable();
        assert_eq!(counted, [("no TLS", 2), ("not granted", 2)]);
    }

    #[tokio::test]
    async fn refusals_are_one_record_for_each_destination_and_one_for_those_beyond_many() {
        let (app, log) = app();
        let frame = unit("scanner");
        for round in 0..5 {
            for host in 0..100 {
                fail(&app, &frame, &format!("10.0.0.{host}:80")).await;
            }
            assert!(log.0.state().entries.len() <= MAX_REFUSED, "round {round}");
        }
        log.0.close();
        let batch = log.0.next();
        assert_eq!(batch.entries.len(), MAX_REFUSED);
        let (told_apart, others): (Vec<_>, Vec<_>) =
            batch.refusals.iter().partition(|refusals| refusals.is_one_rule);
        assert_eq!((told_apart.len(), others.len()), (MAX_REFUSED, 1));
        let counted: u64 = batch.refusals.iter().map(|refusals| refusals.count).sum();
        assert_eq!(counted + batch.entries.len() as u64, 500);
        assert!(log.0.state().told_apart.is_empty());
    }
}
