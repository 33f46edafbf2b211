//! How many calls of one function run at once in an engine, and the instances that they run in.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::bounds::{Hold, LimitId};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};

/// How large the pool of a function is.
///
/// ```
/// # use frame_dispatch::PoolConfig;
/// let config = PoolConfig::default().with_size(16).with_idle(4).with_warm(2);
/// assert_eq!((config.size, config.idle, config.warm), (16, 4, 2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PoolConfig {
    /// How many calls run at once; at least one. Further calls wait for their turn, first come first served: until
    /// their deadline, and no longer than `max_wait`. A call would wait for itself if one of its callers runs in the same
    /// pool, so it is refused at once instead of waiting. Default: 64.
    pub size: usize,
    /// How many instances that no call runs in are kept for the next. Default: 8.
    pub idle: usize,
    /// How many instances are made before the first call. Default: 0: a function that is never called costs no instance,
    /// and the first call waits until one is made.
    pub warm: usize,
    /// How long a call waits for its turn at most. Default: 30 seconds.
    #[serde(with = "humantime_serde")]
    pub max_wait: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { size: 64, idle: 8, warm: 0, max_wait: Duration::from_secs(30) }
    }
}

impl PoolConfig {
    /// The same, of another [`size`](Self::size).
    #[must_use]
    pub const fn with_size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// The same, with another number of [`idle`](Self::idle) instances.
    #[must_use]
    pub const fn with_idle(mut self, idle: usize) -> Self {
        self.idle = idle;
        self
    }

    /// The same, with another number of [`warm`](Self::warm) instances.
    #[must_use]
    pub const fn with_warm(mut self, warm: usize) -> Self {
        self.warm = warm;
        self
    }

    /// The same, with another [`max_wait`](Self::max_wait).
    #[must_use]
    pub const fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }
}

/// What a pool does and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatistics {
    /// How many calls can run at once.
    pub size: usize,
    /// How many calls run.
    pub running: usize,
    /// How many calls wait for their turn.
    pub waiting: usize,
    /// How many instances wait for a call.
    pub idle: usize,
    /// How many calls got their turn so far.
    pub admitted: u64,
    /// How many calls so far got no turn in time, or were refused because their own callers run in the pool.
    pub refused: u64,
    /// How many instances were made so far.
    pub built: u64,
    /// How many instances were thrown away so far: because a call was ended in them, or there were enough.
    pub discarded: u64,
}

/// Turns for calls, and instances to reuse.
pub(crate) struct Pool<T> {
    id: LimitId,
    /// What errors call its instances.
    instances: &'static str,
    config: PoolConfig,
    turns: Semaphore,
    /// The last used is the first reused.
    idle: Mutex<Vec<T>>,
    waiting: AtomicUsize,
    admitted: AtomicU64,
    refused: AtomicU64,
    built: AtomicU64,
    discarded: AtomicU64,
}

impl<T> Pool<T> {
    /// A pool of a function, that `warm` instances wait in.
    pub(crate) fn new(config: PoolConfig, warm: Vec<T>) -> Arc<Self> {
        Self::of("its instances", config, warm)
    }

