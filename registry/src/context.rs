//! What a resolver may read.

use crate::app::App;
use crate::frame::Frame;

/// What a resolver may read beside the options: the app, and the frame of the unit that spawns.
#[derive(Debug, Clone, Copy)]
pub struct ResolveContext<'a> {
    app: &'a App,
    parent: Option<&'a Frame>,
}

impl<'a> ResolveContext<'a> {
    /// A context for a unit that is spawned by the unit of frame `parent`, or by none.
    #[inline]
    pub const fn new(app: &'a App, parent: Option<&'a Frame>) -> Self {
        Self { app, parent }
    }

    /// The app.
    #[inline]
    pub const fn app(&self) -> &'a App {
        self.app
    }

    /// The frame of the unit that spawns; `None` at the root.
    #[inline]
    pub const fn parent(&self) -> Option<&'a Frame> {
        self.parent
    }
}
