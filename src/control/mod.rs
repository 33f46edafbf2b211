//! How one asks a running `frame run` what it does: a Unix socket that it serves, and that `frame ps` asks.
//!
//! Its user and root can reach the socket: it is in a directory that no other user may enter, or has an abstract name, and
//! both sides look who the other is. A run holds a lock on its manifest, so that there is one run of it, and another beside its
//! socket, so that the socket of a run that was killed is known to be stale.

mod address;
mod client;
mod family;
mod lock;
mod protocol;
mod server;

pub(crate) use self::address::{BindError, ControlAddress};
pub(crate) use self::client::{AskError, ask};
pub(crate) use self::family::{LastExit, Supervised};
pub(crate) use self::lock::ManifestLock;
pub(crate) use self::protocol::{Process, RunInfo};
pub(crate) use self::server::{ControlHandle, Server};
