//! `$crate` of a macro that a crate exports.
#![deny(warnings)]

pub extern crate frame_registry as registry;
extern crate self as frame_registry;

use registry::{App, ResolveContext, FrameBuilder, FrameOption, FrameResolvers, Key, Options, Pair};
use std::convert::Infallible;

#[macro_export]
macro_rules! tenant {
    () => {
        #[$crate::registry::frame_option(name = "tenant", crate = $crate::registry)]
        pub static TENANT: FrameOption<String>;

        #[$crate::registry::frame_key(name = "tenant", stays, public, crate = $crate::registry)]
        pub static TENANT_KEY: Key<String>;

        #[$crate::registry::frame_resolver(order = 200, covers(TENANT), crate = $crate::registry)]
        pub fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
            Ok(options.pair(&TENANT, &TENANT_KEY))
        }
    };
}

tenant!();

fn main() {
    let app = App::builder().build();
    let options = Options::new().with(&TENANT, "acme".to_owned());
    let mut frame = FrameBuilder::new();
    FrameResolvers::linked().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut()).unwrap();
    assert_eq!(frame.seal().get(&TENANT_KEY).unwrap(), "acme");
}
