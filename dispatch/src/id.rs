//! What a function is called.

use frame_registry::{Id, IdKind};

/// The name of a function: `namespace:name`.
pub type FunctionId = Id<FunctionKind>;

/// Says that an [`Id`] is the name of a function.
#[derive(Debug)]
pub enum FunctionKind {}

impl IdKind for FunctionKind {
    const NOUN: &'static str = "function";
    const EXAMPLE: &'static str = "app:hello";
}
