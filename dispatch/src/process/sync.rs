//! The primitives under [`admission`](super::admission), [`mailbox`](super::mailbox) and [`name_waiters`](super::name_waiters): a
//! seam. The model checker compiles these files with primitives of its own.

pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
pub(super) use std::sync::{Arc, Mutex, MutexGuard};
