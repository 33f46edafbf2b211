//! The levels of lints that the user sets hold for what is emitted, too, and what the user expects is fulfilled.
#![deny(warnings)]

use frame_registry::{ResolveContext, FrameOption, Key, Options, Pair, frame_key, frame_option, frame_resolver};
use std::convert::Infallible;

#[deprecated = "use `customer`"]
#[frame_option(name = "tenant")]
pub static TENANT: FrameOption<String>;

#[frame_option(name = "unread", dispatcher)]
#[expect(dead_code, reason = "callers set it by its name")]
static UNREAD: FrameOption<String>;

#[expect(non_upper_case_globals)]
#[frame_option(name = "lower", dispatcher)]
static lower: FrameOption<String>;

#[allow(deprecated)]
#[frame_resolver(order = 100, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    assert!(!options.contains(&TENANT));
    Ok(None)
}

#[cfg_attr(all(), expect(deprecated))]
#[frame_resolver(order = 200)]
fn expecting(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    assert!(!options.contains(&TENANT));
    Ok(None)
}

#[expect(dead_code)]
#[frame_resolver(order = 300)]
fn uncalled(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

#[cfg_attr(all(), deprecated)]
#[frame_key(name = "tenant", stays)]
pub static TENANT_KEY: Key<String>;

#[deprecated]
#[frame_resolver(order = 400)]
fn deprecated(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(None)
}

fn main() {
    assert_eq!(lower.name(), "lower");
}
