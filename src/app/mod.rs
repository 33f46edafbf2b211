//! The app that this program is: every part that is linked into it.

use frame_dispatch::Functions;
use frame_net::{NetConfig, NetworkRegistry};
use frame_registry::{App, BoxError, FrameResolvers};

/// What there is once the app is booted.
pub(crate) struct Booted {
    pub(crate) functions: Functions,
    pub(crate) networks: NetworkRegistry,
}

/// Boots the parts, in the order in which they rely on each other.
pub(crate) fn boot(networks: NetConfig) -> Result<Booted, BoxError> {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked())?;
    let networks = frame_net::boot(&mut app, networks)?;
    Ok(Booted { functions: Functions::new(app.build()), networks })
}
