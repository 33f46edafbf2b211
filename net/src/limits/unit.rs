//! Whose connections are counted together.

use std::fmt;
use std::sync::Arc;

use frame_registry::{App, Frame, Key};

/// Says which unit a frame is of. The embedder sets it on the app; the frames of an app without it are all of one unit.
///
/// ```
/// use frame_net::{UNIT_OF, Unit};
/// use frame_registry::{App, Key};
///
/// static TASK: Key<String> = Key::new("limits_example.task");
///
/// let mut app = App::builder();
/// app.set(&UNIT_OF, |frame| frame.get(&TASK).map(|task| Unit::new("task", task.as_str())))?;
/// # Ok::<(), frame_registry::AppError>(())
/// ```
pub static UNIT_OF: Key<fn(&Frame) -> Option<Unit>> = Key::new("net.unit_of");

/// Those whose connections and lookups are limited together, such as all calls of a function.
///
/// The default is the unit of everything that has no name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Unit(Option<(&'static str, Arc<str>)>);

impl Unit {
    /// The unit of this kind and name.
    pub fn new(kind: &'static str, name: impl Into<Arc<str>>) -> Self {
        Self(Some((kind, name.into())))
    }

    /// Returns its kind, such as `function`. Code without a unit has none.
    pub fn kind(&self) -> Option<&'static str> {
        self.0.as_ref().map(|(kind, _)| *kind)
    }

    /// Returns its name. Code without a unit has none.
    pub fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|(_, name)| &**name)
    }

    pub(crate) const fn is_named(&self) -> bool {
        self.0.is_some()
    }

    /// The unit of `frame`, as the app names it.
    pub(crate) fn of(frame: &Frame, app: &App) -> Self {
        app.get(&UNIT_OF).and_then(|unit_of| unit_of(frame)).unwrap_or_default()
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((kind, name)) => write!(f, "{kind} `{name}`"),
            None => f.write_str("code without a unit"),
        }
    }
}
