//! The function keeps its attributes, its visibility and its name, and can be called, passed on and documented.
#![deny(warnings)]

use frame_registry::{App, ResolveContext, FrameResolvers, Options, Pair, frame_resolver};
use std::convert::Infallible;

pub mod module {
    use super::*;

    /// Documented.
    #[frame_resolver(order = 1)]
    #[inline]
    #[must_use = "it is a result"]
    #[allow(clippy::unnecessary_wraps)]
    pub fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(None)
    }

    #[deprecated = "there is a better one"]
    #[frame_resolver(order = 2)]
    #[cold]
    pub(super) fn region(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(None)
    }
}

type Resolve = fn(&ResolveContext<'_>, &Options) -> Result<Option<Pair>, Infallible>;

#[allow(deprecated)]
const ALL: [Resolve; 2] = [module::tenant, module::region];

fn main() {
    let app = App::builder().build();
    for resolve in ALL {
        assert!(resolve(&ResolveContext::new(&app, None), &Options::new()).unwrap().is_none());
    }
    let resolvers: Vec<_> = FrameResolvers::linked().iter().collect();
    let lines: Vec<_> =
        resolvers.iter().map(|resolver| (resolver.location().line(), resolver.location().file().ends_with(".rs"))).collect();
    assert_eq!(lines, [(11, true), (20, true)]);
}
