//! What a running function has to hand.

use frame_registry::{App, Frame};

use crate::error::CallError;
use crate::functions::Functions;
use crate::payload::Payload;
use crate::task::Task;

/// The surroundings of a running function: its frame, the app, and the functions it can call.
#[derive(Debug, Clone)]
pub struct Ctx {
    functions: Functions,
    frame: Frame,
}

impl Ctx {
    pub(crate) fn new(functions: Functions, frame: Frame) -> Self {
        Self { functions, frame }
    }

    /// The function's own frame.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The app.
    pub fn app(&self) -> &App {
        self.functions.app()
    }

    /// Calls a function, whose frame inherits from this function's own.
    ///
    /// # Errors
    ///
    /// As [`Functions::call`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops that of the function called.
    pub async fn call(&self, task: Task) -> Result<Payload, CallError> {
        self.functions.call_from(Some(&self.frame), task).await
    }
}
