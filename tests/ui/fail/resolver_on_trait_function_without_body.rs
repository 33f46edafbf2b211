use frame_registry::{ResolveContext, Options, Pair, frame_resolver};
use std::convert::Infallible;

pub trait Tenant {
    #[frame_resolver(order = 200)]
    fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible>;
}

fn main() {}
