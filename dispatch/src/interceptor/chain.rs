//! The interceptors of an app, in order, and the walk through them.

use std::fmt;
use std::mem;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use frame_registry::{OptionKind, Options};

use super::Interceptor;
use crate::ctx::Ctx;
use crate::entry::Entry;
use crate::error::CallError;
use crate::executor;
use crate::function::BoxFuture;
use crate::payload::Payload;
use crate::task::Task;

/// What runs around every call, in order.
///
/// Reading never waits; a call that has begun goes on with the interceptors it began with.
pub struct Interceptors {
    chain: ArcSwap<Chain>,
}

/// Sorted by order, then name.
type Chain = Vec<Arc<dyn Interceptor>>;

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
        Self { chain: ArcSwap::default() }
    }

    /// Adds an interceptor.
    ///
    /// # Errors
    ///
    /// [`InterceptorError::AlreadyRegistered`] if its name is taken.
    pub fn register(&self, interceptor: impl Interceptor) -> Result<(), InterceptorError> {
        let interceptor: Arc<dyn Interceptor> = Arc::new(interceptor);
        let name = interceptor.name();
        let place = (interceptor.order(), name);
        let mut registered = Ok(());
        self.chain.rcu(|chain| {
            let mut copy = Chain::clone(chain);
            registered = if copy.iter().any(|other| other.name() == name) {
                Err(InterceptorError::AlreadyRegistered { name })
            } else {
                let index = copy.partition_point(|other| (other.order(), other.name()) < place);
                copy.insert(index, Arc::clone(&interceptor));
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
            copy.retain(|interceptor| interceptor.name() != name);
            is_removed = copy.len() < chain.len();
            copy
        });
        is_removed
    }

    /// Their names, from the outermost to the innermost.
    pub fn list(&self) -> Vec<&'static str> {
        self.chain.load().iter().map(|interceptor| interceptor.name()).collect()
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
    chain: &'a [Arc<dyn Interceptor>],
    rest: &'a [Arc<dyn Interceptor>],
}

impl<'a> Next<'a> {
    pub(crate) const fn new(entry: &'a Entry, chain: &'a [Arc<dyn Interceptor>]) -> Self {
        Self { entry, chain, rest: chain }
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
    pub fn call<'b>(&'b self, ctx: &'b Ctx, task: Task) -> BoxFuture<'b, Result<Payload, CallError>> {
        Box::pin(self.run(ctx, task))
    }

    /// The whole call, whose options are merged. Takes the task where it is: it is large, and most calls go straight to
    /// the function.
    pub(crate) async fn start(mut self, ctx: &Ctx, task: &mut Task) -> Result<Payload, CallError> {
        match self.skip(task) {
            None => self.execute(ctx, task).await,
            Some(interceptor) => {
                let task = mem::replace(task, Task::new(task.function.clone()));
                // An interceptor may wait for what does not know the bounds.
                ctx.bound(interceptor.intercept(ctx, task, self)).await?
            }
        }
    }

    async fn run(mut self, ctx: &Ctx, mut task: Task) -> Result<Payload, CallError> {
        match self.skip(&task) {
            None => self.execute(ctx, &mut task).await,
            Some(interceptor) => interceptor.intercept(ctx, task, self).await,
        }
    }

    /// The next one that applies; those behind it are left.
    fn skip(&mut self, task: &Task) -> Option<&'a dyn Interceptor> {
        while let Some((interceptor, rest)) = self.rest.split_first() {
            self.rest = rest;
            if interceptor.applies(task) {
                return Some(&**interceptor);
            }
        }
        None
    }

    async fn execute(&self, ctx: &Ctx, task: &mut Task) -> Result<Payload, CallError> {
        self.check(task.options())?;
        executor::execute(self.entry, ctx, task).await
    }

    /// Refuses options that somebody gave to have something done, and that nobody reads.
    fn check(&self, options: &Options) -> Result<(), CallError> {
        let mut plain = options.iter().filter(|option| option.kind() == OptionKind::Plain);
        let unread = plain.find(|set| {
            let mut read = self.chain.iter().flat_map(|interceptor| interceptor.options());
            !read.any(|read| std::ptr::eq(*read, *set))
        });
        match unread {
            None => Ok(()),
            Some(option) => Err(CallError::invalid(format!(
                "the option `{}` is set, and no interceptor that reads it is registered; register one, or leave the \
                 option out",
                option.name()
            ))),
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rest.iter().map(|interceptor| interceptor.name())).finish()
    }
}
