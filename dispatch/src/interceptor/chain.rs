//! The interceptors of an app, in order, and the walk through them.

use std::fmt;
use std::iter::successors;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, Guard};
use frame_registry::{DeclaredOption, OptionKind, Options};
use futures_core::future::BoxFuture;

use super::Interceptor;
use super::max_concurrent::ConcurrencyLimits;
use super::rate_limit::RateLimits;
use super::retry::Retries;
use super::timeout::Timeouts;
use super::traced::Traces;
use crate::context::{CallContext, PreparedCall};
use crate::error::{CallError, ErrorKind};
use crate::function::FunctionEntry;
use crate::nesting::Nesting;
use crate::panics;
use crate::payload::Payload;
use crate::pid::FunctionId;
use crate::task::Task;

/// What runs around every call, in order.
///
/// Reading never waits; a call that has begun goes on with the interceptors it began with.
pub struct Interceptors {
    chain: ArcSwap<Chain>,
    /// Counts the interceptors that may apply to a call without dispatcher options. Never less than there are in the chain.
    unconditional: AtomicUsize,
}

/// Sorted by order, then name.
type Chain = Vec<Arc<Link>>;

/// An interceptor, with what is asked of it at every call.
struct Link {
    options: Box<[&'static DeclaredOption]>,
    interceptor: Box<dyn Interceptor>,
}

impl Link {
    fn new(interceptor: impl Interceptor) -> Arc<Self> {
        Arc::new(Self { options: interceptor.options().into(), interceptor: Box::new(interceptor) })
    }

    fn name(&self) -> &'static str {
        self.interceptor.name()
    }

    fn position(&self) -> (i32, &'static str) {
        (self.interceptor.order(), self.name())
    }

    fn reads(&self, option: &DeclaredOption) -> bool {
        self.options.iter().any(|read| std::ptr::eq(*read, option))
    }

    /// Returns whether it may apply to calls that set no dispatcher option.
    fn is_unconditional(&self) -> bool {
        self.options.is_empty() || self.options.iter().any(|option| option.kind() != OptionKind::Dispatcher)
    }

    fn applies(&self, task: &Task) -> Result<bool, CallError> {
        if !self.options.is_empty() && !task.options().iter().any(|set| self.reads(set)) {
            return Ok(false);
        }
        catch_unwind(AssertUnwindSafe(|| self.interceptor.applies(task)))
            .map_err(|panic| CallError::panicked(panics::message(&*panic)))
    }
}

/// An interceptor was not registered or replaced. The interceptors are unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterceptorError {
    /// The name is taken.
    #[error(
        "an interceptor `{name}` is registered already; unregister it first, or give this one another name"
    )]
    AlreadyRegistered {
        /// The name.
        name: &'static str,
    },
    /// There is no interceptor of the name to replace.
    #[error("no interceptor `{name}` is registered; register this one")]
    NotRegistered {
        /// The name.
        name: &'static str,
    },
}

fn remove(chain: &mut Chain, name: &str) -> Option<Arc<Link>> {
    let index = chain.iter().position(|link| link.name() == name)?;
    Some(chain.remove(index))
}

impl Interceptors {
    pub(crate) fn built_in() -> Self {
        let mut chain = vec![
            Link::new(Timeouts),
            Link::new(Retries::new()),
            Link::new(RateLimits::default()),
            Link::new(ConcurrencyLimits::default()),
            Link::new(Traces),
        ];
        chain.sort_by_key(|link| link.position());
        Self { chain: ArcSwap::from_pointee(chain), unconditional: AtomicUsize::new(0) }
    }

    /// Registers an interceptor.
    ///
    /// # Errors
    ///
    /// [`InterceptorError::AlreadyRegistered`] if its name is taken.
    pub fn register(&self, interceptor: impl Interceptor) -> Result<(), InterceptorError> {
        self.insert(interceptor, |chain, name| {
            if chain.iter().any(|link| link.name() == name) {
                return Err(InterceptorError::AlreadyRegistered { name });
            }
            Ok(None)
        })
    }

