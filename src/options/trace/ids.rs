//! The ids of traces and of spans.

use std::cell::RefCell;
use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

/// The id of a trace: 16 bytes, not all of them zero. Shown as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(NonZeroU128);

/// The id of a span: 8 bytes, not all of them zero. Shown as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    /// A new one, of which all bytes are random: from the operating system, because ids of many hosts must differ.
    pub(super) fn random() -> Self {
        loop {
            let mut bytes = [0; 16];
            let id = match getrandom::fill(&mut bytes) {
                Ok(()) => u128::from_ne_bytes(bytes),
                // Without its randomness a trace is still better than none.
                Err(_) => fastrand::u128(..),
            };
            if let Some(id) = NonZeroU128::new(id) {
                return Self(id);
            }
        }
    }

    pub(super) const fn new(id: u128) -> Option<Self> {
        match NonZeroU128::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// Its bytes, the most significant first.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

impl SpanId {
    /// A new one. There is one for each frame of a trace, so that it must not cost a system call.
    pub(super) fn random() -> Self {
        thread_local! {
            static IDS: RefCell<fastrand::Rng> =
                RefCell::new(getrandom::u64().map_or_else(|_| fastrand::Rng::new(), fastrand::Rng::with_seed));
        }
        IDS.with_borrow_mut(|ids| {
            loop {
                if let Some(id) = NonZeroU64::new(ids.u64(..)) {
                    return Self(id);
                }
            }
        })
    }

    pub(super) const fn new(id: u64) -> Option<Self> {
        match NonZeroU64::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// Its bytes, the most significant first.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
