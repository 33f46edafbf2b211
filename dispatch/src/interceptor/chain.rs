//! The interceptors of an app, in order, and the walk through them.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use frame_registry::{DeclaredOption, Options};

use super::Interceptor;
use super::max_concurrent::Places;
use super::rate_limit::RateLimits;
use super::retry::Retries;
use super::seen::Seen;
use super::timeout::Timeouts;
use super::traced::Traces;
use crate::ctx::Ctx;
use crate::entry::Entry;
use crate::error::{CallError, ErrorKind};
use crate::executor;
use crate::function::BoxFuture;
use crate::id::FunctionId;
use crate::nesting::Nesting;
use crate::panics;
use crate::payload::Payload;
use crate::task::Task;

/// What runs around every call, in order.
///
/// Reading never waits; a call that has begun goes on with the interceptors it began with.
pub struct Interceptors {
    chain: ArcSwap<Chain>,
}

/// Sorted by order, then name.
type Chain = Vec<Arc<Link>>;

/// An interceptor, with what is asked of it at every call.
pub(crate) struct Link {
    options: Box<[&'static DeclaredOption]>,
    interceptor: Box<dyn Interceptor>,
}

impl Link {
    fn new(interceptor: impl Interceptor) -> Arc<Self> {
        Arc::new(Self { options: interceptor.options().into(), interceptor: Box::new(interceptor) })
    }

    pub(super) fn name(&self) -> &'static str {
        self.interceptor.name()
    }

    fn place(&self) -> (i32, &'static str) {
        (self.interceptor.order(), self.name())
    }

    pub(super) fn reads(&self, option: &DeclaredOption) -> bool {
        self.options.iter().any(|read| std::ptr::eq(*read, option))
    }

    fn applies(&self, task: &Task) -> Result<bool, CallError> {
        if !self.options.is_empty() && !task.options().iter().any(|set| self.reads(set)) {
            return Ok(false);
        }
        catch_unwind(AssertUnwindSafe(|| self.interceptor.applies(task)))
            .map_err(|panic| CallError::panicked(panics::message(&*panic)))
    }
}

/// An interceptor was not registered; the interceptors are as they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterceptorError {
    /// The name is taken.
    #[error("an interceptor `{name}` is registered already; remove it first, or give this one another name")]
    AlreadyRegistered {
        /// The name.
        name: &'static str,
    },
}

impl Interceptors {
    pub(crate) fn built_in() -> Self {
        let mut chain = vec![
            Link::new(Timeouts),
            Link::new(Retries::new()),
            Link::new(RateLimits::default()),
            Link::new(Places::default()),
            Link::new(Traces),
        ];
        chain.sort_by_key(|link| link.place());
        Self { chain: ArcSwap::from_pointee(chain) }
    }

    /// Adds an interceptor.
    ///
    /// # Errors
    ///
    /// [`InterceptorError::AlreadyRegistered`] if its name is taken.
    pub fn register(&self, interceptor: impl Interceptor) -> Result<(), InterceptorError> {
        let link = Link::new(interceptor);
        let (name, place) = (link.name(), link.place());
        let mut registered = Ok(());
        self.chain.rcu(|chain| {
            let mut copy = Chain::clone(chain);
            registered = if copy.iter().any(|other| other.name() == name) {
                Err(InterceptorError::AlreadyRegistered { name })
            } else {
                let index = copy.partition_point(|other| other.place() < place);
                copy.insert(index, Arc::clone(&link));
                Ok(())
            };
            copy
        });
        registered
    }

    /// Removes an interceptor; says whether it was there.
    pub fn remove(&self, name: &str) -> bool {
        let mut is_removed = false;
        self.chain.rcu(|chain| {
            let mut copy = Chain::clone(chain);
            copy.retain(|link| link.name() != name);
            is_removed = copy.len() < chain.len();
            copy
        });
        is_removed
    }

