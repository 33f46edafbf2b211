//! What a network does.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, Step};
use crate::host::HostName;

/// A future of a [`Network`].
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connection through a [`Network`].
pub type BoxStream = Box<dyn ByteStream>;

/// Bytes both ways. Implemented for everything it can be.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

impl fmt::Debug for dyn ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteStream")
    }
}

/// A network to reach others through: a driver, configured.
///
/// What a network cannot do it refuses; it never does it over another network instead. Dropping it closes it.
pub trait Network: Send + Sync + 'static {
    /// The kind of driver, such as `socks5`.
    fn kind(&self) -> &'static str;

    /// Connects to `to`. It is the network that looks a name up: whoever carries the traffic must be the only one
    /// who learns of it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that was being made.
    ///
    /// # Errors
    ///
    /// [`DriverError`], which says how far it came.
    fn connect<'a>(&'a self, to: &'a Endpoint) -> BoxFuture<'a, Result<BoxStream, DriverError>>;

    /// The addresses of `name`, as the network sees them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the answer.
    ///
    /// # Errors
    ///
    /// [`Cause::NotSupported`], unless the network has a way to ask.
    fn lookup<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DriverError>> {
        Box::pin(async move {
            Err(DriverError::new(Step::Lookup, name, Cause::NotSupported { kind: self.kind() }))
        })
    }
}
