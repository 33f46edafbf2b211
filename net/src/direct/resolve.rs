//! Names to addresses, all of which may be reached.

use std::net::SocketAddr;

use super::denied::Denied;
use super::guard::Guard;
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError, Step};
use crate::host::{Host, HostName};

/// The addresses of a host: those that were checked, and that are to be used as they are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// It was given by this.
    Literal([SocketAddr; 1]),
    /// They are the answer to one lookup.
    Resolved(Vec<SocketAddr>),
}

impl Checked {
    pub(super) fn as_slice(&self) -> &[SocketAddr] {
        match self {
            Self::Literal(address) => address,
            Self::Resolved(addresses) => addresses,
        }
    }
}

/// The addresses of `to`, for `step`. A name is looked up with `lookup`, at most once, and only if it may be reached.
pub(super) async fn endpoint<'a, F>(
    guard: &'a Guard,
    step: Step,
    to: &'a Endpoint,
    lookup: impl FnOnce(&'a HostName, u16) -> F,
) -> Result<Checked, DriverError>
where
    F: Future<Output = Result<Vec<SocketAddr>, DriverError>>,
{
    let denied = |denied| denied_at(step, to, denied);
    let port = to.port();
    match to.host() {
        Host::Address(address) => {
            guard.literal(Some(port)).check(*address).map_err(denied)?;
            Ok(Checked::Literal([SocketAddr::new(*address, port)]))
        }
        Host::Name(name) => {
            let target = guard.named(name, Some(port)).map_err(denied)?;
            let found = lookup(name, port).await?;
            found.iter().try_for_each(|found| target.check(found.ip())).map_err(denied)?;
            Ok(Checked::Resolved(found))
        }
    }
}

/// The addresses of `name`, for whoever asks for no port.
pub(super) async fn name<'a, F>(
    guard: &'a Guard,
    name: &'a HostName,
    lookup: impl FnOnce(&'a HostName, u16) -> F,
) -> Result<Vec<SocketAddr>, DriverError>
where
    F: Future<Output = Result<Vec<SocketAddr>, DriverError>>,
{
    let denied = |denied| denied_at(Step::Lookup, name, denied);
    let target = guard.named(name, None).map_err(denied)?;
    let found = lookup(name, 0).await?;
    found.iter().try_for_each(|found| target.check(found.ip())).map_err(denied)?;
    Ok(found)
}

/// The error of what is denied.
pub(super) fn denied_at(step: Step, peer: impl std::fmt::Display, denied: Box<Denied>) -> DriverError {
    DriverError::new(step, peer, Cause::Denied(denied))
}

#[cfg(test)]
mod tests;
