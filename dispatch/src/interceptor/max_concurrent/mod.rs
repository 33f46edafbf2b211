//! How many calls of a function may run at once.

mod queue;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use frame_registry::{DeclaredOption, FrameOption, frame_option};
use futures_core::future::BoxFuture;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use self::queue::{Entered, PermitQueue};
use super::{Interceptor, Next, OutOfRange};
use crate::bounds::{Hold, LimitId};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::FunctionId;
use crate::task::Task;

/// How many calls of the function may run at once. In text the number, or a map: see [`MaxConcurrent`].
///
/// What a function is registered with all its calls keep, together. A narrower limit that a call says, the calls of the
/// function that say the same number keep together, and the function's limit beside it: a call can narrow the limit for
/// those, not for others, and widen it for none.
///
/// Calls wait in line, first come, first served: for a limit of their own in a line of its own, and only then, with all
/// others, for the function's. In neither does a call wait behind more than both the function and the call allow. A call
/// that waits until its deadline, or comes when too many wait, fails, of the kind [`Exhausted`](ErrorKind::Exhausted).
///
/// A call would wait for itself if one of its callers keeps the same limit, as where a function calls itself. It is refused
/// at once instead, of the same kind, and is not retryable. Two functions that call each other can wait for each other all
/// the same, if two chains of calls begin at different ends: give such calls a deadline.
#[frame_option(name = "max_concurrent", dispatcher)]
pub static MAX_CONCURRENT: FrameOption<MaxConcurrent>;

/// The value of [`MAX_CONCURRENT`]: so many calls at once, and so many that wait.
///
/// In text it is the number of calls, or a map:
///
/// ```
/// use frame_dispatch::interceptor::{MAX_CONCURRENT, MaxConcurrent};
/// use frame_registry::Options;
/// use serde_json::json;
///
/// let options = Options::from_json(&json!({ "max_concurrent": 8 }))?;
/// assert_eq!(options.get(&MAX_CONCURRENT), Some(&MaxConcurrent::new(8)?));
///
/// let options = Options::from_json(&json!({ "max_concurrent": { "calls": 8, "max_waiting": 100 } }))?;
/// assert_eq!(options.get(&MAX_CONCURRENT), Some(&MaxConcurrent::new(8)?.with_max_waiting(100)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxConcurrent {
    calls: u32,
    max_waiting: Option<u32>,
}

impl MaxConcurrent {
    /// At most `calls` at once; any number may wait.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::NoneAtOnce`] for zero.
    pub const fn new(calls: u32) -> Result<Self, OutOfRange> {
        if calls == 0 { Err(OutOfRange::NoneAtOnce) } else { Ok(Self { calls, max_waiting: None }) }
    }

    /// Lets a call wait only in a line where fewer than so many do; with zero none waits.
    #[must_use]
    pub const fn with_max_waiting(mut self, max_waiting: u32) -> Self {
        self.max_waiting = Some(max_waiting);
        self
    }

    /// How many at once.
    pub const fn calls(&self) -> u32 {
        self.calls
    }

    /// How many may wait.
    pub const fn max_waiting(&self) -> Option<u32> {
        self.max_waiting
    }

    /// The same calls at once, with no more waiting than `other` lets either.
    fn waiting_within(self, other: Self) -> Self {
        let max_waiting = [self.max_waiting, other.max_waiting].into_iter().flatten().min();
        Self { max_waiting, ..self }
    }
}

impl<'de> Deserialize<'de> for MaxConcurrent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MaxConcurrentVisitor;

        impl<'de> Visitor<'de> for MaxConcurrentVisitor {
            type Value = MaxConcurrent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of calls, or a map such as { calls = 8, max_waiting = 100 }")
            }

            fn visit_u64<E: Error>(self, calls: u64) -> Result<MaxConcurrent, E> {
                // More than can be counted is no narrower limit than what can.
                MaxConcurrent::new(u32::try_from(calls).unwrap_or(u32::MAX)).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, calls: i64) -> Result<MaxConcurrent, E> {
                let counted = u64::try_from(calls);
                counted
                    .map_err(|_| E::invalid_value(Unexpected::Signed(calls), &self))
                    .and_then(|calls| self.visit_u64(calls))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MaxConcurrent, A::Error> {
                let fields = MaxConcurrentFields::deserialize(MapAccessDeserializer::new(map))?;
                let limit = MaxConcurrent::new(fields.calls).map_err(A::Error::custom)?;
                Ok(MaxConcurrent { max_waiting: fields.max_waiting, ..limit })
            }
        }

        deserializer.deserialize_any(MaxConcurrentVisitor)
    }
}

