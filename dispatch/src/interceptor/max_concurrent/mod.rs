//! How many calls of a function may run at once.

mod limit;
mod line;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use frame_registry::{DeclaredOption, FrameOption, frame_option};
use futures_core::future::BoxFuture;

pub use self::limit::MaxConcurrent;

use self::line::{Entered, Line};
use super::{Interceptor, Next};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::held::{Hold, LimitId};
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

/// Keeps [`MAX_CONCURRENT`].
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Those in which a call runs or waits; so there are never more than two for each call.
    lines: Mutex<HashMap<Key, Line>>,
}

/// Whose line it is: that of a function or, with a number, that of those of its calls that say this limit.
type Key = (FunctionId, Option<u32>);

/// A call that runs, or waits. Dropping it lets the next run.
struct Place<'a> {
    places: &'a Places,
    line: Key,
    id: LimitId,
    ticket: u64,
    hold: Option<Hold>,
}

impl Places {
    /// Waits until a call may run, which it may for as long as it has these places: the one among those that say what it
    /// says itself, and that among all calls of the function.
    async fn admit(
        &self,
        function: &FunctionId,
        preset: Option<MaxConcurrent>,
        own: Option<MaxConcurrent>,
        ctx: &CallContext,
    ) -> Result<[Option<Place<'_>>; 2], CallError> {
        let narrower = own.filter(|own| preset.is_none_or(|preset| own.calls() < preset.calls()));
        let within = |limit: MaxConcurrent| {
            [preset, own].into_iter().flatten().fold(limit, MaxConcurrent::waiting_within)
        };
        // The call's own first: whoever waits in the function's line holds up all that come behind.
        let own = match narrower.map(within) {
            Some(limit) => Some(self.place((function.clone(), Some(limit.calls())), limit, ctx).await?),
            None => None,
        };
        let shared = match preset.map(within) {
            Some(limit) => Some(self.place((function.clone(), None), limit, ctx).await?),
            None => None,
        };
        Ok([own, shared])
    }

    /// Waits for a place in a line.
    async fn place(
        &self,
        line: Key,
        limit: MaxConcurrent,
        ctx: &CallContext,
    ) -> Result<Place<'_>, CallError> {
        let (id, entered) = {
            let mut lines = self.lines();
            let line = lines.entry(line.clone()).or_default();
            if !line.has_room(limit.calls()) && ctx.held().contains(line.id()) {
                return Err(own_chain(limit));
            }
            (line.id(), line.enter(limit.calls(), limit.max_waiting()))
        };
        let place = |ticket| Place { places: self, line, id, ticket, hold: None };
        match entered {
            Entered::Runs { ticket } => Ok(place(ticket)),
            Entered::Waits { ticket, admission } => {
                let place = place(ticket);
                let Err(_admitted) = ctx.bound(admission).await.map_err(|ended| waited(ended, limit))?;
                Ok(place)
            }
            Entered::Full => Err(full(limit)),
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Key, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// The context of a call that has this place: calls made through it know that their chain has it.
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

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.places.lines();
        let Some(line) = lines.get_mut(&self.line) else { return };
        let admitted = line.leave(self.ticket);
        if line.is_empty() {
            lines.remove(&self.line);
        }
        // Whoever is woken may be woken right here.
        drop(lines);
        drop(admitted);
    }
}

impl Interceptor for Places {
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
            let mut places = self.admit(next.function(), preset, own, ctx).await?;
            let ctx = places.iter_mut().flatten().fold(ctx.clone(), |ctx, place| place.context(ctx));
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
                let (places, running) = (Arc::new(Places::default()), Arc::new(Running::default()));
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
                assert!(places.lines().is_empty());
            });
        }
    }
}
