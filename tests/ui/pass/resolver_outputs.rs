//! Whatever is an iterator of pairs, and whatever converts into an error.
#![deny(warnings)]

use frame_registry::{
    App, BoxError, ResolveContext, FrameBuilder, FrameResolvers, Key, Options, Pair, Pairs, frame_resolver,
};
use smallvec::{SmallVec, smallvec};
use std::convert::Infallible;
use std::{fmt, iter};

static KEY: Key<u32> = Key::new("key");

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

type Resolved<T = Option<Pair>> = Result<T, Refused>;

#[frame_resolver(order = 1)]
fn option(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(Some(KEY.pair(1)))
}

#[frame_resolver(order = 2)]
fn array(_: &ResolveContext<'_>, _: &Options) -> Result<[Pair; 2], Refused> {
    Ok([KEY.pair(2), KEY.pair(3)])
}

#[frame_resolver(order = 3)]
fn small_vec(_: &ResolveContext<'_>, _: &Options) -> Result<SmallVec<[Pair; 2]>, String> {
    Ok(smallvec![KEY.pair(4)])
}

#[frame_resolver(order = 4)]
fn vec(_: &ResolveContext<'_>, _: &Options) -> Result<Vec<Pair>, &'static str> {
    Ok(vec![KEY.pair(5)])
}

#[frame_resolver(order = 5)]
fn alias(_: &ResolveContext<'_>, _: &Options) -> Resolved {
    Ok(Some(KEY.pair(6)))
}

#[frame_resolver(order = 6)]
fn alias_of_vec(_: &ResolveContext<'_>, _: &Options) -> Resolved<Vec<Pair>> {
    Ok(vec![KEY.pair(7)])
}

#[frame_resolver(order = 7)]
fn pairs(_: &ResolveContext<'_>, _: &Options) -> Result<Pairs, Box<dyn std::error::Error + Send + Sync>> {
    Ok(iter::once(KEY.pair(8)).collect())
}

#[frame_resolver(order = 8)]
fn some_iterator(_: &ResolveContext<'_>, _: &Options) -> Result<impl Iterator<Item = Pair>, BoxError> {
    Ok([9, 10].into_iter().map(|value| KEY.pair(value)))
}

#[frame_resolver(order = 9)]
fn standard_error(_: &ResolveContext<'_>, _: &Options) -> std::io::Result<Option<Pair>> {
    Ok(None)
}

fn main() {
    let app = App::builder().build();
    let mut frame = FrameBuilder::new();
    FrameResolvers::linked().resolve(&ResolveContext::new(&app, None), &Options::new(), frame.pairs_mut()).unwrap();
    let values: Vec<_> = frame.pairs_mut().iter().filter_map(|pair| pair.get(&KEY).copied()).collect();
    assert_eq!(values, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}
