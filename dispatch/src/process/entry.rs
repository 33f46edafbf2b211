//! What can be started.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use frame_registry::{Id, IdKind, Options};

use super::ctx::ProcessCtx;
use crate::error::CallError;
use crate::function::BoxFuture;
use crate::payload::Payload;

/// The name of something that can be started as a process: `namespace:name`.
pub type EntryId = Id<EntryKind>;

/// Says that an [`Id`] is the name of something that can be started as a process.
#[derive(Debug)]
pub enum EntryKind {}

impl IdKind for EntryKind {
    const NOUN: &'static str = "process";
    const EXAMPLE: &'static str = "app:worker";
}

/// Something that can be started as a process: every `async` closure over a [`ProcessCtx`] and a [`Payload`] is. A script
/// and a component are, too: a [`LuaFunction`](crate::lua::LuaFunction), a [`WasmFunction`](crate::wasm::WasmFunction).
///
/// Terminating a process drops the future, so it is written to be cancel safe.
pub trait Process: Send + Sync + 'static {
    /// What it runs in: `native`, unless it says another. A host can be [restricted](super::HostConfig::engines) to some.
    fn engine(&self) -> &'static str {
        "native"
    }

    /// Runs it, with the mailbox and the frame that `ctx` has.
    fn run(&self, ctx: ProcessCtx, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>>;
}

impl<F, R> Process for F
where
    F: Fn(ProcessCtx, Payload) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Payload, CallError>> + Send + 'static,
{
    fn run(&self, ctx: ProcessCtx, payload: Payload) -> BoxFuture<'_, Result<Payload, CallError>> {
        Box::pin(self(ctx, payload))
    }
}

/// Something that can be started, with the options that each of its processes has.
pub(super) struct Entry {
    pub(super) id: Arc<EntryId>,
    pub(super) options: Options,
    pub(super) process: Box<dyn Process>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("id", &self.id).field("options", &self.options).finish_non_exhaustive()
    }
}
