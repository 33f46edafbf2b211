//! Attributes that a macro of the user's emits, with every kind of fragment in them.
#![deny(warnings)]

use frame_registry::{
    App, ResolveContext, FrameBuilder, FrameOption, FrameResolvers, Key, Options, Pair, frame_option, frame_resolver,
};
use std::convert::Infallible;

static KEY: Key<u32> = Key::new("key");

macro_rules! option {
    ($(#[$attr:meta])* $vis:vis $ident:ident, $name:literal, $ty:ty) => {
        $(#[$attr])*
        #[frame_option(name = $name)]
        $vis static $ident: FrameOption<$ty>;
    };
}

macro_rules! by_literal {
    ($function:ident, $order:literal, $name:literal, $option:ident) => {
        #[frame_resolver(order = $order, name = $name, covers($option))]
        fn $function(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
            Ok(options.pair(&$option, &KEY))
        }
    };
}

macro_rules! by_path {
    ($order:expr, $function:ident, $option:path) => {
        #[frame_resolver(order = $order, covers($option))]
        fn $function(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
            Ok(options.pair(&$option, &KEY))
        }
    };
}

macro_rules! by_types {
    ($order:tt, $function:ident, $context:ty, $options:ty, $output:ty, $body:block) => {
        #[frame_resolver(order = $order)]
        fn $function(_: $context, _: $options) -> $output $body
    };
}

macro_rules! by_item {
    ($item:item) => {
        #[frame_resolver(order = 50)]
        $item
    };
}

mod options {
    use super::{FrameOption, frame_option};

    option!(
        /// By path.
        #[allow(dead_code)]
        pub(crate) PATH, "path", u32
    );
}

option!(pub LITERAL, "literal", u32);
option!(NEGATIVE, "negative", u32);

by_literal!(positive_function, 20, "positive_name", LITERAL);
by_literal!(negative_function, -20, "negative_name", NEGATIVE);
by_path!(-10, path, options::PATH);
by_types!(30, types, &ResolveContext<'_>, &Options, Result<[Pair; 1], Infallible>, { Ok([KEY.pair(30)]) });
by_item! {
    fn item(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(None)
    }
}

fn main() {
    let resolvers: Vec<_> = FrameResolvers::linked().iter().collect();
    let resolvers: Vec<_> = resolvers.iter().map(|resolver| (resolver.name(), resolver.order())).collect();
    let expected =
        [("negative_name", -20), ("path", -10), ("positive_name", 20), ("types", 30), ("item", 50)];
    assert_eq!(resolvers, expected);

    let app = App::builder().build();
    let options = Options::new().with(&LITERAL, 2).with(&NEGATIVE, 0).with(&options::PATH, 1);
    let mut frame = FrameBuilder::new();
    FrameResolvers::linked().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut()).unwrap();
    let values: Vec<_> = frame.pairs_mut().iter().filter_map(|pair| pair.get(&KEY).copied()).collect();
    assert_eq!(values, [0, 1, 2, 30]);
}
