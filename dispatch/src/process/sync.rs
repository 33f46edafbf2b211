//! The primitives under [`admission`](super::admission) and [`mailbox`](super::mailbox): a seam. The model checker compiles
//! these files with primitives of its own.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use std::sync::{Arc, Mutex, MutexGuard};
