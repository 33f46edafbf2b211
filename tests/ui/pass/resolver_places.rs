//! Inside a module and inside a function, with and without options of its own; and stacked.
#![deny(warnings)]

use frame_registry::{App, ResolveContext, FrameBuilder, FrameResolvers, Key, Options, Pair, frame_resolver};
use std::convert::Infallible;

static KEY: Key<&str> = Key::new("key");

mod outer {
    pub mod inner {
        use frame_registry::{ResolveContext, FrameOption, Options, Pair, frame_option, frame_resolver};
        use std::convert::Infallible;

        #[frame_option(name = "in_module")]
        pub static IN_MODULE: FrameOption<&'static str>;

        #[frame_resolver(order = 1, covers(IN_MODULE))]
        fn in_module(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
            Ok(options.pair(&IN_MODULE, &super::super::KEY))
        }

        #[frame_resolver(order = 2)]
        pub(in crate::outer) fn in_module_without_covers(
            _: &ResolveContext<'_>,
            _: &Options,
        ) -> Result<Option<Pair>, Infallible> {
            Ok(None)
        }
    }
}

#[frame_resolver(order = 5, name = "first_name")]
#[frame_resolver(order = 6, name = "second_name")]
fn stacked(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {
    use frame_registry::{FrameOption, frame_option};

    #[frame_option(name = "in_function")]
    static IN_FUNCTION: FrameOption<&'static str>;

    #[frame_resolver(order = 3, covers(IN_FUNCTION))]
    fn in_function(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(options.pair(&IN_FUNCTION, &KEY))
    }

    #[frame_resolver(order = 4)]
    fn in_function_without_covers(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(None)
    }

    let resolvers: Vec<_> = FrameResolvers::linked().iter().collect();
    let names: Vec<_> = resolvers.iter().map(|resolver| resolver.name()).collect();
    let expected = [
        "in_module",
        "in_module_without_covers",
        "in_function",
        "in_function_without_covers",
        "first_name",
        "second_name",
    ];
    assert_eq!(names, expected);
    assert!(resolvers[0].module().unwrap().ends_with("::outer::inner"));

    let app = App::builder().build();
    let options = Options::new().with(&outer::inner::IN_MODULE, "module").with(&IN_FUNCTION, "function");
    let mut frame = FrameBuilder::new();
    FrameResolvers::linked().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut()).unwrap();
    let values: Vec<_> = frame.pairs_mut().iter().filter_map(|pair| pair.get(&KEY).copied()).collect();
    assert_eq!(values, ["module", "function"]);
}
