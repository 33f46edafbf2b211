//! Names that this host looks up itself: in its hosts file first, then at its name servers.
//!
//! A lookup takes one socket and no thread, and dropping it ends it. `getaddrinfo` of the C library takes a thread for as
//! long as the name servers are silent, whoever still waits for it. Nothing is cached: the name server of the host does
//! that, and what one unit has looked up must not show in how long it takes another.

mod dns;
mod files;
#[cfg(any(not(unix), target_vendor = "apple", test))]
mod system;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::files::Files;
use crate::endpoint::HostName;
use crate::error::Cause;
use crate::limits;

/// Returns the addresses of `name` as this host sees them, at least one.
///
/// What is asked of others counts towards the lookups of the unit that is [accounted for](limits::account).
///
/// # Cancel safety
///
/// Dropping the future ends the lookup.
pub(crate) async fn addresses(name: &HostName) -> Result<Vec<IpAddr>, Cause> {
    let relative = name.as_str().strip_suffix('.').unwrap_or(name.as_str()).to_ascii_lowercase();
    let files = Files::current();
    if let Some(found) = files.hosts.get(&relative) {
        return Ok(found.to_vec());
    }
    // Name servers are not asked for these (RFC 6761, section 6.3).
    if relative == "localhost" || relative.ends_with(".localhost") {
        return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
    }
    let permit = limits::lookup_permit()?;
    #[cfg(any(not(unix), target_vendor = "apple"))]
    let found = system::resolve(name.as_str().to_owned(), permit).await?;
    #[cfg(all(unix, not(target_vendor = "apple")))]
    let found = {
        let found = dns::resolve(&files.servers, name.as_str()).await?;
        drop(permit);
        found
    };
    Ok(found)
}
