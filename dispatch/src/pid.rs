//! The number of a unit that was spawned.

use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

/// What a unit is spawned by: for a function, its id.
///
/// Its name is kept for as long as the program runs, once each name, so that a [`Pid`] can be copied.
///
/// ```
/// # use frame_dispatch::Host;
/// assert_eq!(Host::named("app:hello"), Host::named("app:hello"));
/// assert_eq!(Host::named("app:hello").as_str(), "app:hello");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(&'static str);

impl Host {
    /// The host of this name.
    pub fn named(name: &str) -> Self {
        static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(name) {
            return Self(name);
        }
        let name: &'static str = Box::leak(name.into());
        names.insert(name);
        Self(name)
    }

    /// The name.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

/// What names a spawned unit: its host, and a number that is never given twice within one run of the program.
///
/// ```
/// # use frame_dispatch::{Host, Pid};
/// let host = Host::named("app:hello");
/// let (first, second) = (Pid::next(host), Pid::next(host));
/// assert_ne!(first, second);
/// assert_eq!(first.host(), second.host());
/// assert_eq!(first.to_string(), format!("{{app:hello|{:#07x}}}", first.number()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid {
    number: NonZeroU64,
    host: Host,
}

impl Pid {
    /// One that was not given before.
    ///
    /// # Panics
    ///
    /// After 2⁶⁴ − 1 of them: at one each nanosecond, after 584 years.
    #[must_use]
    pub fn next(host: Host) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Self { number: NonZeroU64::new(number).expect("584 years have not passed"), host }
    }

    /// What spawned the unit.
    pub const fn host(self) -> Host {
        self.host
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.number.get()
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}|{:#07x}}}", self.host, self.number)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As its text.
impl serde::Serialize for Pid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
