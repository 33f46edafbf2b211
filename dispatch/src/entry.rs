//! A function that is registered, and what is left of it when it no longer is.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use frame_registry::Options;
use tokio::sync::oneshot;

use crate::function::Function;
use crate::id::FunctionId;
use crate::pid::Host;

/// A registered function. Every call of it holds a reference for as long as it runs.
pub(crate) struct Entry {
    pub(crate) id: Arc<FunctionId>,
    pub(crate) host: Host,
    pub(crate) options: Options,
    pub(crate) function: Box<dyn Function>,
    /// Never sent on. It is dropped behind the function, which is how [`Retired`] knows.
    _gone: oneshot::Sender<Infallible>,
    /// Waits here until the entry is retired.
    retired: Mutex<Option<Retired>>,
}

impl Entry {
    pub(crate) fn new(id: FunctionId, options: Options, function: impl Function) -> Self {
        let (sender, gone) = oneshot::channel();
        Self {
            host: Host::named(id.as_str()),
            id: Arc::new(id),
            options,
            function: Box::new(function),
            _gone: sender,
            retired: Mutex::new(Some(Retired { gone })),
        }
    }

    /// For whoever takes the entry out of the functions; once.
    pub(crate) fn retire(&self) -> Option<Retired> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A function that was replaced or removed. It finishes the calls that it has begun, and is dropped with the last.
///
/// Dropping this changes nothing about that.
#[derive(Debug)]
pub struct Retired {
    gone: oneshot::Receiver<Infallible>,
}

impl Retired {
    /// Waits until the last of its calls is done and the function is dropped.
    pub async fn drained(self) {
        let Err(_gone) = self.gone.await;
    }
}
