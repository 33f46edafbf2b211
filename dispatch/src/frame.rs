//! The frames of units, which are functions and processes.

use frame_registry::{App, Frame, FrameBuilder, Key, Options, Pair, ResolveContext, ResolveError};

use crate::error::CallError;
use crate::panics;
use crate::pid::FunctionId;
use crate::pid::Pid;

/// The PID of the unit that a frame belongs to. Each attempt at a call has a new one.
pub static PID: Key<Pid> = Key::new("pid").public();

/// The function that a frame belongs to.
pub static FUNCTION: Key<FunctionId> = Key::new("function").public();

/// The attempt at a call that a frame belongs to. The first is 1.
pub static ATTEMPT: Key<u32> = Key::new("attempt").public();

/// Why a unit has no frame, and does not start.
pub(crate) enum FrameError {
    /// A resolver refused the options.
    Resolver(ResolveError),
    /// A resolver panicked. It is not the code of the unit that spawns, and no reason to end that.
    Panic(String),
}

impl From<FrameError> for CallError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Resolver(error) => Self::denied(error),
            FrameError::Panic(message) => Self::denied(message),
        }
    }
}

/// Makes the frame of a unit: forks that of its parent, sets the unit's `own` pairs, adds `pairs`, resolves the options, and
/// seals. No unit gets its frame elsewhere.
pub(crate) fn make(
    app: &App,
    parent: Option<&Frame>,
    own: impl FnOnce(&mut FrameBuilder),
    pairs: impl IntoIterator<Item = Pair>,
    options: &Options,
) -> Result<Frame, FrameError> {
    let made = panics::catch(|| {
        let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
        own(&mut frame);
        frame.extend(pairs);
        app.resolvers().resolve(&ResolveContext::new(app, parent), options, frame.pairs_mut())?;
        Ok(frame.seal())
    });
    made.map_err(FrameError::Panic)?.map_err(FrameError::Resolver)
}
