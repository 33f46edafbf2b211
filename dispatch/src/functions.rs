//! The functions of an app.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use frame_registry::{App, Frame, Options};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout, timeout_at};

use crate::context::{CallContext, Dispatch, Dispatcher, Function, PreparedCall};
use crate::error::{CallError, FunctionsError};
use crate::function::{FunctionEntry, Retired};
use crate::handler::IntoFunction;
use crate::interceptor::Interceptors;
use crate::nesting::Nesting;
use crate::pid::FunctionId;
use crate::task::Task;

/// How long calls that were cancelled are waited for. Dropping a future takes no time unless it blocks its thread.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The functions of an app, by id, each with the options it was registered with. Cloning it is one reference count.
///
/// Looking one up never waits; a call that has begun goes on with the function it began with.
#[derive(Clone)]
pub struct Functions {
    dispatcher: Arc<Dispatcher<FunctionTable>>,
}

struct FunctionTable {
    entries: ArcSwap<Entries>,
    interceptors: Interceptors,
}

/// Limits of all calls of a [`Functions`].
///
/// ```
/// # use frame_dispatch::FunctionsConfig;
/// assert_eq!(FunctionsConfig::default().with_max_depth(1_000).max_depth, 1_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FunctionsConfig {
    /// How many calls can be nested in each other. A deeper call fails with [`Exhausted`](crate::ErrorKind::Exhausted),
    /// and is not retryable. Default: 256.
    ///
    /// Depth costs memory, not stack: every few levels a call is spawned as a task of its own, on the runtime that polls
    /// it. It stays in the span of `tracing` that its caller is in. Values of `tokio::task_local!` do not reach it.
    ///
    /// Functions of all languages count, and so do calls that an interceptor makes. A call through [`Functions::root`]
    /// has depth 0. So has a process, unless its caller [waits](crate::process::ProcessManager::exec) for it: then the
    /// process is nested in its caller.
    pub max_depth: u32,
}

impl Default for FunctionsConfig {
    fn default() -> Self {
        Self { max_depth: 256 }
    }
}

impl FunctionsConfig {
    /// Sets [`max_depth`](Self::max_depth).
    #[must_use]
    pub const fn with_max_depth(mut self, max_depth: u32) -> Self {
        self.max_depth = max_depth;
        self
    }
}

type Entries = BTreeMap<FunctionId, Arc<FunctionEntry>>;

/// What became of the calls that ran when the functions were stopped, calls inside calls included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// How many did not end by the deadline, and were cancelled.
    pub cancelled: usize,
    /// How many of those still run, because they block their thread. They can call nothing.
    pub running: usize,
}

impl Functions {
    /// Creates an empty set of functions of `app`, with the interceptors that are [built in](crate::interceptor).
    #[must_use]
    pub fn new(app: App) -> Self {
        Self::with_config(app, FunctionsConfig::default())
    }

    /// As [`new`](Self::new), with other limits.
    #[must_use]
    pub fn with_config(app: App, config: FunctionsConfig) -> Self {
        let table = FunctionTable { entries: ArcSwap::default(), interceptors: Interceptors::built_in() };
        Self { dispatcher: Arc::new(Dispatcher::new(app, config.max_depth, table)) }
    }

    /// The app.
    pub fn app(&self) -> &App {
        &self.dispatcher.app
    }

    pub(crate) fn max_depth(&self) -> u32 {
        self.dispatcher.max_depth
    }

    /// The interceptors, which run around every call.
    pub fn interceptors(&self) -> &Interceptors {
        &self.table().interceptors
    }

    /// Returns a root context. Calls through it inherit no frame.
    #[must_use]
    pub fn root(&self) -> CallContext {
        CallContext::root(self.dispatcher.clone(), None)
    }

