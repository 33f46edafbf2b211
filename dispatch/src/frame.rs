//! The one place where the frame of a unit is made, be it a function or a process.

use frame_registry::{App, Frame, FrameBuilder, Key, Options, Pair, ResolveContext, ResolveError};

use crate::panics;
use crate::pid::Pid;

/// The PID of the unit that a frame is of: a new one each attempt at a call.
pub static PID: Key<Pid> = Key::new("pid").public();

/// Why there is no frame, so that the unit does not start.
pub(crate) enum Refused {
    /// A resolver refused the options.
    Resolver(ResolveError),
    /// A resolver panicked: that is not the unit's code, and no reason to end whoever spawns it.
    Panic(String),
}

/// Forks the frame of whoever spawns, sets what is the unit's `own`, adds `pairs`, resolves the options, and seals.
pub(crate) fn make(
    app: &App,
    parent: Option<&Frame>,
    own: impl FnOnce(&mut FrameBuilder),
    pairs: impl IntoIterator<Item = Pair>,
    options: &Options,
) -> Result<Frame, Refused> {
    let made = panics::catch(|| {
        let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
        own(&mut frame);
        frame.extend(pairs);
        app.resolvers().resolve(&ResolveContext::new(app, parent), options, frame.pairs_mut())?;
        Ok(frame.seal())
    });
    made.map_err(Refused::Panic)?.map_err(Refused::Resolver)
}
