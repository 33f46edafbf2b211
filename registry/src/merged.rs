//! The merged table: the base with what was added over it while the program runs.

use std::sync::Arc;

use crate::error::RegisterError;
use crate::observe::Observing;
use crate::publish::Published;
use crate::registration::Registered;
use crate::resolver::{Entry, LinkedResolver, Resolve};

pub(crate) type Overlay = Published<Merged>;

/// The base with what was registered over it, in the order they run, and who observes that. There is one only while
/// something is registered or somebody observes; it is replaced as one.
#[derive(Clone)]
pub(crate) struct Merged {
    pub(crate) entries: Vec<Entry>,
    /// In the order they came.
    pub(crate) observers: Vec<Arc<Observing>>,
}

impl Merged {
    /// The base alone.
    pub(crate) fn of(base: &[&'static LinkedResolver]) -> Self {
        Self { entries: base.iter().copied().map(Entry::Linked).collect(), observers: Vec::new() }
    }

    /// With a resolver at its place.
    ///
    /// # Errors
    ///
    /// [`RegisterError::DuplicateName`] if another has its name.
    pub(crate) fn with(mut self, added: Arc<Registered>) -> Result<Self, RegisterError> {
        let new = Entry::Registered(added);
        let info = new.describe();
        let mut others = self.entries.iter().map(Entry::describe);
        if let Some(existing) = others.find(|entry| entry.name() == info.name()) {
            return Err(RegisterError::DuplicateName {
                name: info.name().to_owned(),
                existing: existing.location(),
            });
        }
        let position = self.entries.partition_point(|entry| {
            let entry = entry.describe();
            (entry.order(), entry.name()) < (info.order(), info.name())
        });
        self.entries.insert(position, new);
        Ok(self)
    }

    /// Without `gone`; none if nothing is left over the base.
    pub(crate) fn without(&self, gone: &Registered) -> Option<Self> {
        let entries = self.entries.iter().filter(|entry| !entry.is(gone)).cloned().collect();
        Self { entries, observers: self.observers.clone() }.unless_base()
    }

    /// With an observer behind the others.
    pub(crate) fn observed_by(mut self, added: Arc<Observing>) -> Self {
        self.observers.push(added);
        self
    }

    /// Without the observer `gone`; none if nothing is left over the base.
    pub(crate) fn unobserved_by(&self, gone: &Observing) -> Option<Self> {
        let others = self.observers.iter().filter(|observer| !std::ptr::eq(Arc::as_ptr(observer), gone));
        Self { entries: self.entries.clone(), observers: others.cloned().collect() }.unless_base()
    }

    fn unless_base(self) -> Option<Self> {
        let is_registered = |entry: &Entry| matches!(entry, Entry::Registered(_));
        let is_base = self.observers.is_empty() && !self.entries.iter().any(is_registered);
        (!is_base).then_some(self)
    }
}
