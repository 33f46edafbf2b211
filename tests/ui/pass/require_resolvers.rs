//! In a module, in a function, several names, a trailing comma, more than once.
#![deny(warnings)]

use frame_registry::{ResolveContext, FrameResolvers, Options, Pair, frame_resolver, require_resolvers};
use std::convert::Infallible;

#[frame_resolver(order = 1)]
fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 2, name = "Region_2")]
fn region(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

require_resolvers!("tenant");
require_resolvers!("tenant", "Region_2",);

mod module {
    frame_registry::require_resolvers! { "tenant" }
}

fn main() {
    require_resolvers!("tenant");
    assert_eq!(FrameResolvers::linked().iter().count(), 2);
}
