//! I2P, through the SAM bridge of a router (version 3.1 to 3.3 of the protocol).
//!
//! [`I2p`] is the network. Underneath, a machine without I/O says what to send to the bridge and reads what it
//! answers, and a thin shell has the sockets. The first use creates a *session*: the destination that this network is
//! on I2P, with tunnels of its own, which a router takes some 20 seconds to build. All connections and the listener
//! share it.

mod backoff;
mod bridge;
mod client;
mod config;
mod control;
mod credentials;
mod destination;
mod error;
mod exchange;
mod line;
mod listener;
mod message;
mod name;
mod options;
mod refusal;
mod session;
mod sessions;
mod stream;
mod version;

pub use self::client::{I2p, I2pDriver};
pub use self::config::{I2pConfig, LocalDestination};
pub use self::credentials::{SamCredentials, SamCredentialsError};
pub use self::destination::{Destination, DestinationError, PrivateKey};
pub use self::error::SamError;
pub use self::exchange::Stage;
pub use self::options::{SessionOptionError, SessionOptions};
pub use self::refusal::SamRefusal;
