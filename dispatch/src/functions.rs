//! The functions of an app.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use frame_registry::{App, Frame, Options};

use crate::error::{CallError, FunctionsError};
use crate::executor;
use crate::function::Function;
use crate::id::FunctionId;
use crate::payload::Payload;
use crate::task::Task;

/// The functions of an app, by id, each with the options it was registered with. Cloning it is one reference count.
///
/// Looking one up never waits; a call that has begun goes on with the function it began with.
#[derive(Clone)]
pub struct Functions {
    inner: Arc<Inner>,
}

struct Inner {
    app: App,
    entries: ArcSwap<Entries>,
}

type Entries = BTreeMap<FunctionId, Arc<Entry>>;

pub(crate) struct Entry {
    pub(crate) id: Arc<FunctionId>,
    pub(crate) options: Options,
    pub(crate) function: Box<dyn Function>,
}

impl Functions {
    /// No functions yet, of `app`.
    #[must_use]
    pub fn new(app: App) -> Self {
        Self { inner: Arc::new(Inner { app, entries: ArcSwap::default() }) }
    }

    /// The app.
    pub fn app(&self) -> &App {
        &self.inner.app
    }

    /// Adds a function. Every call of it has `options`, under those of the call itself.
    ///
    /// # Errors
    ///
    /// [`FunctionsError::AlreadyRegistered`] if the id is taken.
    pub fn register(
        &self,
        id: FunctionId,
        options: Options,
        function: impl Function,
    ) -> Result<(), FunctionsError> {
        let entry = Entry::new(id, options, function);
        self.change(|entries| {
            if entries.contains_key(&*entry.id) {
                return Err(FunctionsError::AlreadyRegistered { id: (*entry.id).clone() });
            }
            entries.insert((*entry.id).clone(), Arc::clone(&entry));
            Ok(())
        })
    }

    /// Puts a function, and options, in the place of another. The options that the other had are gone with it.
    ///
    /// # Errors
    ///
    /// [`FunctionsError::NotRegistered`] if there is no other.
    pub fn replace(
        &self,
        id: FunctionId,
        options: Options,
        function: impl Function,
    ) -> Result<(), FunctionsError> {
        let entry = Entry::new(id, options, function);
        self.change(|entries| {
            let old = entries.get_mut(&*entry.id);
            let old = old.ok_or_else(|| FunctionsError::NotRegistered { id: (*entry.id).clone() })?;
            *old = Arc::clone(&entry);
            Ok(())
        })
    }

    /// Removes a function; says whether it was there.
    pub fn remove(&self, id: &FunctionId) -> bool {
        let mut is_removed = false;
        let removed: Result<(), std::convert::Infallible> = self.change(|entries| {
            is_removed = entries.remove(id).is_some();
            Ok(())
        });
        removed.unwrap_or_else(|never| match never {});
        is_removed
    }

    /// The ids of the functions, sorted.
    pub fn list(&self) -> Vec<FunctionId> {
        self.inner.entries.load().keys().cloned().collect()
    }

    /// A copy of the options that a function was registered with.
    pub fn options(&self, id: &FunctionId) -> Option<Options> {
        self.inner.entries.load().get(id).map(|entry| entry.options.clone())
    }

    /// Calls a function from outside any other, so that its frame inherits nothing.
    ///
    /// # Errors
    ///
    /// A [`CallError`], of the kind [`NotFound`](crate::ErrorKind::NotFound) if no function has the id, of the kind
    /// [`Denied`](crate::ErrorKind::Denied) if its frame was refused or a resolver panicked, of the kind
    /// [`Internal`](crate::ErrorKind::Internal) if it panicked, and else whatever the function fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the function's.
    pub async fn call(&self, task: Task) -> Result<Payload, CallError> {
        self.call_from(None, task).await
    }

    pub(crate) async fn call_from(&self, parent: Option<&Frame>, task: Task) -> Result<Payload, CallError> {
        let entry = self.inner.entries.load().get(&task.function).cloned();
        let entry = entry.ok_or_else(|| CallError::not_found(&task.function))?;
        executor::execute(self, &entry, parent, task).await
    }

    /// Publishes a changed copy. `change` runs again where another thread was faster.
    fn change<E>(&self, mut change: impl FnMut(&mut Entries) -> Result<(), E>) -> Result<(), E> {
        let mut changed = Ok(());
        self.inner.entries.rcu(|entries| {
            let mut copy = Entries::clone(entries);
            changed = change(&mut copy);
            copy
        });
        changed
    }
}

impl Entry {
    fn new(id: FunctionId, options: Options, function: impl Function) -> Arc<Self> {
        Arc::new(Self { id: Arc::new(id), options, function: Box::new(function) })
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Functions ")?;
        f.debug_set().entries(self.list()).finish()
    }
}
