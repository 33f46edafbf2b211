//! Under another name. `::frame_registry` is this program here, so nothing that is emitted may refer to it.
#![deny(warnings)]

extern crate frame_registry as renamed_registry;
extern crate self as frame_registry;

use renamed_registry::{
    App, ResolveContext, FrameBuilder, FrameOption, FrameResolvers, Key, Options, Pair, frame_key, frame_option,
    frame_resolver,
};
use std::convert::Infallible;

renamed_registry::require_resolvers!(crate = renamed_registry, "tenant");

#[frame_key(name = "tenant", propagates, inherit, crate = renamed_registry)]
pub static TENANT_KEY: Key<String>;

#[frame_option(name = "tenant", crate = renamed_registry)]
pub static TENANT: FrameOption<String>;

#[frame_resolver(order = 200, covers(TENANT), crate = renamed_registry)]
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