/// The limit as a map.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaxConcurrentFields {
    calls: u32,
    max_waiting: Option<u32>,
}

/// Keeps [`MAX_CONCURRENT`].
#[derive(Debug, Default)]
pub(super) struct ConcurrencyLimits {
    /// Those in which a call runs or waits; so there are never more than two for each call.
    queues: Mutex<HashMap<QueueKey, PermitQueue>>,
}

/// Queue key: the function, plus the limit if the call sets one.
type QueueKey = (FunctionId, Option<u32>);

/// A permit, or a place in the queue for one. Dropping it admits the next call.
struct ConcurrencyPermit<'a> {
    limits: &'a ConcurrencyLimits,
    key: QueueKey,
    id: LimitId,
    ticket: u64,
    hold: Option<Hold>,
}

impl ConcurrencyLimits {
    /// Waits until a call may run, which it may while it holds the permits: that of its own limit, and that of the function's.
    async fn admit(
        &self,
        function: &FunctionId,
        preset: Option<MaxConcurrent>,
        own: Option<MaxConcurrent>,
        ctx: &CallContext,
    ) -> Result<[Option<ConcurrencyPermit<'_>>; 2], CallError> {
        let narrower = own.filter(|own| preset.is_none_or(|preset| own.calls() < preset.calls()));
        let within = |limit: MaxConcurrent| {
            [preset, own].into_iter().flatten().fold(limit, MaxConcurrent::waiting_within)
        };
        // The call's own first: a call that waits in the function's queue holds up all after it.
        let own = match narrower.map(within) {
            Some(limit) => Some(self.acquire((function.clone(), Some(limit.calls())), limit, ctx).await?),
            None => None,
        };
        let shared = match preset.map(within) {
            Some(limit) => Some(self.acquire((function.clone(), None), limit, ctx).await?),
            None => None,
        };
        Ok([own, shared])
    }

    /// Waits for a permit.
    async fn acquire(
        &self,
        key: QueueKey,
        limit: MaxConcurrent,
        ctx: &CallContext,
    ) -> Result<ConcurrencyPermit<'_>, CallError> {
        let (id, entered) = {
            let mut queues = self.queues();
            let queue = queues.entry(key.clone()).or_default();
            if !queue.has_room(limit.calls()) && ctx.held().contains(queue.id()) {
                return Err(own_chain(limit));
            }
            (queue.id(), queue.enter(limit.calls(), limit.max_waiting()))
        };
        let permit = |ticket| ConcurrencyPermit { limits: self, key, id, ticket, hold: None };
        match entered {
            Entered::Runs { ticket } => Ok(permit(ticket)),
            Entered::Waits { ticket, admission } => {
                let permit = permit(ticket);
                let Err(_admitted) = ctx.bound(admission).await.map_err(|ended| waited(ended, limit))?;
                Ok(permit)
            }
            Entered::Full => Err(full(limit)),
        }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<QueueKey, PermitQueue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConcurrencyPermit<'_> {
    /// Returns the context of a call that holds this permit: calls through it know that their chain holds it.
    fn context(&mut self, ctx: CallContext) -> CallContext {
        let (ctx, hold) = ctx.holding(self.id, None);
        self.hold = Some(hold);
        ctx
    }
}

/// The failure of a call that would wait for its own callers.
fn own_chain(limit: MaxConcurrent) -> CallError {
    let message = format!(
        "its limit of {} at once is reached, and a caller of this call counts there; raise the limit, or end the recursion \
         earlier",
        limit.calls()
    );
    CallError::new(ErrorKind::Exhausted, message).with_retryable(false)
}

fn waited(ended: CallError, limit: MaxConcurrent) -> CallError {
    if ended.kind() != ErrorKind::Deadline {
        return ended;
    }
    let message = format!("no room within its limit of {} at once by its deadline", limit.calls());
    CallError::new(ErrorKind::Exhausted, message)
}

