//! Any pattern and attribute on an argument.
#![deny(warnings)]

use frame_registry::{App, ResolveContext, FrameBuilder, FrameResolvers, Key, Options, Pair, frame_resolver};
use std::convert::Infallible;

static WILDCARDS: Key<u32> = Key::new("wildcards");
static UNUSED: Key<u32> = Key::new("unused");
static MUTABLE: Key<u32> = Key::new("mutable");
static BOUND: Key<u32> = Key::new("bound");

#[frame_resolver(order = 1)]
fn wildcards(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(Some(WILDCARDS.pair(1)))
}

#[frame_resolver(order = 2)]
fn unused(
    #[allow(unused)] ctx: &ResolveContext<'_>,
    #[allow(unused)] options: &Options,
) -> Result<Option<Pair>, Infallible> {
    Ok(Some(UNUSED.pair(2)))
}

#[frame_resolver(order = 3)]
fn mutable(mut ctx: &ResolveContext<'_>, mut options: &Options) -> Result<Option<Pair>, Infallible> {
    (ctx, options) = (ctx, options);
    Ok((ctx.parent().is_none() && options.is_empty()).then(|| MUTABLE.pair(3)))
}

#[frame_resolver(order = 4)]
fn bound(&ctx: &ResolveContext<'_>, options @ &Options { .. }: &Options) -> Result<Option<Pair>, Infallible> {
    Ok((ctx.parent().is_none() && options.is_empty()).then(|| BOUND.pair(4)))
}

fn main() {
    let app = App::builder().build();
    let mut frame = FrameBuilder::new();
    FrameResolvers::linked().resolve(&ResolveContext::new(&app, None), &Options::new(), frame.pairs_mut()).unwrap();
    let values = [&WILDCARDS, &UNUSED, &MUTABLE, &BOUND].map(|key| frame.get(key).copied());
    assert_eq!(values, [Some(1), Some(2), Some(3), Some(4)]);
}
