//! Options of other modules: by path, by import, by an import under another name, several at once.
#![deny(warnings)]

use frame_registry::{App, ResolveContext, FrameBuilder, FrameResolvers, Key, Options, Pair, frame_resolver};
use std::convert::Infallible;

mod a {
    use frame_registry::{FrameOption, frame_option};

    #[frame_option(name = "network")]
    pub static NETWORK: FrameOption<u32>;

    pub mod b {
        use super::{FrameOption, frame_option};

        #[frame_option(name = "region")]
        pub static REGION: FrameOption<u32>;

        #[frame_option(name = "zone")]
        pub static ZONE: FrameOption<u32>;
    }

    #[frame_option(name = "rack", runtime)]
    pub static RACK: FrameOption<u32>;
}

use a::NETWORK as NET;
use a::b::ZONE;

static KEY: Key<u32> = Key::new("key");

#[frame_resolver(order = 1, covers(NET))]
fn by_alias(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(options.pair(&NET, &KEY))
}

#[frame_resolver(order = 2, covers(crate::a::b::REGION, ZONE, self::a::RACK,))]
fn by_path(_: &ResolveContext<'_>, options: &Options) -> Result<Vec<Pair>, Infallible> {
    let all = [options.pair(&a::b::REGION, &KEY), options.pair(&ZONE, &KEY), options.pair(&a::RACK, &KEY)];
    Ok(all.into_iter().flatten().collect())
}

fn main() {
    let resolvers: Vec<_> = FrameResolvers::linked().iter().collect();
    let covered =
        resolvers.iter().map(|resolver| resolver.covers().iter().map(|option| option.name()).collect());
    let covered: Vec<Vec<_>> = covered.collect();
    assert_eq!(covered, [vec!["network"], vec!["region", "zone", "rack"]]);

    let app = App::builder().build();
    let options = Options::new().with(&a::NETWORK, 1).with(&a::b::REGION, 2).with(&ZONE, 3).with(&a::RACK, 4);
    let mut frame = FrameBuilder::new();
    FrameResolvers::linked().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut()).unwrap();
    let values: Vec<_> = frame.pairs_mut().iter().filter_map(|pair| pair.get(&KEY).copied()).collect();
    assert_eq!(values, [1, 2, 3, 4]);
}
