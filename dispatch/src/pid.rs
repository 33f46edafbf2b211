//! The number of a unit that was spawned.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;
use std::ptr;
use std::str::FromStr;
use std::sync::atomic::{self, AtomicU64};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// What a unit is spawned by: for a function, its id; for a process, the host that it lives on, behind the name of its node.
///
/// Its name is kept for as long as the program runs, once each name, so that a [`Pid`] can be copied.
///
/// ```
/// # use frame_dispatch::Host;
/// assert_eq!(Host::named("app:hello"), Host::named("app:hello"));
/// assert_eq!(Host::named("app:hello").as_str(), "app:hello");
///
/// let host = Host::named("local@app:workers");
/// assert_eq!((host.node(), host.name()), (Some("local"), "app:workers"));
/// ```
#[derive(Clone, Copy)]
pub struct Host(&'static Name);

/// On its own, so that what refers to it is one word.
struct Name(Box<str>);

impl Host {
    /// The host of this name.
    pub fn named(name: &str) -> Self {
        let mut names = names();
        if let Some(known) = names.get(name) {
            return Self(known);
        }
        let kept: &'static Name = Box::leak(Box::new(Name(name.into())));
        names.insert(&kept.0, kept);
        Self(kept)
    }

    /// The host of this name, if there ever was one: for names from outside, which are not to be kept.
    fn known(name: &str) -> Option<Self> {
        names().get(name).copied().map(Self)
    }

    /// The name, with that of the node.
    pub const fn as_str(self) -> &'static str {
        &self.0.0
    }

    /// The node that it is on: what is in front of `@`.
    pub fn node(self) -> Option<&'static str> {
        self.as_str().split_once('@').map(|(node, _)| node)
    }

    /// The name without that of the node.
    pub fn name(self) -> &'static str {
        self.as_str().split_once('@').map_or(self.as_str(), |(_, name)| name)
    }
}

fn names() -> MutexGuard<'static, HashMap<&'static str, &'static Name>> {
    static NAMES: LazyLock<Mutex<HashMap<&'static str, &'static Name>>> = LazyLock::new(Mutex::default);
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// There is one of each name.
impl PartialEq for Host {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for Host {}

impl PartialOrd for Host {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Host {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Host {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::hash(self.0, state);
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What names a spawned unit: its host, and a number that is never given twice within one run of the program.
///
/// ```
/// # use frame_dispatch::{Host, Pid};
/// let host = Host::named("local@app:workers");
/// let (first, second) = (Pid::next(host), Pid::next(host));
/// assert_ne!(first, second);
/// assert_eq!(first.host(), second.host());
///
/// let text = first.to_string();
/// assert_eq!(text, format!("{{local@app:workers|{:#07x}}}", first.number()));
/// assert_eq!(text.parse::<Pid>()?, first);
/// # Ok::<(), frame_dispatch::PidError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
        let number = LAST.fetch_add(1, atomic::Ordering::Relaxed).wrapping_add(1);
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

/// By the number alone, which is enough.
impl Hash for Pid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
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

/// A text is not that of a PID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PidError {
    /// It is not written as one.
    #[error("{text:?} is no PID; one is written such as `{{local@app:workers|0x00001}}`")]
    Malformed {
        /// The text; of a long one the beginning.
        text: String,
    },
    /// Its host never was, so nothing can have this PID.
    #[error("nothing has the PID {text:?}, because there is no such host")]
    UnknownHost {
        /// The text.
        text: String,
    },
}

/// The longest text of a PID, in bytes: two names of a host's length, and a number.
const LONGEST: usize = 300;

impl FromStr for Pid {
    type Err = PidError;

    fn from_str(text: &str) -> Result<Self, PidError> {
        let malformed = || PidError::Malformed { text: text[..text.floor_char_boundary(LONGEST)].to_owned() };
        let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let (host, number) = inside.and_then(|text| text.rsplit_once('|')).ok_or_else(malformed)?;
        let digits = number.strip_prefix("0x").filter(|_| text.len() <= LONGEST).ok_or_else(malformed)?;
        // What `from_str_radix` takes as well.
        if digits.starts_with('+') {
            return Err(malformed());
        }
        let number = u64::from_str_radix(digits, 16).ok().and_then(NonZeroU64::new).ok_or_else(malformed)?;
        let host = Host::known(host).ok_or_else(|| PidError::UnknownHost { text: text.to_owned() })?;
        Ok(Self { number, host })
    }
}

/// As its text.
impl serde::Serialize for Pid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Pid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
