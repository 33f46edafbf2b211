//! How one asks a running `frame run` what it does: a Unix socket that it serves, and that `frame ps` asks.
//!
//! Who can reach the socket is its user, and root: it is in a directory that nobody else may enter, and both sides look
//! who the other is. A run holds a lock beside its socket, so that there is one run a socket, and so that the socket of one
//! that was killed is known to be nobody's.

mod client;
mod directory;
mod family;
mod place;
mod protocol;
mod server;

pub(crate) use self::client::{AskError, ask};
pub(crate) use self::family::{LastExit, Supervised};
pub(crate) use self::place::{BindError, Place};
pub(crate) use self::protocol::{Process, Running};
pub(crate) use self::server::{ControlHandle, Server};
