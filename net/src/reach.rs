//! What a connection led to, where the name was looked up here, and what a redirect may not lead to.
//!
//! Only who looks a name up knows its addresses, and only who follows redirects knows where they come from. Networks pass
//! nothing on for that: what one connects to is looked up by the task that connects.

#![cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP has redirects"))]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::direct::{Denied, is_special_address};
use crate::endpoint::Endpoint;

/// What the addresses were that a host had when it was connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Reach {
    /// They are not known here, as where a proxy looks names up.
    #[default]
    Unknown,
    /// None of them is special.
    Public,
    /// Some of them are special.
    Mixed,
    /// All of them are special.
    Special,
}

impl Reach {
    fn of(addresses: &[SocketAddr]) -> Self {
        let special = addresses.iter().filter(|address| is_special_address(address.ip())).count();
        match special {
            _ if addresses.is_empty() => Self::Unknown,
            0 => Self::Public,
            special if special == addresses.len() => Self::Special,
            _ => Self::Mixed,
        }
    }

    /// Whether a redirect from a public host may use what leads there.
    pub(crate) const fn is_open_to_redirects(self) -> bool {
        matches!(self, Self::Unknown | Self::Public)
    }
}

/// What is connected to for a request.
#[derive(Clone)]
struct Watched {
    to: Endpoint,
    is_from_public: bool,
    reach: Arc<Mutex<Reach>>,
}

tokio::task_local! {
    static WATCHED: Option<Watched>;
}

/// Does `connecting`, which connects to `to`, and says what that was. If a redirect from a public host leads there, names
/// with special addresses are refused.
pub(crate) async fn watch<F: Future>(
    to: &Endpoint,
    is_from_public: bool,
    connecting: F,
) -> (F::Output, Reach) {
    let reach = Arc::<Mutex<Reach>>::default();
    let watched = Watched { to: to.clone(), is_from_public, reach: Arc::clone(&reach) };
    let connected = WATCHED.scope(Some(watched), connecting).await;
    let reach = *reach.lock().unwrap_or_else(PoisonError::into_inner);
    (connected, reach)
}

/// Does `carrying`, which connects to the far end of a network: that is for its operator to choose.
pub(crate) fn unwatched<F: Future>(carrying: F) -> impl Future<Output = F::Output> + use<F> {
    WATCHED.scope(None, carrying)
}

/// Says that these are all the addresses of `to`, which is about to be connected to.
///
/// # Errors
///
/// If a redirect from a public host leads to it, and one of them is special.
pub(crate) fn found(to: &Endpoint, addresses: &[SocketAddr]) -> Result<(), Box<Denied>> {
    // A network that dials its own proxy is about another host.
    let watched = WATCHED.try_with(|watched| watched.clone().filter(|watched| watched.to == *to));
    let Some(watched) = watched.ok().flatten() else { return Ok(()) };
    *watched.reach.lock().unwrap_or_else(PoisonError::into_inner) = Reach::of(addresses);
    if watched.is_from_public {
        addresses.iter().try_for_each(|address| Denied::check_redirected(to.host(), address.ip()))?;
    }
    Ok(())
}