    /// Replaces the interceptor of the same name, in one step. Calls that have begun go on with the old one.
    ///
    /// # Errors
    ///
    /// [`InterceptorError::NotRegistered`] if there is none.
    pub fn replace(&self, interceptor: impl Interceptor) -> Result<(), InterceptorError> {
        self.insert(interceptor, |chain, name| match remove(chain, name) {
            None => Err(InterceptorError::NotRegistered { name }),
            replaced => Ok(replaced),
        })
    }

    /// Inserts an interceptor, if `make_room` for its name succeeds, which returns the one that it replaces.
    fn insert(
        &self,
        interceptor: impl Interceptor,
        make_room: impl Fn(&mut Chain, &'static str) -> Result<Option<Arc<Link>>, InterceptorError>,
    ) -> Result<(), InterceptorError> {
        let link = Link::new(interceptor);
        let (name, position) = (link.name(), link.position());
        // Counted before it is published, so that no call misses it.
        let counted = usize::from(link.is_unconditional());
        self.unconditional.fetch_add(counted, Ordering::AcqRel);
        let mut inserted = Ok(None);
        self.chain.rcu(|chain| {
            let mut copy = Chain::clone(chain);
            inserted = make_room(&mut copy, name);
            if inserted.is_ok() {
                let index = copy.partition_point(|other| other.position() < position);
                copy.insert(index, Arc::clone(&link));
            }
            copy
        });
        match inserted {
            Ok(replaced) => {
                self.forget(replaced.as_ref());
                Ok(())
            }
            Err(error) => {
                self.forget(Some(&link));
                Err(error)
            }
        }
    }

    /// Unregisters an interceptor. Returns whether it was registered.
    pub fn unregister(&self, name: &str) -> bool {
        let mut removed = None;
        self.chain.rcu(|chain| {
            let mut copy = Chain::clone(chain);
            removed = remove(&mut copy, name);
            copy
        });
        self.forget(removed.as_ref());
        removed.is_some()
    }

    /// Counts an interceptor no longer, once it is not in the chain.
    fn forget(&self, link: Option<&Arc<Link>>) {
        let counted = link.is_some_and(|link| link.is_unconditional());
        self.unconditional.fetch_sub(usize::from(counted), Ordering::AcqRel);
    }

    /// Returns whether an interceptor is registered.
    pub fn contains(&self, name: &str) -> bool {
        self.chain.load().iter().any(|link| link.name() == name)
    }

    /// Their names, from the outermost to the innermost.
    pub fn names(&self) -> Vec<&'static str> {
        self.chain.load().iter().map(|link| link.name()).collect()
    }

    /// Prepares a call, whose options are merged. If an interceptor applies, the call takes the task.
    pub(crate) fn prepare<'a>(
        &self,
        entry: Arc<FunctionEntry>,
        caller: &'a CallContext,
        nesting: Nesting,
        task: &mut Task,
    ) -> Result<PreparedCall<'a>, CallError> {
        let is_for_dispatcher = |option: &DeclaredOption| option.kind() == OptionKind::Dispatcher;
        if self.unconditional.load(Ordering::Acquire) == 0 && !task.options.iter().any(is_for_dispatcher) {
            let frame = entry.frame(caller, task)?;
            return Ok(PreparedCall::Direct(entry, frame));
        }
        let chain = Guard::into_inner(self.chain.load());
        let mut next = Next { entry: &entry, come_to: &[], rest: &chain, outer: None, nesting };
        if next.skip(task)?.is_none() {
            next.audit(task.options()).check()?;
            let frame = entry.frame(caller, task)?;
            return Ok(PreparedCall::Direct(entry, frame));
        }
        let at = chain.len() - next.rest.len() - 1;
        let task = mem::replace(task, Task::new(task.function.clone()));
        // On the heap, so that calls that go straight to the function do not carry room for it.
        Ok(PreparedCall::Intercepted(Box::pin(async move {
            let (come_to, rest) = (&chain[..=at], &chain[at + 1..]);
            let next = Next { entry: &entry, come_to, rest, outer: None, nesting };
            let inside = caller.admitted();
            let call = next.intercept(&*chain[at].interceptor, &inside, task);
            // An interceptor may wait for what does not know the bounds, and panic as it is dropped.
            panics::caught(caller.bound(call)).await
        })))
    }
}

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interceptors ")?;
        f.debug_list().entries(self.names()).finish()
    }
}

