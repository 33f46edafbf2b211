//! The ids of functions, and the PIDs of units that run.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;
use std::ptr;
use std::str::FromStr;
use std::sync::atomic::{self, AtomicU64};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use frame_registry::{Id, IdKind};

/// The name of a function: `namespace:name`.
pub type FunctionId = Id<FunctionKind>;

/// Marks an [`Id`] as the name of a function.
#[derive(Debug)]
#[doc(hidden)]
pub enum FunctionKind {}

impl IdKind for FunctionKind {
    const NOUN: &'static str = "function";
    const EXAMPLE: &'static str = "app:hello";
}

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

    /// The node that it is on: what is in front of the last `@`.
    pub fn node(self) -> Option<&'static str> {
        self.as_str().rsplit_once('@').map(|(node, _)| node)
    }

    /// The name without that of the node.
    pub fn name(self) -> &'static str {
        self.as_str().rsplit_once('@').map_or(self.as_str(), |(_, name)| name)
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
    /// It has more parts than a PID, and there is no host of which all but the last are the name.
    #[error(
        "{text:?} has {parts} parts, and a PID has two: its host and its number, such as `{{local@app:workers|0x00001}}`"
    )]
    Parts {
        /// The text; of a long one the beginning.
        text: String,
        /// How many parts it has.
        parts: usize,
    },
    /// Its host never was, so nothing can have this PID.
    #[error("nothing has the PID {text:?}, because there is no such host")]
    UnknownHost {
        /// The text; of a long one the beginning.
        text: String,
    },
}

/// How much an error shows of a text that is no PID, in bytes.
const SHOWN: usize = 300;

impl FromStr for Pid {
    type Err = PidError;

    fn from_str(text: &str) -> Result<Self, PidError> {
        let shown = || text[..text.floor_char_boundary(SHOWN)].to_owned();
        let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        // The name of a host may contain a bar, so only a text that is not a valid PID has too many parts.
        let parts = inside.map(|text| text.split('|').count()).filter(|&parts| parts > 2);
        let refused = |other: fn(String) -> PidError| match parts {
            Some(parts) => PidError::Parts { text: shown(), parts },
            None => other(shown()),
        };
        let malformed = || refused(|text| PidError::Malformed { text });
        let (host, number) = inside.and_then(|text| text.rsplit_once('|')).ok_or_else(malformed)?;
        let digits = number.strip_prefix("0x").ok_or_else(malformed)?;
        // What `from_str_radix` takes as well.
        if digits.starts_with('+') {
            return Err(malformed());
        }
        let number = u64::from_str_radix(digits, 16).ok().and_then(NonZeroU64::new).ok_or_else(malformed)?;
        let host = Host::known(host).ok_or_else(|| refused(|text| PidError::UnknownHost { text }))?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Names of hosts are meant to be plain, but whoever names a node may write anything.
    fn host() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9._-]{1,20}@[a-z]{1,10}:[a-z]{1,10}",
            "[@|{}x0 é]{0,12}",
            any::<String>(),
            "[a-z]{300,400}@app:workers",
        ]
    }

    /// Texts that are nearly that of a PID.
    fn hostile() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            r"\{?[a-z@|{}]{0,6}\|?(0x|0X|x|)[-+_ 0-9a-gA-G]{0,20}\}?",
            r"\{local@test:known\|0x[-+_ 0-9a-fA-F\PC]{0,20}\}",
        ]
    }

    proptest! {
        #[test]
        fn a_pid_reads_back_from_its_text(host in host()) {
            let pid = Pid::next(Host::named(&host));
            prop_assert_eq!(pid.to_string().parse::<Pid>(), Ok(pid));
            let json = serde_json::to_string(&pid).unwrap();
            prop_assert_eq!(serde_json::from_str::<Pid>(&json).unwrap(), pid);
        }

        /// Nothing else than a number in hexadecimal behind a host that there is.
        #[test]
        fn what_is_no_pid_is_an_error_and_keeps_nothing(text in hostile()) {
            Host::named("local@test:known");
            let hosts = names().len();
            match text.parse::<Pid>() {
                Ok(pid) => {
                    prop_assert_eq!(pid.to_string().parse::<Pid>(), Ok(pid));
                    let digits = text.rsplit_once("|0x").and_then(|(_, rest)| rest.strip_suffix('}')).unwrap();
                    prop_assert!(digits.chars().all(|digit| digit.is_ascii_hexdigit()), "{text:?}");
                    prop_assert_eq!(u64::from_str_radix(digits, 16), Ok(pid.number()));
                }
                Err(
                    PidError::Malformed { text: shown }
                    | PidError::Parts { text: shown, .. }
                    | PidError::UnknownHost { text: shown },
                ) => {
                    prop_assert!(text.starts_with(&shown) && shown.len() <= SHOWN);
                }
            }
            // Others may name hosts meanwhile, but none that a text can have told.
            prop_assert!(Host::known(&text).is_none() || names().len() >= hosts);
        }
    }

    #[test]
    fn what_is_no_pid_says_what_one_is() {
        let host = Host::named("local@test:parsed");
        let pid = Pid::next(host);
        let number = pid.number();
        for good in [format!("{{{host}|0x{number:x}}}"), format!("{{{host}|0x{number:016X}}}")] {
            assert_eq!(good.parse(), Ok(pid), "{good}");
        }
        let malformed = [
            "",
            "{",
            "}",
            "{}",
            "{|}",
            "{|0x}",
            "0x1",
            "local@test:parsed|0x1",
            "{local@test:parsed|1}",
            "{local@test:parsed|0x0}",
            "{local@test:parsed|0x}",
            "{local@test:parsed|0x+1}",
            "{local@test:parsed|0x-1}",
            "{local@test:parsed|0x 1}",
            "{local@test:parsed|0x1 }",
            "{local@test:parsed|0x10000000000000000}",
            " {local@test:parsed|0x1}",
            "{local@test:parsed|0x1}\n",
        ];
        for text in malformed {
            assert_eq!(text.parse::<Pid>(), Err(PidError::Malformed { text: text.to_owned() }));
        }
        let parts = "{local@test:parsed|0x1|0x2}";
        assert_eq!(parts.parse::<Pid>(), Err(PidError::Parts { text: parts.to_owned(), parts: 3 }));
        let elsewhere = "{elsewhere@test:parsed|0x1}";
        assert_eq!(elsewhere.parse::<Pid>(), Err(PidError::UnknownHost { text: elsewhere.to_owned() }));
        assert!(Host::known("elsewhere@test:parsed").is_none(), "it is not kept");
        let long = format!("{{{}|0x1}}", "é".repeat(10_000));
        let Err(PidError::UnknownHost { text }) = long.parse::<Pid>() else { panic!("there is one") };
        assert_eq!(text.len(), SHOWN - 1, "not in the middle of a character");
    }

    #[test]
    fn a_host_has_a_node_if_its_name_says_one() {
        let (of_node, without) = (Host::named("edge-7@app:workers"), Host::named("app:hello"));
        assert_eq!((of_node.node(), of_node.name()), (Some("edge-7"), "app:workers"));
        assert_eq!((without.node(), without.name()), (None, "app:hello"));
        assert_eq!(Host::named("app:hello"), without);
        assert!(without < of_node && format!("{without:>12}") == "   app:hello");
    }
}