    /// Returns a root context whose calls inherit from `frame`: a frame of a program's own defaults, or of what a request to a
    /// server says.
    ///
    /// ```
    /// use frame_dispatch::{CallContext, Functions, Json, Task};
    /// use frame_registry::{App, Frame, Key, Options};
    ///
    /// static REGION: Key<&str> = Key::new("region").inherit();
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let functions = Functions::new(App::builder().build());
    /// functions.register("app:where".parse()?, Options::new(), async |ctx: CallContext| {
    ///     Json(ctx.frame().get(&REGION).copied())
    /// })?;
    ///
    /// let defaults: Frame = [REGION.pair("eu")].into_iter().collect();
    /// let answer = functions.root_in(defaults).call(Task::new("app:where".parse()?)).await?;
    /// assert_eq!(answer.as_json(), Some(&"eu".into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn root_in(&self, frame: Frame) -> CallContext {
        CallContext::root(self.dispatcher.clone(), Some(frame))
    }

    /// Registers a function: a closure or an `async fn` of one of these [forms](crate::handler), or a type that
    /// implements [`Function`]. Every call of it has `options`, under those of the call itself.
    ///
    /// ```
    /// use frame_dispatch::{CallContext, Functions, Json, Task};
    /// use frame_registry::{App, BoxError, Options};
    /// use serde::{Deserialize, Serialize};
    /// use serde_json::json;
    ///
    /// #[derive(Deserialize)]
    /// struct Request {
    ///     price: String,
    /// }
    ///
    /// #[derive(Serialize)]
    /// struct Response {
    ///     cents: u64,
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let functions = Functions::new(App::builder().build());
    /// let parse = async |_: CallContext, Json(request): Json<Request>| -> Result<Json<Response>, BoxError> {
    ///     let price: u64 = request.price.parse()?;
    ///     Ok(Json(Response { cents: price * 100 }))
    /// };
    /// functions.register("app:parse".parse()?, Options::new(), parse)?;
    ///
    /// let task = Task::new("app:parse".parse()?).with_payload(json!({ "price": "5" }));
    /// assert_eq!(functions.root().call(task).await?.as_json(), Some(&json!({ "cents": 500 })));
    /// # Ok::<(), BoxError>(())
    /// # })?;
    /// # Ok::<(), BoxError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`FunctionsError::AlreadyRegistered`] if the id is taken, [`FunctionsError::Stopping`] once they
    /// [stop](Self::stop).
    pub fn register<M>(
        &self,
        id: FunctionId,
        options: Options,
        function: impl IntoFunction<M, Function: Function>,
    ) -> Result<(), FunctionsError> {
        let entry = Arc::new(FunctionEntry::new(id, options, function.into_function()));
        self.change(&entry, |entries| {
            if entries.contains_key(&*entry.id) {
                return Err(FunctionsError::AlreadyRegistered { id: (*entry.id).clone() });
            }
            entries.insert((*entry.id).clone(), Arc::clone(&entry));
            Ok(())
        })
    }

    /// Replaces a function and its options. Takes what [`register`](Self::register) takes. The old function
    /// finishes the calls that have begun.
    ///
    /// # Errors
    ///
    /// [`FunctionsError::NotRegistered`] if the id is not registered, [`FunctionsError::Stopping`] once they
    /// [stop](Self::stop).
    pub fn replace<M>(
        &self,
        id: FunctionId,
        options: Options,
        function: impl IntoFunction<M, Function: Function>,
    ) -> Result<Retired, FunctionsError> {
        let entry = Arc::new(FunctionEntry::new(id, options, function.into_function()));
        let not_registered = || FunctionsError::NotRegistered { id: (*entry.id).clone() };
        let mut old = None;
        self.change(&entry, |entries| {
            let registered = entries.get_mut(&*entry.id).ok_or_else(not_registered)?;
            old = Some(std::mem::replace(registered, Arc::clone(&entry)));
            Ok(())
        })?;
        old.and_then(|old| old.retire()).ok_or_else(not_registered)
    }

    /// Registers functions, or replaces those with the same ids, all in one step. Returns the old ones, which finish the calls
    /// that have begun. For many functions this takes far less time than to register one after the other.
    ///
    /// # Errors
    ///
    /// [`FunctionsError::Stopping`] once they [stop](Self::stop). Nothing is registered then.
    pub fn apply<F: Function>(
        &self,
        functions: impl IntoIterator<Item = (FunctionId, Options, F)>,
    ) -> Result<Vec<(FunctionId, Retired)>, FunctionsError> {
        let functions = functions.into_iter();
        let new: Vec<_> = functions
            .map(|(id, options, function)| Arc::new(FunctionEntry::new(id, options, function)))
            .collect();
        let Some(first) = new.first() else { return Ok(Vec::new()) };
        let mut replaced = Vec::new();
        self.change(first, |entries| {
            replaced.clear();
            for entry in &new {
                replaced.extend(entries.insert((*entry.id).clone(), Arc::clone(entry)));
            }
            Ok(())
        })?;
        let retired = replaced.into_iter().filter_map(|old| Some(((*old.id).clone(), old.retire()?)));
        Ok(retired.collect())
    }

    /// Unregisters a function. Returns it if it was registered: it finishes the calls that have begun.
    pub fn unregister(&self, id: &FunctionId) -> Option<Retired> {
        let mut removed = None;
        self.table().entries.rcu(|entries| {
            let mut copy = Entries::clone(entries);
            removed = copy.remove(id);
            copy
        });
        removed?.retire()
    }

    /// Returns whether a function is registered.
    pub fn contains(&self, id: &FunctionId) -> bool {
        self.table().entries.load().contains_key(id)
    }

    /// The ids of the functions, sorted.
    pub fn ids(&self) -> Vec<FunctionId> {
        self.table().entries.load().keys().cloned().collect()
    }

    /// A copy of the options that a function was registered with.
    pub fn options(&self, id: &FunctionId) -> Option<Options> {
        self.table().entries.load().get(id).map(|entry| entry.options.clone())
    }

    /// Stops admitting calls from outside, waits until `deadline` for those that run, then cancels what is left, and drops
    /// the functions. Calls that a running function makes are admitted until then. Nothing can be registered any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the functions closed, and what runs running.
    pub async fn stop(&self, deadline: Instant) -> Stopped {
        let gate = &self.dispatcher.gate;
        gate.close();
        // Whether they ended in time shows in what is left.
        let _ = timeout_at(deadline, gate.idle()).await;
        gate.stop();
        self.table().entries.store(Arc::default());
        let cancelled = gate.running();
        let _ = timeout(LAST_WAIT, gate.idle()).await;
        Stopped { cancelled, running: gate.running() }
    }

    fn table(&self) -> &FunctionTable {
        &self.dispatcher.functions
    }

    /// Publishes a changed copy. `change` runs again if another thread was faster.
    fn change(
        &self,
        entry: &FunctionEntry,
        mut change: impl FnMut(&mut Entries) -> Result<(), FunctionsError>,
    ) -> Result<(), FunctionsError> {
        let mut changed = Ok(());
        self.table().entries.rcu(|entries| {
            let mut copy = Entries::clone(entries);
            changed = if self.dispatcher.gate.is_closed() {
                Err(FunctionsError::Stopping { id: (*entry.id).clone() })
            } else {
                change(&mut copy)
            };
            copy
        });
        changed
    }
}

impl Dispatch for FunctionTable {
    fn prepare<'a>(
        &'a self,
        caller: &'a CallContext,
        nesting: Nesting,
        task: &mut Task,
    ) -> Result<PreparedCall<'a>, CallError> {
        let entry = self.entries.load().get(&task.function).cloned().ok_or_else(CallError::not_found)?;
        if !entry.options.is_empty() {
            task.options = entry.options.merged_under(&task.options);
        }
        self.interceptors.prepare(entry, caller, nesting, task)
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Functions ")?;
        f.debug_set().entries(self.ids()).finish()
    }
}
