//! Records on their way to the writer: a bounded queue that units share fairly.

use std::collections::{HashMap, VecDeque, hash_map};
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use frame_net::audit::{Attempt, AttemptKind, Destination, Outcome, Unrecorded, Verdict};
use frame_net::{Route, Unit};
use tokio::sync::oneshot;

use super::rate::Rates;

/// How many records may wait for the writer. A unit gets one more only while it has fewer than are free, so that one
/// that floods the queue leaves room for the others.
const CAPACITY: usize = 4096;

/// How long a record may wait for others to be written with it, if nothing waits for it.
const LINGER: Duration = Duration::from_millis(50);

/// For how long attempts that are alike are counted, and become one record.
const REPEATS: Duration = Duration::from_secs(1);

/// How many of those are told apart for each unit in that time: refusals, and as many others. The rest is counted together.
const MAX_TOLD_APART: usize = 16;

/// When it is tried to say how many records were lost, if no record comes before.
const RETRY: Duration = Duration::from_secs(1);

/// The records that are still to be written.
pub(super) struct Queue {
    state: Mutex<State>,
    /// The writer waits here.
    changed: Condvar,
    is_required: bool,
    per_second: NonZeroU32,
    /// What refuses attempts that come faster.
    too_fast: Arc<str>,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    /// How many each unit has.
    held: HashMap<Unit, usize>,
    /// Since when the first of them waits.
    since: Option<Instant>,
    rates: Rates,
    merged: HashMap<MergeKey, Merged>,
    /// How many of those of a unit are told apart, of refusals and of others.
    told_apart: HashMap<(Unit, bool), usize>,
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

/// Attempts that are one record.
#[derive(Clone, PartialEq, Eq, Hash)]
struct MergeKey {
    unit: Unit,
    kind: AttemptKind,
    is_refused: bool,
    /// None for all that are not told apart.
    alike: Option<Alike>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Alike {
    destination: Destination,
    route: Route,
    rule: Option<Arc<str>>,
    secret: Option<Arc<str>>,
}

/// Attempts that are one record, with the bytes of all of them. A refusal that is the first of its kind is a record of its own,
/// and is not among them.
pub(super) struct Merged {
    until: Instant,
    pub(super) attempt: Arc<Attempt>,
    pub(super) outcome: Outcome,
    pub(super) count: u64,
    pub(super) are_alike: bool,
}

impl Merged {
    fn add(&mut self, outcome: &Outcome) {
        self.count += 1;
        self.outcome.sent = self.outcome.sent.saturating_add(outcome.sent);
        self.outcome.received = self.outcome.received.saturating_add(outcome.received);
    }
}

/// What the writer has to do next.
pub(super) struct Batch {
    pub(super) entries: VecDeque<Entry>,
    pub(super) merged: Vec<Merged>,
    pub(super) lost: HashMap<Unit, u64>,
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    pub(super) is_last: bool,
}

impl Queue {
    pub(super) fn new(is_required: bool, per_second: NonZeroU32) -> Self {
        let state = State { rates: Rates::new(per_second), ..State::default() };
        let too_fast = format!("audit: more than {per_second} attempts in a second").into();
        Self { state: state.into(), changed: Condvar::new(), is_required, per_second, too_fast }
    }

    /// Adds that an attempt begins. The future is done when that is written.
    pub(super) fn push_open(
        &self,
        attempt: &Arc<Attempt>,
    ) -> Result<impl Future<Output = Result<(), Unrecorded>> + use<>, Unrecorded> {
        let (done, written) = oneshot::channel();
        let mut state = self.state();
        if state.is_closed {
            return Err(has_ended());
        }
        if !state.rates.take(attempt, Instant::now()) {
            drop(state);
            let refused = Outcome::refused(Verdict::refused(Arc::clone(&self.too_fast)));
            self.push_end(Arc::clone(attempt), refused);
            return Err(Unrecorded::TooFast { per_second: self.per_second });
        }
        if !state.push(Entry::Open(Arc::clone(attempt), done)) {
            return Err(Unrecorded::Full);
        }
        self.wake(&mut state);
        Ok(async move { written.await.unwrap_or_else(|_| Err(has_ended())) })
    }

