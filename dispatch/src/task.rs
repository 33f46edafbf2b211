//! A call to be made.

use frame_registry::{Options, Pair, Pairs};

use crate::id::FunctionId;
use crate::payload::Payload;

/// A call of a function: what it is given, and what its frame shall have.
#[derive(Debug, Clone)]
pub struct Task {
    pub(crate) function: FunctionId,
    pub(crate) payload: Payload,
    pub(crate) options: Options,
    pub(crate) pairs: Pairs,
}

impl Task {
    /// A call of `function` with the payload `null` and no options.
    #[must_use]
    pub fn new(function: FunctionId) -> Self {
        Self { function, payload: Payload::default(), options: Options::new(), pairs: Pairs::new() }
    }

    /// Gives the function `payload`.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Payload>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets the options of the call; they go over those that the function was registered with.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Adds a pair to the frame. It wins over what the frame has of its own, its id and its PID included, and what a
    /// resolver makes of the options wins over it.
    #[must_use]
    pub fn pair(mut self, pair: Pair) -> Self {
        self.pairs.push(pair);
        self
    }
}
