//! What the attributes emit is not unsafe code of the crate they are used in.
#![forbid(unsafe_code)]

use frame_registry::{
    App, ResolveContext, FrameBuilder, FrameOption, FrameResolvers, Key, Options, Pair, frame_key, frame_option,
    frame_resolver,
};
use std::convert::Infallible;

frame_registry::require_resolvers!("tenant");

/// Whose work this is.
#[frame_option(name = "tenant")]
pub static TENANT: FrameOption<String>;

/// How often it may be tried.
#[frame_option(name = "retries", dispatcher)]
pub static RETRIES: FrameOption<u32>;

/// The tenant of this frame.
#[frame_key(name = "tenant", propagates, inherit)]
pub static TENANT_KEY: Key<String>;

/// Puts the tenant on the frame.
///
/// # Errors
///
/// None.
#[frame_resolver(order = 200, covers(TENANT))]
pub fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(options.pair(&TENANT, &TENANT_KEY))
}

mod private {
    use frame_registry::{ResolveContext, FrameOption, Options, Pair, frame_option, frame_resolver};
    use std::convert::Infallible;

    #[frame_option(name = "secret", runtime)]
    static SECRET: FrameOption<u32>;

    #[frame_resolver(order = 300)]
    fn secret(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
        assert!(!options.contains(&SECRET));
        Ok(None)
    }
}

fn main() {
    let app = App::builder().build();
    let options = Options::new().with(&TENANT, "acme".to_owned()).with(&RETRIES, 3);
    let mut frame = FrameBuilder::new();
    FrameResolvers::linked().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut()).unwrap();
    assert_eq!(frame.seal().get(&TENANT_KEY).unwrap(), "acme");
}
