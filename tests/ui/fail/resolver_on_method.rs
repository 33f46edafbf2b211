use frame_registry::{Context, Options, Pair, frame_resolver};
use std::convert::Infallible;

pub struct Tenant;

impl Tenant {
    #[frame_resolver(order = 200)]
    pub fn tenant(&self, _: &Context<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(None)
    }
}

fn main() {}
