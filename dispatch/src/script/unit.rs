//! What the clock knows of the guest code that a thread runs.

/// A script or a component. All calls and processes of one share it.
#[derive(Debug)]
pub(crate) struct Unit {
    name: Box<str>,
}

impl Unit {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into() }
    }

    /// Its name in the log.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}
