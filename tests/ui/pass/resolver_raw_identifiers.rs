//! Names that are keywords.
#![deny(warnings)]

use frame_registry::{
    App, ResolveContext, FrameBuilder, FrameOption, FrameResolvers, Key, Options, Pair, frame_option,
};
use std::convert::Infallible;

static KEY: Key<u32> = Key::new("key");

mod r#mod {
    use super::{FrameOption, frame_option};

    #[frame_option(name = "static")]
    #[allow(non_upper_case_globals)]
    pub static r#static: FrameOption<u32>;
}

#[frame_registry::frame_resolver(order = 1, covers(r#mod::r#static))]
fn r#type(r#in: &ResolveContext<'_>, r#as: &Options) -> Result<Option<Pair>, Infallible> {
    assert!(r#in.parent().is_none());
    Ok(r#as.pair(&r#mod::r#static, &KEY))
}

frame_registry::require_resolvers!("type");

fn main() {
    assert_eq!(FrameResolvers::linked().iter().next().unwrap().name(), "type");
    assert_eq!(r#mod::r#static.name(), "static");

    let app = App::builder().build();
    let mut frame = FrameBuilder::new();
    let options = Options::new().with(&r#mod::r#static, 7);
    FrameResolvers::linked().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut()).unwrap();
    assert_eq!(frame.get(&KEY), Some(&7));
}
