//! Every way to write an integer, from one end of `i32` to the other.
#![deny(warnings)]

use frame_registry::{ResolveContext, FrameResolvers, Options, Pair, frame_resolver};
use std::convert::Infallible;

#[frame_resolver(order = 2147483647)]
fn largest(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 1_000_000)]
fn underscored(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 0xff)]
fn hexadecimal(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 0b101_0)]
fn binary(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 9i32)]
fn suffixed(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 0)]
fn zero(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = -0x10)]
fn negative_hexadecimal(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = -200)]
fn negative(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = -2147483648)]
fn smallest(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {
    let resolvers: Vec<_> = FrameResolvers::linked().iter().collect();
    let resolvers: Vec<_> = resolvers.iter().map(|resolver| (resolver.name(), resolver.order())).collect();
    let expected = [
        ("smallest", i32::MIN),
        ("negative", -200),
        ("negative_hexadecimal", -16),
        ("zero", 0),
        ("suffixed", 9),
        ("binary", 10),
        ("hexadecimal", 255),
        ("underscored", 1_000_000),
        ("largest", i32::MAX),
    ];
    assert_eq!(resolvers, expected);
}
