//! Items of the user's that are named like what is emitted, or like what that refers to.
#![deny(warnings)]
#![allow(non_camel_case_types, dead_code, non_upper_case_globals)]

use frame_registry::{FrameResolvers, Key, frame_option, frame_resolver};

static KEY: Key<u32> = Key::new("key");

static RESOLVER: u32 = 1;
static __FRAME_RESOLVER: u32 = 2;
static __FRAME_OPTION: u32 = 3;
static OPTIONS: u32 = 4;
static RESOLVERS: u32 = 5;
static __frame_resolver_run: u32 = 6;
fn ctx() {}
fn option0() {}
fn __frame_resolver_guards() {}

mod core {}
mod std {}
mod linkme {}
mod frame_registry_macros {}

struct ResolveContext;
struct Options;
struct Pair;
struct Pairs;
struct Ok;
struct Err;
struct Some;
struct None;
struct Result;
struct Option;
struct Box;
struct usize;
struct u8;
struct i32;
struct isize;
struct str;
trait Into {}
trait IntoIterator {}
trait NoReader {}
trait Sync {}
trait ResolverOutput {
    fn append_to(self) -> u32;
}
impl<T> ResolverOutput for T {
    fn append_to(self) -> u32 {
        7
    }
}
trait ContextArgument {
    fn of() -> u32;
}
impl<T> ContextArgument for T {
    fn of() -> u32 {
        8
    }
}
#[allow(unused_macros)]
macro_rules! file {
    () => {
        compile_error!("the user's")
    };
}
#[allow(unused_macros)]
macro_rules! line {
    () => {
        compile_error!("the user's")
    };
}
#[allow(unused_macros)]
macro_rules! module_path {
    () => {
        compile_error!("the user's")
    };
}

/// A tenant.
#[frame_option(name = "tenant")]
static TENANT: frame_registry::FrameOption<u32>;

frame_registry::require_resolvers!("tenant", "declared");

#[frame_resolver(order = 1, covers(TENANT))]
fn tenant(
    ctx: &frame_registry::ResolveContext<'_>,
    options: &frame_registry::Options,
) -> ::std::result::Result<::std::option::Option<frame_registry::Pair>, ::std::convert::Infallible> {
    ::std::assert!(ctx.parent().is_none());
    ::std::result::Result::Ok(options.pair(&TENANT, &KEY))
}

/// Named like a method of what is emitted.
#[frame_resolver(order = 2)]
fn declared(
    _: &frame_registry::ResolveContext<'_>,
    _: &frame_registry::Options,
) -> ::std::result::Result<[frame_registry::Pair; 0], ::std::convert::Infallible> {
    ::std::result::Result::Ok([])
}

/// Named like what is emitted for a resolver.
#[frame_resolver(order = 3)]
fn __frame_context(
    _: &frame_registry::ResolveContext<'_>,
    _: &frame_registry::Options,
) -> ::std::result::Result<[frame_registry::Pair; 0], ::std::convert::Infallible> {
    ::std::result::Result::Ok([])
}

mod named_like_what_is_emitted {
    use frame_registry::{ResolveContext, FrameOption, Key, Options, Pair, frame_key, frame_option, frame_resolver};
    use std::convert::Infallible;

    #[frame_option(name = "option")]
    static __FRAME_OPTION: FrameOption<u32>;
    #[frame_option(name = "covered")]
    static __FRAME_OPTION_COVERED_BY: FrameOption<u32>;
    #[frame_option(name = "resolver")]
    static __FRAME_RESOLVER: FrameOption<u32>;
    #[frame_key(name = "key", stays)]
    static __FRAME_KEY: Key<u32>;

    #[frame_resolver(order = 4, covers(__FRAME_OPTION, __FRAME_OPTION_COVERED_BY, __FRAME_RESOLVER))]
    fn __frame_resolver_run(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(options.pair(&__FRAME_OPTION, &__FRAME_KEY))
    }

    #[frame_resolver(order = 5)]
    fn ctx(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
        Ok(None)
    }

    pub fn options() -> Options {
        let options = Options::new().with(&__FRAME_OPTION, 1).with(&__FRAME_OPTION_COVERED_BY, 2);
        options.with(&__FRAME_RESOLVER, 3)
    }
}

fn main() {
    let app = frame_registry::App::builder().build();
    let options = frame_registry::Options::new().with(&TENANT, 7);
    let mut frame = frame_registry::FrameBuilder::new();
    let ctx = frame_registry::ResolveContext::new(&app, ::std::option::Option::None);
    FrameResolvers::linked().resolve(&ctx, &options, frame.pairs_mut()).unwrap();
    ::std::assert_eq!(*frame.get(&KEY).unwrap(), 7);

    let mut pairs = frame_registry::Pairs::new();
    FrameResolvers::linked().resolve(&ctx, &named_like_what_is_emitted::options(), &mut pairs).unwrap();
    ::std::assert_eq!(pairs.len(), 1);
}
