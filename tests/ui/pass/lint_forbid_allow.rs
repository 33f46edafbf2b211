//! Where the crate forbids to allow a lint, nothing that is emitted does.
#![forbid(dead_code, deprecated, unused_imports, warnings)]
#![deny(forbidden_lint_groups)]

use frame_registry as registry;
use frame_registry::{ResolveContext, FrameOption, Key, Options, Pair, frame_key, frame_option, frame_resolver};
use std::convert::Infallible;

#[frame_option(name = "tenant")]
static TENANT: FrameOption<String>;

#[forbid(dead_code, deprecated)]
#[frame_option(name = "retries", dispatcher, crate = registry)]
static RETRIES: FrameOption<u32>;

#[frame_key(name = "tenant", propagates, inherit)]
#[forbid(dead_code, deprecated)]
static TENANT_KEY: Key<String>;

#[forbid(deprecated)]
#[frame_resolver(order = 200, covers(TENANT))]
#[forbid(dead_code)]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(options.pair(&TENANT, &TENANT_KEY))
}

fn main() {
    assert_eq!(RETRIES.name(), "retries");
}
