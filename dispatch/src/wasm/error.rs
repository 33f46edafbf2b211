//! Why an engine was not built, or a component is no function.

use std::path::PathBuf;

/// An engine was not built, or a component was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WasmError {
    /// This machine cannot run an engine of this configuration.
    #[error("the engine cannot be made: {reason}")]
    Engine {
        /// What is wrong.
        reason: String,
    },
    /// A [`HostModule`](super::HostModule) could not be linked.
    #[error("a host module cannot be linked: {reason}")]
    Module {
        /// What is wrong.
        reason: String,
    },
    /// The directory for compiled components cannot be used.
    #[error("compiled components cannot be kept in `{}`: {reason}", path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The bytes are something else.
    #[error("this is no WebAssembly component, but {found}")]
    NotAComponent {
        /// What they are.
        found: &'static str,
    },
    /// It is a component, and not a valid one, or larger than the engine allows.
    #[error("the component cannot be compiled: {reason}")]
    Compile {
        /// What is wrong.
        reason: String,
    },
    /// It would take more work to compile than the [limits](super::ComponentLimits) of the engine allow.
    #[error("the component is not compiled: it has more than {limit} {what}, which is the limit `{setting}`")]
    TooComplex {
        /// What it has too many of.
        what: &'static str,
        /// The name of the limit.
        setting: &'static str,
        /// How many it may have.
        limit: u64,
    },
    /// It imports something that nobody offers.
    #[error("the component imports what is not there: {reason}")]
    Import {
        /// Which import, and what is wrong with it.
        reason: String,
    },
    /// It does not export what a function exports.
    #[error(
        "the component is no function: {reason}; it has to export `run` as the world `frame:function/function` says"
    )]
    Export {
        /// What is wrong.
        reason: String,
    },
    /// It needs more than the function may use, before it even runs.
    #[error("the component starts with {needed} {what}, and the function may have {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much it starts with.
        needed: u64,
        /// How much there may be.
        limit: u64,
    },
}