fn full(limit: MaxConcurrent) -> CallError {
    let (calls, waiting) = (limit.calls(), limit.max_waiting().unwrap_or_default());
    let message = format!("no room within its limit of {calls} at once, nor in its line of {waiting}");
    CallError::new(ErrorKind::Exhausted, message)
}

impl Drop for ConcurrencyPermit<'_> {
    fn drop(&mut self) {
        let mut queues = self.limits.queues();
        let Some(queue) = queues.get_mut(&self.key) else { return };
        let admitted = queue.leave(self.ticket);
        if queue.is_empty() {
            queues.remove(&self.key);
        }
        // A woken call may run right here.
        drop(queues);
        drop(admitted);
    }
}

impl Interceptor for ConcurrencyLimits {
    fn name(&self) -> &'static str {
        "max_concurrent"
    }

    fn order(&self) -> i32 {
        400
    }

    fn options(&self) -> &[&'static DeclaredOption] {
        const { &[MAX_CONCURRENT.declared()] }
    }

    fn intercept<'a>(
        &'a self,
        ctx: &'a CallContext,
        task: Task,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, CallError>> {
        Box::pin(async move {
            let preset = next.preset().get(&MAX_CONCURRENT).copied();
            let own = task.options().get(&MAX_CONCURRENT).copied();
            let mut permits = self.admit(next.function(), preset, own, ctx).await?;
            let ctx = permits.iter_mut().flatten().fold(ctx.clone(), |ctx, permit| permit.context(ctx));
            next.call(&ctx, task).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use frame_registry::App;
    use proptest::prelude::*;
    use tokio::task::JoinSet;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::functions::Functions;

    /// How many run, of those that say a limit themselves by that limit, and of all.
    #[derive(Default)]
    struct Running(Mutex<HashMap<Option<u32>, u32>>);

    struct Runs<'a>(&'a Running, Option<u32>);

    impl Running {
        fn enter(&self, own: Option<u32>, preset: u32) -> [Runs<'_>; 2] {
            let enter = |limit, most| {
                let runs = Runs(self, limit);
                let now = {
                    let mut running = self.0.lock().unwrap();
                    let now = running.entry(limit).or_default();
                    *now += 1;
                    *now
                };
                assert!(now <= most, "{now} of {limit:?} run, and may be {most}");
                runs
            };
            // Those that say nothing have no limit but that of all.
            [enter(own.or(Some(u32::MAX)), own.unwrap_or(u32::MAX)), enter(None, preset)]
        }
    }

    impl Drop for Runs<'_> {
        fn drop(&mut self) {
            *self.0.0.lock().unwrap().get_mut(&self.1).unwrap() -= 1;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Every call wants its places for some time and gives up at some other, at random, on its own.
        #[test]
        fn calls_that_end_at_any_point_keep_all_limits_and_leave_nothing_behind(
            // With the widest, those that have no limit of their own wait for nothing.
            preset in prop_oneof![1_u32..5, Just(1000)],
            calls in prop::collection::vec(
                (0_u64..20, prop::option::of(1_u32..4), 1_u64..10, 0_u64..12),
                1..40,
            ),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let (places, running) = (Arc::new(ConcurrencyLimits::default()), Arc::new(Running::default()));
                let root = Functions::new(App::builder().build()).root();
                let mut all = JoinSet::new();
                for (comes, own, runs, gives_up) in calls {
                    let (places, running, ctx) = (places.clone(), running.clone(), root.clone());
                    all.spawn(async move {
                        sleep(Duration::from_millis(comes)).await;
                        let function = "app:f".parse().unwrap();
                        let limit = |calls| MaxConcurrent::new(calls).unwrap();
                        let came = Instant::now();
                        let call = async {
                            let _places =
                                places.admit(&function, Some(limit(preset)), own.map(limit), &ctx).await.unwrap();
                            let _runs = running.enter(own, preset);
                            assert!(own.is_some() || preset < 1000 || came.elapsed().is_zero());
                            sleep(Duration::from_millis(runs)).await;
                        };
                        // Dropped wherever it is then.
                        let _ = tokio::time::timeout(Duration::from_millis(gives_up), call).await;
                    });
                }
                while let Some(done) = all.join_next().await {
                    done.unwrap();
                }
                assert!(places.queues().is_empty());
            });
        }
    }
}
