//! Re-exported by a crate of the user's, which is all that is known of it.
#![deny(warnings)]

pub mod inner {
    pub extern crate frame_registry as registry;
}

extern crate self as frame_registry;

use inner::registry::{
    App, ResolveContext, FrameBuilder, FrameOption, FrameResolvers, Key, Options, Pair, frame_key, frame_option,
    frame_resolver,
};
use std::convert::Infallible;

inner::registry::require_resolvers!(crate = crate::inner::registry, "tenant",);

#[frame_key(name = "tenant", propagates, inherit, crate = crate::inner::registry)]
pub static TENANT_KEY: Key<String>;

#[frame_option(name = "tenant", crate = crate::inner::registry)]
pub static TENANT: FrameOption<String>;

#[frame_resolver(order = 200, covers(TENANT), crate = crate::inner::registry)]
pub fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(options.pair(&TENANT, &TENANT_KEY))
}

fn main() {
    let app = App::builder().build();
    let options = Options::new().with(&TENANT, "acme".to_owned());
    let mut frame = FrameBuilder::new();
    FrameResolvers::linked().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut()).unwrap();
    assert_eq!(frame.seal().get(&TENANT_KEY).unwrap(), "acme");
}
