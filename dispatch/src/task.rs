//! A call to be made.

use frame_registry::{Options, Pair};
use tracing::Span;

use crate::payload::Payload;
use crate::pid::FunctionId;

/// A call of a function: what it is given, and what its frame shall have.
#[derive(Debug, Clone)]
pub struct Task {
    pub(crate) function: FunctionId,
    pub(crate) payload: Payload,
    pub(crate) options: Options,
    /// Most calls have none, so this is not a `Pairs`, which has room for some.
    pub(crate) pairs: Vec<Pair>,
    pub(crate) attempt: u32,
    /// The span of the call, which its function runs in. Its frame is recorded there.
    pub(crate) span: Span,
}

impl Task {
    /// A call of `function` with the payload `null` and no options.
    #[inline]
    #[must_use]
    pub fn new(function: FunctionId) -> Self {
        Self {
            function,
            payload: Payload::default(),
            options: Options::new(),
            pairs: Vec::new(),
            attempt: 1,
            span: Span::none(),
        }
    }

    /// Gives the function `payload`.
    #[inline]
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Payload>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets the options of the call; they go over those that the function was registered with.
    #[inline]
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Adds a pair to the frame. It wins over what the frame has of its own, its id and its PID included, and what a
    /// resolver makes of the options wins over it.
    #[inline]
    #[must_use]
    pub fn with_pair(mut self, pair: Pair) -> Self {
        self.pairs.push(pair);
        self
    }

    /// The function to be called.
    pub const fn function(&self) -> &FunctionId {
        &self.function
    }

    /// What it is given.
    pub const fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The same, to change it.
    pub const fn payload_mut(&mut self) -> &mut Payload {
        &mut self.payload
    }

    /// The options; for an interceptor, merged with those that the function was registered with.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The same, to change them.
    pub const fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Which attempt at the call this is: the first is 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Says which attempt this is: for an interceptor that makes several.
    pub const fn set_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
    }
}