/// The rest of a call: the interceptors further inside, and then the function. It can be called any number of times;
/// every time that comes to the function makes a new frame.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    entry: &'a FunctionEntry,
    /// Those that the call came to since `outer`.
    come_to: &'a [Arc<Link>],
    rest: &'a [Arc<Link>],
    outer: Option<&'a OptionAudit<'a>>,
    /// That of the function, whichever context an interceptor goes on with.
    nesting: Nesting,
}

impl<'a> Next<'a> {
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
    /// As [`CallContext::call`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the function's.
    pub fn call<'b>(&self, ctx: &'b CallContext, task: Task) -> BoxFuture<'b, Result<Payload, CallError>>
    where
        'a: 'b,
    {
        Box::pin(self.run(ctx, task))
    }

    async fn run(mut self, ctx: &CallContext, mut task: Task) -> Result<Payload, CallError> {
        if task.function != *self.entry.id {
            return Err(CallError::new(
                ErrorKind::Internal,
                format!(
                    "an interceptor went on with a call of `{}`; what it calls itself goes through `CallContext::call`",
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
        ctx: &CallContext,
        task: Task,
    ) -> Result<Payload, CallError> {
        let options = task.options().clone();
        let audit = self.audit(&options);
        interceptor.intercept(ctx, task, Next { come_to: &[], outer: Some(&audit), ..self }).await
    }

    const fn audit<'b>(&self, options: &'b Options) -> OptionAudit<'b>
    where
        'a: 'b,
    {
        OptionAudit { links: self.come_to, options, outer: self.outer }
    }

    async fn execute(&self, ctx: &CallContext, task: &mut Task) -> Result<Payload, CallError> {
        self.audit(task.options()).check()?;
        let frame = self.entry.frame(ctx, task)?;
        ctx.run(self.entry, frame, self.nesting, task).await
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rest.iter().map(|link| link.name())).finish()
    }
}

/// The interceptors that a call came to with the same options: some that it passed by and, unless it came to the function, one
/// that it called. With those further outside it finds options that no interceptor has read.
#[derive(Clone, Copy)]
struct OptionAudit<'a> {
    /// The last is the one that was called.
    links: &'a [Arc<Link>],
    options: &'a Options,
    /// Those further outside.
    outer: Option<&'a OptionAudit<'a>>,
}

impl OptionAudit<'_> {
    /// Refuses dispatcher options that no interceptor has read as they are now, before the function runs.
    fn check(&self) -> Result<(), CallError> {
        self.options
            .iter()
            .filter(|option| option.kind() == OptionKind::Dispatcher)
            .try_for_each(|option| self.check_one(option))
    }

    fn check_one(&self, option: &DeclaredOption) -> Result<(), CallError> {
        let mut setter = None;
        for audit in self.outwards() {
            if !audit.options.agrees_on(option, self.options) {
                setter = audit.links.last();
                break;
            }
            if audit.links.iter().any(|link| link.reads(option)) {
                return Ok(());
            }
        }
        if setter.is_some_and(|setter| setter.reads(option)) {
            return Ok(());
        }
        let name = option.name();
        let mut passed = self.outwards().flat_map(|audit| audit.links.iter().rev());
        Err(CallError::invalid(match (setter, passed.find(|link| link.reads(option))) {
            (Some(setter), Some(reader)) => format!(
                "the option `{name}` was set by the interceptor `{setter}`, which is further inside than `{reader}`, \
                 which reads it; give `{setter}` a lower order",
                setter = setter.name(),
                reader = reader.name(),
            ),
            _ => format!(
                "the option `{name}` is set, and no interceptor that reads it is registered; register one, or leave \
                 the option out"
            ),
        }))
    }

    fn outwards(&self) -> impl Iterator<Item = &Self> {
        successors(Some(self), |audit| audit.outer)
    }
}
