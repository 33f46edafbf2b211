//! How many calls of a function may run at once.

mod limit;
mod line;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use frame_registry::{DeclaredOption, FrameOption, frame_option};

pub use self::limit::MaxConcurrent;

use self::line::{Entered, Line};
use super::{Interceptor, Next};
use crate::ctx::Ctx;
use crate::error::{CallError, ErrorKind};
use crate::function::BoxFuture;
use crate::id::FunctionId;
use crate::payload::Payload;
use crate::task::Task;

/// How many calls of the function may run at once, of those that have a limit. In text the number, or a map: see
/// [`MaxConcurrent`].
///
/// Where both the function is registered with a limit and a call has one, the call keeps the narrower: it begins when
/// fewer than that run. Calls wait in line, first come, first served, so one with a narrower limit holds up those behind
/// it. A call that waits until its deadline, or comes when too many wait, fails, of the kind
/// [`Exhausted`](ErrorKind::Exhausted). A function that calls itself waits for itself: give such a call a deadline.
#[frame_option(name = "max_concurrent", plain)]
pub static MAX_CONCURRENT: FrameOption<MaxConcurrent>;

/// Keeps [`MAX_CONCURRENT`].
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Of the functions of which a call runs or waits.
    lines: Mutex<HashMap<FunctionId, Line>>,
}

/// A call that runs, or waits. Dropping it lets the next run.
struct Place<'a> {
    places: &'a Places,
    function: &'a FunctionId,
    ticket: u64,
}

impl Places {
    /// Waits until a call may run, which it may for as long as it has its place.
    async fn place<'a>(
        &'a self,
        function: &'a FunctionId,
        limit: MaxConcurrent,
        ctx: &Ctx,
    ) -> Result<Place<'a>, CallError> {
        let entered =
            self.lines().entry(function.clone()).or_default().enter(limit.calls(), limit.max_waiting());
        let place = |ticket| Place { places: self, function, ticket };
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

    fn lines(&self) -> MutexGuard<'_, HashMap<FunctionId, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let Some(line) = lines.get_mut(self.function) else { return };
        let admitted = line.leave(self.ticket);
        if line.is_empty() {
            lines.remove(self.function);
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
        ctx: &'a Ctx,
        task: Task,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, CallError>> {
        Box::pin(async move {
            let limits = [task.options().get(&MAX_CONCURRENT), next.preset().get(&MAX_CONCURRENT)];
            let Some(limit) = limits.into_iter().flatten().copied().reduce(MaxConcurrent::min) else {
                return next.call(ctx, task).await;
            };
            let _place = self.place(next.function(), limit, ctx).await?;
            next.call(ctx, task).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use frame_registry::App;
    use proptest::prelude::*;
    use tokio::task::JoinSet;
    use tokio::time::sleep;

    use super::*;
    use crate::functions::Functions;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Every call wants its place for some time and gives up at some other, at random, on its own.
        #[test]
        fn calls_that_end_at_any_point_leave_nothing_behind(
            calls in prop::collection::vec((0_u64..20, 1_u32..4, 1_u64..10, 0_u64..12), 1..40),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let places = std::sync::Arc::new(Places::default());
                let root = Functions::new(App::builder().build()).root();
                let mut all = JoinSet::new();
                for (comes, limit, runs, gives_up) in calls {
                    let (places, ctx) = (places.clone(), root.clone());
                    all.spawn(async move {
                        sleep(Duration::from_millis(comes)).await;
                        let function = "app:f".parse().unwrap();
                        let limit = MaxConcurrent::new(limit).unwrap();
                        let call = async {
                            let _place = places.place(&function, limit, &ctx).await.unwrap();
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
