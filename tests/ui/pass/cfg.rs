//! Conditions above and below the attributes: what is off is off as a whole.
#![deny(warnings)]

use frame_registry::{
    ResolveContext, FrameOption, FrameResolvers, Key, Options, Pair, declared_keys, declared_options, frame_key,
    frame_option, frame_resolver,
};
use std::convert::Infallible;

#[cfg(all())]
#[frame_resolver(order = 1)]
fn on_above(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 2)]
#[cfg(all())]
fn on_below(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[cfg(any())]
#[frame_resolver(order = 3)]
fn off_above(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 4)]
#[cfg(any())]
fn off_below(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[cfg_attr(all(), frame_resolver(order = 5))]
fn on_by_attribute(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[cfg_attr(any(), frame_resolver(order = 6))]
#[allow(dead_code)]
fn off_by_attribute(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 7)]
#[cfg_attr(all(), cfg(any()), inline)]
fn off_below_by_attribute(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 8)]
#[cfg_attr(any(), cfg(any()))]
fn on_below_by_attribute(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

// Two of one name, of which one is there.
#[frame_resolver(order = 9)]
#[cfg(all())]
fn either(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_resolver(order = 10)]
#[cfg(not(all()))]
fn either(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[frame_option(name = "on", dispatcher)]
#[cfg(all())]
static ON: FrameOption<u32>;

#[frame_option(name = "off")]
#[cfg(any())]
static OFF: FrameOption<u32>;

#[cfg(any())]
#[frame_option(name = "off_above")]
static OFF_ABOVE: FrameOption<u32>;

#[frame_option(name = "off_by_attribute")]
#[cfg_attr(all(), cfg(any()))]
static OFF_BY_ATTRIBUTE: FrameOption<u32>;

#[frame_key(name = "on", stays)]
#[cfg(all())]
static KEY_ON: Key<u32>;

#[frame_key(name = "off", stays)]
#[cfg(any())]
static KEY_OFF: Key<u32>;

fn main() {
    let resolvers: Vec<_> = FrameResolvers::linked().iter().collect();
    let names: Vec<_> = resolvers.iter().map(|resolver| resolver.name()).collect();
    assert_eq!(names, ["on_above", "on_below", "on_by_attribute", "on_below_by_attribute", "either"]);

    let options: Vec<_> = declared_options().iter().map(|option| option.name()).collect();
    assert_eq!(options, ["on"]);
    assert_eq!(ON.name(), "on");

    let keys: Vec<_> = declared_keys().iter().map(|key| key.name()).collect();
    assert_eq!(keys, ["on"]);
    assert_eq!(KEY_ON.name(), "on");
}