    /// Adds how an attempt has ended, unless it is one of many: a refusal like others, or of a unit that has made too many
    /// records.
    pub(super) fn push_end(&self, attempt: Arc<Attempt>, outcome: Outcome) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        let has_open = self.is_required && outcome.is_begun;
        if !has_open && state.merges(&attempt, &outcome) {
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
        if !state.is_closed {
            state.flushes.push(done);
            self.wake(&mut state);
        }
        async move { _ = written.await }
    }

    /// Nothing is added any more. The writer ends when it has written what there is.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.wake(&mut state);
    }

    /// [Closes](Self::close) the queue, and waits until the writer has ended.
    pub(super) fn finish(&self) -> impl Future<Output = ()> + use<> {
        let (done, written) = oneshot::channel();
        let mut state = self.state();
        if !state.is_closed {
            state.flushes.push(done);
            state.is_closed = true;
            self.wake(&mut state);
        }
        async move { _ = written.await }
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

fn has_ended() -> Unrecorded {
    Unrecorded::Failed { reason: "the app has stopped".into() }
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

    /// Counts an attempt with others of the last second. Returns whether it did: the first refusal of its kind, and what comes no
    /// faster than a unit may make records, is a record of its own.
    fn merges(&mut self, attempt: &Arc<Attempt>, outcome: &Outcome) -> bool {
        let (now, is_refused) = (Instant::now(), outcome.verdict.is_refused);
        if !is_refused && self.rates.take(attempt, now) {
            return false;
        }
        let alike = Alike {
            destination: attempt.destination.clone(),
            route: attempt.route.clone(),
            rule: outcome.verdict.rule.clone(),
            secret: attempt.secret.clone(),
        };
        let (unit, kind) = (attempt.unit.clone(), attempt.kind);
        let mut key = MergeKey { unit, kind, is_refused, alike: Some(alike) };
        if let Some(merged) = self.merged.get_mut(&key) {
            merged.add(outcome);
            return true;
        }
        let told_apart = self.told_apart.entry((key.unit.clone(), is_refused)).or_default();
        let are_alike = *told_apart < MAX_TOLD_APART;
        if are_alike {
            *told_apart += 1;
        } else {
            key.alike = None;
        }
        let merged = self.merged.entry(key).or_insert_with(|| {
            let (until, attempt, mut outcome) = (now + REPEATS, Arc::clone(attempt), outcome.clone());
            (outcome.sent, outcome.received) = (0, 0);
            Merged { until, attempt, outcome, count: 0, are_alike }
        });
        let is_own = is_refused && are_alike;
        if !is_own {
            merged.add(outcome);
        }
        !is_own
    }

    fn count_lost(&mut self, unit: &Unit, count: u64) {
        *self.lost.entry(unit.clone()).or_default() += count;
    }

    /// When the writer has something to do.
    fn due(&self) -> Option<Instant> {
        let lingered = self.since.map(|since| since + LINGER);
        let merged = self.merged.values().map(|merged| merged.until).min();
        lingered.into_iter().chain(merged).chain(self.retry_at).min()
    }

    fn take(&mut self) -> Batch {
        let now = Instant::now();
        let (told_apart, is_last) = (&mut self.told_apart, self.is_closed);
        // At the end, and where the log is to be complete, all there are.
        let takes_all = is_last || !self.flushes.is_empty();
        let is_due = |merged: &Merged| takes_all || merged.until <= now;
        let due = self.merged.extract_if(|_, merged| is_due(merged));
        let merged = due.map(|(MergeKey { unit, is_refused, .. }, merged)| {
            if merged.are_alike
                && let hash_map::Entry::Occupied(mut told) = told_apart.entry((unit, is_refused))
            {
                *told.get_mut() -= 1;
                if *told.get() == 0 {
                    told.remove();
                }
            }
            merged
        });
        let merged = merged.filter(|merged| merged.count > 0).collect();
        self.held.clear();
        self.since = None;
        self.retry_at = None;
        self.is_urgent = false;
        Batch {
            entries: std::mem::take(&mut self.entries),
            merged,
            lost: std::mem::take(&mut self.lost),
            flushes: std::mem::take(&mut self.flushes),
            is_last,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use frame_net::audit::{AUDIT, Audit, Begun};
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
        app_with(Queue::new(false, NonZeroU32::MAX))
    }

    fn app_with(queue: Queue) -> (App, Arc<Log>) {
        let log = Arc::new(Log(queue));
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
    async fn a_unit_that_connects_too_often_has_its_attempts_counted_together_and_others_do_not() {
        let (app, log) = app_with(Queue::new(false, NonZeroU32::new(20).unwrap()));
        let (greedy, modest) = (unit("greedy"), unit("modest"));
        for round in 0..200 {
            fail(&app, &greedy, "127.0.0.1:1").await;
            if round % 20 == 0 {
                fail(&app, &modest, "127.0.0.1:1").await;
            }
        }
        log.0.close();
        let batch = log.0.next();
        let of = |name: &str| batch.entries.iter().filter(|entry| entry.unit().name() == Some(name)).count();
        assert_eq!(of("modest"), 10);
        // A few more than those of a second, if it takes longer.
        assert!((20..100).contains(&of("greedy")), "{}", of("greedy"));
        let [merged] = &batch.merged[..] else { panic!("{} records", batch.merged.len()) };
        assert!(!merged.outcome.verdict.is_refused && merged.are_alike);
        assert_eq!(merged.count + of("greedy") as u64, 200);
    }

    #[tokio::test]
    async fn the_beginning_of_a_unit_that_begins_too_often_is_refused_and_that_is_recorded() {
        let (app, log) = app();
        fail(&app, &unit("greedy"), "127.0.0.1:1").await;
        let Some(Entry::End(greedy, _)) = log.0.next().entries.pop_front() else { panic!("no record") };
        fail(&app, &unit("modest"), "127.0.0.1:1").await;
        let Some(Entry::End(modest, _)) = log.0.next().entries.pop_front() else { panic!("no record") };

        let per_second = NonZeroU32::new(1).unwrap();
        let queue = Queue::new(true, per_second);
        assert!(queue.push_open(&greedy).is_ok());
        for _ in 0..50 {
            let refused = queue.push_open(&greedy).map(drop).unwrap_err();
            assert_eq!(refused, Unrecorded::TooFast { per_second });
        }
        assert!(queue.push_open(&modest).is_ok());
        queue.close();
        let batch = queue.next();
        // Two that begin, and the first refusal.
        assert_eq!((batch.entries.len(), batch.lost.len()), (3, 0));
        let [merged] = &batch.merged[..] else { panic!("{} records", batch.merged.len()) };
        let rule = merged.outcome.verdict.rule.as_deref();
        assert_eq!((merged.count, rule), (49, Some("audit: more than 1 attempts in a second")));
    }

    #[tokio::test]
    async fn a_unit_may_make_as_many_records_as_in_a_second_at_once_and_then_evenly() {
        let (app, log) = app();
        fail(&app, &unit("one"), "127.0.0.1:1").await;
        let Some(Entry::End(attempt, _)) = log.0.next().entries.pop_front() else { panic!("no record") };
        let mut accepted = Attempt::clone(&attempt);
        accepted.kind = AttemptKind::Accept;
        let mut rates = Rates::new(NonZeroU32::new(10).unwrap());
        let begun = Instant::now();
        let taken = |rates: &mut Rates, attempt: &Attempt, after: u64| {
            let now = begun + Duration::from_millis(after);
            (0..100).filter(|_| rates.take(attempt, now)).count()
        };
        assert_eq!(taken(&mut rates, &attempt, 0), 10);
        assert_eq!(taken(&mut rates, &accepted, 0), 10, "what peers connect to is counted apart");
        assert_eq!(taken(&mut rates, &attempt, 99), 0);
        assert_eq!(taken(&mut rates, &attempt, 100), 1);
        assert_eq!(taken(&mut rates, &attempt, 600), 5);
        assert_eq!(taken(&mut rates, &attempt, 10_000), 10);
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
            .merged
            .iter()
            .map(|merged| (merged.outcome.verdict.rule.as_deref().unwrap(), merged.count))
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
            assert!(log.0.state().entries.len() <= MAX_TOLD_APART, "round {round}");
        }
        log.0.close();
        let batch = log.0.next();
        assert_eq!(batch.entries.len(), MAX_TOLD_APART);
        let (told_apart, others): (Vec<_>, Vec<_>) = batch.merged.iter().partition(|merged| merged.are_alike);
        assert_eq!((told_apart.len(), others.len()), (MAX_TOLD_APART, 1));
        let counted: u64 = batch.merged.iter().map(|merged| merged.count).sum();
        assert_eq!(counted + batch.entries.len() as u64, 500);
        assert!(log.0.state().told_apart.is_empty());
    }
}
