//! Lifetimes of the function's own, and types that hold some.
#![deny(warnings)]

use frame_registry::{App, ResolveContext, FrameBuilder, FrameResolvers, Key, Options, Pair, Pairs, frame_resolver};
use std::convert::Infallible;

static KEY: Key<u32> = Key::new("key");

type CallContext<'a> = ResolveContext<'a>;

#[frame_resolver(order = 1)]
fn one<'a>(_: &'a ResolveContext<'a>, _: &'a Options) -> Result<Option<Pair>, Infallible> {
    Ok(Some(KEY.pair(1)))
}

#[frame_resolver(order = 2)]
fn several<'a, 'b, 'c>(_: &'a ResolveContext<'b>, _: &'c Options) -> Result<Option<Pair>, Infallible> {
    Ok(Some(KEY.pair(2)))
}

#[frame_resolver(order = 3)]
fn anonymous(
    _: &'_ frame_registry::ResolveContext<'_>,
    _: &'_ frame_registry::Options,
) -> Result<Option<Pair>, Infallible> {
    Ok(Some(KEY.pair(3)))
}

#[frame_resolver(order = 4)]
fn aliased(_: &CallContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(Some(KEY.pair(4)))
}

#[frame_resolver(order = 5)]
fn returned<'a>(
    _: &'a ResolveContext<'a>,
    _: &'a Options,
) -> Result<Box<dyn Iterator<Item = Pair> + 'a>, Infallible> {
    Ok(Box::new(std::iter::once(KEY.pair(5))))
}

fn main() {
    let app = App::builder().build();
    let mut pairs = Pairs::new();
    FrameResolvers::linked().resolve(&ResolveContext::new(&app, None), &Options::new(), &mut pairs).unwrap();
    let values: Vec<_> = pairs.iter().filter_map(|pair| pair.get(&KEY).copied()).collect();
    assert_eq!(values, [1, 2, 3, 4, 5]);

    // And each is still a function.
    let (app, options, frame) = (App::builder().build(), Options::new(), FrameBuilder::new().seal());
    assert!(one(&ResolveContext::new(&app, Some(&frame)), &options).unwrap().is_some());
}