    /// Their names, from the outermost to the innermost.
    pub fn list(&self) -> Vec<&'static str> {
        self.chain.load().iter().map(|link| link.name()).collect()
    }

    pub(crate) fn load(&self) -> Arc<Chain> {
        Guard::into_inner(self.chain.load())
    }
}

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interceptors ")?;
        f.debug_list().entries(self.list()).finish()
    }
}

/// The rest of a call: the interceptors further inside, and then the function. It can be called any number of times;
/// every time that comes to the function makes a new frame.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    entry: &'a Entry,
    /// Those that the call came to since the last of `seen`.
    come_to: &'a [Arc<Link>],
    rest: &'a [Arc<Link>],
    seen: Option<&'a Seen<'a>>,
    /// That of the function, whichever context an interceptor goes on with.
    nesting: Nesting,
}

impl<'a> Next<'a> {
    pub(crate) const fn new(entry: &'a Entry, chain: &'a [Arc<Link>], nesting: Nesting) -> Self {
        Self { entry, come_to: &[], rest: chain, seen: None, nesting }
    }

    /// The function that is called.
    pub fn function(&self) -> &'a FunctionId {
        &self.entry.id
    }

    /// The options that the function was registered with. A call's options are set over them; a limit that a caller
    /// shall not lift is kept by reading it here.
    pub const fn preset(&self) -> &'a Options {
        &self.entry.options
    }

    /// Goes on with the call, within the bounds of `ctx`.
    ///
    /// # Errors
    ///
    /// As [`Functions::call`](crate::Functions::call).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the function's.
    pub fn call<'b>(&self, ctx: &'b Ctx, task: Task) -> BoxFuture<'b, Result<Payload, CallError>>
    where
        'a: 'b,
    {
        Box::pin(self.run(ctx, task))
    }

    /// The whole call, whose options are merged. Takes the task where it is: it is large, and most calls go straight to
    /// the function.
    pub(crate) async fn start(mut self, ctx: &Ctx, task: &mut Task) -> Result<Payload, CallError> {
        match self.skip(task)? {
            None => self.execute(ctx, task).await,
            Some(interceptor) => {
                let task = mem::replace(task, Task::new(task.function.clone()));
                let inside = ctx.admitted();
                let call = self.intercept(interceptor, &inside, task);
                // An interceptor may wait for what does not know the bounds, and panic as it is dropped. On the heap, so
                // that calls that go straight to the function do not carry room for it.
                Box::pin(panics::caught(async || ctx.bound(call).await?)).await
            }
        }
    }

    async fn run(mut self, ctx: &Ctx, mut task: Task) -> Result<Payload, CallError> {
        if task.function != *self.entry.id {
            return Err(CallError::new(
                ErrorKind::Internal,
                format!(
                    "an interceptor went on with a call of `{}`; what it calls itself goes through `Ctx::call`",
                    task.function
                ),
            ));
        }
        match self.skip(&task)? {
            None => self.execute(ctx, &mut task).await,
            Some(interceptor) => self.intercept(interceptor, ctx, task).await,
        }
    }

    /// Comes to the next one that applies; those behind it are left.
    fn skip(&mut self, task: &Task) -> Result<Option<&'a dyn Interceptor>, CallError> {
        let all = self.rest;
        while let Some((link, rest)) = self.rest.split_first() {
            self.rest = rest;
            self.come_to = &all[..all.len() - rest.len()];
            if link.applies(task)? {
                return Ok(Some(&*link.interceptor));
            }
        }
        Ok(None)
    }

    async fn intercept(
        self,
        interceptor: &dyn Interceptor,
        ctx: &Ctx,
        task: Task,
    ) -> Result<Payload, CallError> {
        let options = task.options().clone();
        let seen = Seen { links: self.come_to, options: &options, outer: self.seen };
        interceptor.intercept(ctx, task, Next { come_to: &[], seen: Some(&seen), ..self }).await
    }

    async fn execute(&self, ctx: &Ctx, task: &mut Task) -> Result<Payload, CallError> {
        Seen { links: self.come_to, options: task.options(), outer: self.seen }.check()?;
        executor::execute(self.entry, ctx, self.nesting, task).await
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rest.iter().map(|link| link.name())).finish()
    }
}
