use frame_registry::{ResolveContext, Options, Pair, frame_resolver};
use std::convert::Infallible;

pub struct Tenant;

impl Tenant {
    #[frame_resolver(order = 200)]
    pub fn tenant(&self, _: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(None)
    }
}

fn main() {}