    /// A pool whose instances errors call `instances`.
    pub(crate) fn of(instances: &'static str, config: PoolConfig, warm: Vec<T>) -> Arc<Self> {
        let size = config.size.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            id: LimitId::next(),
            instances,
            config: PoolConfig { size, ..config },
            turns: Semaphore::new(size),
            waiting: AtomicUsize::new(0),
            admitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            built: AtomicU64::new(warm.len() as u64),
            discarded: AtomicU64::new(0),
            idle: Mutex::new(warm),
        })
    }

    /// Waits for a turn, unless the chain of calls that `ctx` is part of has one already.
    pub(crate) async fn turn(self: &Arc<Self>, ctx: &CallContext) -> Result<Turn<T>, CallError> {
        self.turn_within(self.config.max_wait, ctx).await
    }

    /// Waits for a turn no longer than `max_wait`.
    pub(crate) async fn turn_within(
        self: &Arc<Self>,
        max_wait: Duration,
        ctx: &CallContext,
    ) -> Result<Turn<T>, CallError> {
        let permit = match self.turns.try_acquire() {
            Ok(permit) => permit,
            Err(_) if ctx.held().contains(self.id) => return Err(self.own_chain()),
            Err(_) => self.wait(max_wait, ctx).await?,
        };
        // The turn has the pool, and puts it back.
        permit.forget();
        self.admitted.fetch_add(1, Ordering::Relaxed);
        let has_idle = self.config.idle.max(self.config.warm) > 0;
        let instance = if has_idle { self.idle().pop() } else { None };
        Ok(Turn { pool: Arc::clone(self), instance, is_used: false, hold: None })
    }

    /// The failure of a call that would wait for its own callers.
    fn own_chain(&self) -> CallError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let message = format!(
            "{} busy, and a caller of this call runs in one of them; raise their number, or limit the recursion",
            self.all("is", "are")
        );
        CallError::new(ErrorKind::Exhausted, message).with_retryable(false)
    }

    /// All its instances, in a message, and the verb that goes with how many these are.
    fn all(&self, singular: &str, plural: &str) -> String {
        match self.config.size {
            1 => format!("the only one of {} {singular}", self.instances),
            size => format!("all {size} of {} {plural}", self.instances),
        }
    }

    async fn wait(&self, max_wait: Duration, ctx: &CallContext) -> Result<SemaphorePermit<'_>, CallError> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let longest = Instant::now().checked_add(max_wait);
        let until = [longest, ctx.deadline()].into_iter().flatten().min();
        let turn = self.turns.acquire();
        let permit = match until {
            Some(until) => timeout_at(until, turn).await.ok(),
            None => Some(turn.await),
        };
        // Nothing closes the semaphore.
        permit.and_then(Result::ok).ok_or_else(|| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let message = format!("{} busy for as long as it could wait", self.all("was", "were"));
            CallError::new(ErrorKind::Exhausted, message)
        })
    }

    pub(crate) fn statistics(&self) -> PoolStatistics {
        PoolStatistics {
            size: self.config.size,
            running: self.config.size - self.turns.available_permits(),
            waiting: self.waiting.load(Ordering::Relaxed),
            idle: self.idle().len(),
            admitted: self.admitted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            built: self.built.load(Ordering::Relaxed),
            discarded: self.discarded.load(Ordering::Relaxed),
        }
    }

    /// Keeps an instance for another call. Returns it if there are enough.
    fn keep(&self, instance: T) -> Option<T> {
        let mut idle = self.idle();
        if idle.len() >= self.config.idle {
            return Some(instance);
        }
        idle.push(instance);
        None
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<T>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.statistics().fmt(f)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call's turn, until it is dropped, and the instance it runs in. Once that is used it is thrown away, unless it is given back.
pub(crate) struct Turn<T> {
    pool: Arc<Pool<T>>,
    instance: Option<T>,
    /// Whether anything may have run in the instance.
    is_used: bool,
    hold: Option<Hold>,
}

impl<T> Turn<T> {
    /// The context of what runs in this turn: calls made through it know that their chain has the turn.
    #[cfg(feature = "lua")]
    pub(crate) fn context(&mut self, ctx: CallContext) -> CallContext {
        self.hold(ctx, None)
    }

    /// The same for what runs in this turn and in one of another pool, which ends with it.
    #[cfg(feature = "wasm")]
    pub(crate) fn context_with<U>(&mut self, other: &Turn<U>, ctx: CallContext) -> CallContext {
        self.hold(ctx, Some(other.pool.id))
    }

    fn hold(&mut self, ctx: CallContext, second: Option<LimitId>) -> CallContext {
        let (ctx, hold) = ctx.holding(self.pool.id, second);
        self.hold = Some(hold);
        ctx
    }

    /// The instance, made with `build` if none waited.
    pub(crate) fn instance<E>(&mut self, build: impl FnOnce() -> Result<T, E>) -> Result<&mut T, E> {
        self.is_used = true;
        if self.instance.is_none() {
            self.instance = Some(build()?);
            self.pool.built.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.instance.as_mut().expect("it was made just now"))
    }

    /// Ends the turn, and keeps the instance for another.
    #[cfg(any(feature = "lua", test))]
    pub(crate) fn give_back(mut self) {
        self.is_used = false;
    }
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            let surplus = if self.is_used { Some(instance) } else { self.pool.keep(instance) };
            if surplus.is_some() {
                self.pool.discarded.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Before the call that gets the turn can look for its own.
        self.hold = None;
        self.pool.turns.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use frame_registry::App;

    use super::*;
    use crate::functions::Functions;

    fn ctx() -> CallContext {
        Functions::new(App::builder().build()).root()
    }

    fn build<T>(instance: T) -> impl FnOnce() -> Result<T, Infallible> {
        || Ok(instance)
    }

    #[tokio::test]
    async fn the_last_instance_used_is_the_first_reused_and_no_more_than_idle_are_kept() {
        let pool = Pool::new(PoolConfig::default().with_size(3).with_idle(2), vec!["warm"]);
        let ctx = ctx();
        let (mut first, mut second, mut third) =
            (pool.turn(&ctx).await.unwrap(), pool.turn(&ctx).await.unwrap(), pool.turn(&ctx).await.unwrap());
        assert_eq!(first.instance(build("new")), Ok(&mut "warm"));
        assert_eq!(second.instance(build("second")), Ok(&mut "second"));
        assert_eq!(third.instance(build("third")), Ok(&mut "third"));
        assert_eq!((pool.statistics().running, pool.statistics().built), (3, 3));
        first.give_back();
        second.give_back();
        third.give_back();
        assert_eq!(pool.turn(&ctx).await.unwrap().instance(build("new")), Ok(&mut "second"));
        let PoolStatistics { running, idle, built, discarded, admitted, .. } = pool.statistics();
        assert_eq!(
            (running, idle, built, discarded, admitted),
            (0, 1, 3, 2, 4),
            "what is not given back is gone"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_until_the_deadline_and_no_longer_than_configured() {
        let pool: Arc<Pool<()>> =
            Pool::new(PoolConfig::default().with_size(1).with_max_wait(Duration::from_secs(9)), vec![]);
        let ctx = ctx();
        let turn = pool.turn(&ctx).await.unwrap();
        let began = Instant::now();
        let error = pool.turn(&ctx.with_timeout(Duration::from_secs(2))).await.err().unwrap();
        assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Exhausted, Duration::from_secs(2)));
        assert!(error.is_retryable());
        let error = pool.turn(&ctx).await.err().unwrap();
        assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Exhausted, Duration::from_secs(11)));
        assert_eq!((pool.statistics().refused, pool.statistics().waiting), (2, 0));
        drop(turn);
        assert!(pool.turn(&ctx).await.is_ok());
    }

    #[tokio::test]
    async fn turns_come_first_come_first_served_and_a_waiter_that_leaves_takes_none() {
        let pool: Arc<Pool<()>> = Pool::new(PoolConfig::default().with_size(0), vec![]);
        assert_eq!(pool.statistics().size, 1, "none at all would be a function that cannot be called");
        let ctx = ctx();
        let turn = pool.turn(&ctx).await.unwrap();
        let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
        let waiter = |number| {
            let (pool, ctx, served) = (Arc::clone(&pool), ctx.clone(), served.clone());
            tokio::spawn(async move {
                let turn = pool.turn(&ctx).await.unwrap();
                served.send(number).unwrap();
                drop(turn);
            })
        };
        let mut waiters = Vec::new();
        for number in 0..4 {
            waiters.push(waiter(number));
            while pool.statistics().waiting <= number {
                tokio::task::yield_now().await;
            }
        }
        waiters[1].abort();
        while pool.statistics().waiting > 3 {
            tokio::task::yield_now().await;
        }
        drop(turn);
        assert_eq!([order.recv().await, order.recv().await, order.recv().await], [Some(0), Some(2), Some(3)]);
        while pool.statistics().running > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.statistics().waiting, 0);
    }
}
