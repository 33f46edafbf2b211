//! Which of the stacks a network uses.

use std::fmt;

use frame_registry::text;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, de};

/// The TCP and UDP that a network is to use. In text: `auto`, `kernel` or `user`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StackChoice {
    /// The kernel's if it can be used here, else the one in user space.
    #[default]
    Auto,
    /// The kernel's, or no network.
    Kernel,
    /// The one in user space.
    User,
}

impl fmt::Display for StackChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::User => "user",
        })
    }
}

const STACKS: [&str; 3] = ["auto", "kernel", "user"];

impl<'de> Deserialize<'de> for StackChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;

        impl de::Visitor<'_> for Choice {
            type Value = StackChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto`, `kernel` or `user`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StackChoice, E> {
                match text {
                    "auto" => Ok(StackChoice::Auto),
                    "kernel" => Ok(StackChoice::Kernel),
                    "user" => Ok(StackChoice::User),
                    _ => Err(E::custom(match text::nearest(text, STACKS) {
                        Some(meant) => format!("unknown stack `{text}`; did you mean `{meant}`?"),
                        None => format!("unknown stack `{text}`; it is one of `auto`, `kernel` and `user`"),
                    })),
                }
            }
        }

        deserializer.deserialize_str(Choice).map_err(D::Error::custom)
    }
}

/// The TCP and UDP that a network uses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stack {
    /// The kernel's, in a namespace of its own.
    Kernel,
    /// The one in user space.
    User {
        /// Why it is not the kernel's. `None` if this one was chosen.
        why: Option<String>,
    },
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("the kernel's TCP and UDP, in a namespace of its own"),
            Self::User { why: None } => f.write_str("TCP and UDP in user space"),
            Self::User { why: Some(why) } => write!(f, "TCP and UDP in user space: {why}"),
        }
    }
}

/// Why the kernel's stack cannot be used, with what was tried.
#[derive(Debug)]
pub(super) enum Unusable {
    /// This host or this program does not have or allow what it needs.
    Here(String),
    /// It could not be started, which may pass.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    Now(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(why) | Self::Now(why) => f.write_str(why),
        }
    }
}

#[cfg(target_os = "linux")]
impl Unusable {
    /// What an error of the system means that was the result of this.
    pub(super) fn from_io(tried: impl fmt::Display, error: &std::io::Error) -> Self {
        use rustix::io::Errno;

        let why = format!("{tried}: {error}");
        let may_pass = match Errno::from_io_error(error) {
            Some(
                Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
                | Errno::NOBUFS
                | Errno::AGAIN
                | Errno::INTR
                | Errno::BUSY
                | Errno::TXTBSY,
            ) => true,
            // There are as many namespaces as there may be, which may be none.
            Some(Errno::NOSPC | Errno::USERS) => !allows_no_namespaces(),
            _ => false,
        };
        if may_pass { Self::Now(why) } else { Self::Here(why) }
    }
}

#[cfg(target_os = "linux")]
fn allows_no_namespaces() -> bool {
    ["max_user_namespaces", "max_net_namespaces"].iter().any(|limit| {
        let text = std::fs::read_to_string(std::path::Path::new("/proc/sys/user").join(limit));
        text.is_ok_and(|text| text.trim() == "0")
    })
}
