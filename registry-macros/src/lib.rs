//! The macros of `frame-registry`, which re-exports them; see its documentation.

mod args;
mod declaration;
mod item;
mod key;
mod name;
mod option;
mod paths;
mod require;
mod resolver;

use proc_macro::TokenStream;

/// Puts a function into the program's table of resolvers.
///
/// The function takes a `&ResolveContext<'_>` and an `&Options` and returns a `Result` of pairs: anything that is
/// `IntoIterator<Item = Pair>`, such as an `Option<Pair>` or an array. It stays usable as itself.
///
/// Arguments:
///
/// - `order = 200`: the lowest runs first, ties in the order of names; a pair made later wins over an earlier one
///   with the same key. An integer literal in the range of `i32`: it becomes the linker's sort key.
/// - `name = "overlay"`: unique in the program, and the function's name unless given. Letters, digits and `_`: it
///   becomes part of a symbol, by which two resolvers of one name do not link.
/// - `covers(NETWORK, …)`: the options this resolver is responsible for. An option is covered by one linked
///   resolver; others may read it.
/// - `crate = path`: where `frame_registry` is, if not at `::frame_registry`.
///
/// ```
/// # extern crate frame_registry;
/// use frame_registry::{FrameOption, Key, Options, Pair, ResolveContext, frame_option, frame_resolver};
/// use std::convert::Infallible;
///
/// #[frame_option(name = "tenant")]
/// pub static TENANT: FrameOption<String>;
///
/// pub static TENANT_KEY: Key<String> = Key::new("tenant").inherit();
///
/// #[frame_resolver(order = 300, covers(TENANT))]
/// fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
///     Ok(options.pair(&TENANT, &TENANT_KEY))
/// }
/// ```
#[proc_macro_attribute]
pub fn frame_resolver(args: TokenStream, item: TokenStream) -> TokenStream {
    resolver::frame_resolver(args.into(), item.into()).into()
}

/// Declares an option that calls may be given, once in the program.
///
/// It goes on a `static` of type `FrameOption<T>` without an initialiser.
///
/// Arguments:
///
/// - `name = "network"`: the option's name in text. Letters, digits and `_`: it becomes part of a symbol, by which
///   two options of one name do not link, nor an option that no linked resolver covers.
/// - `runtime`: a resolver that covers it may be registered later. Where none does, a call that sets it is refused.
/// - `dispatcher`: a dispatcher or an interceptor reads it itself, and no resolver is needed.
/// - `secret`: its values are hidden, in `Debug` and in errors. They are shown where options are serialized.
/// - `empty_is_unset`: an empty string that a script or a component gives is as good as no option at all: the option is
///   what it would have been without. Trusted text with an empty string, such as that of an environment variable that is
///   not set, is refused.
/// - `crate = path`: where `frame_registry` is, if not at `::frame_registry`.
///
/// An option can be given as text if `T` implements `serde::de::DeserializeOwned`. One of a reference, such as
/// `FrameOption<&'static str>`, can be set only by code. Where `T` is an alias or a struct that borrows, the compiler
/// reports that "implementation of `Deserialize` is not general enough": write an owned type, such as `String`.
///
/// ```
/// # extern crate frame_registry;
/// use frame_registry::{FrameOption, frame_option};
/// use std::time::Duration;
///
/// /// How long the call may take.
/// #[frame_option(name = "timeout", dispatcher)]
/// pub static TIMEOUT: FrameOption<Duration>;
/// ```
#[proc_macro_attribute]
pub fn frame_option(args: TokenStream, item: TokenStream) -> TokenStream {
    option::frame_option(args.into(), item.into()).into()
}

/// Declares a key of frames and what happens to its pairs between nodes, once in the program.
///
/// It goes on a `static` of type `Key<T>` without an initialiser. A key that never leaves its node needs no declaration:
/// `Key::new` makes one.
///
/// Arguments:
///
/// - `name = "net.overlay"`: the key's name on the wire, in `Debug` and for scripts. Parts of ASCII letters, digits and `_`
///   with `.` between them: it becomes part of a symbol, by which two keys of one name do not link.
/// - `propagates`: where a frame is carried to another node, the pair goes with it. The values implement
///   `serde::Serialize` and `serde::de::DeserializeOwned`: they are owned types, such as `String`. The compiler reports
///   one that borrows as "implementation of `Deserialize` is not general enough". Needs the feature `json`.
/// - `stays`: the pair is left out there, because its values mean nothing on another node. A key has this argument or the
///   one before.
/// - `inherit`, `inherit_forked`, `public`, `secret`: as the methods of `Key` of these names. A key that propagates
///   is inherited in one of the two ways.
/// - `crate = path`: where `frame_registry` is, if not at `::frame_registry`.
///
/// ```
/// # extern crate frame_registry;
/// use frame_registry::{Frame, Key, declared_key, frame_key};
///
/// /// The region that work stays in.
/// #[frame_key(name = "region", propagates, inherit)]
/// pub static REGION: Key<String>;
///
/// /// The directory that is open here.
/// #[frame_key(name = "directory", stays, inherit)]
/// pub static DIRECTORY: Key<std::path::PathBuf>;
///
/// let frame: Frame = [REGION.pair("eu".to_owned()), DIRECTORY.pair("/srv".into())].into_iter().collect();
/// let sent: Vec<_> = frame.iter().filter_map(|pair| Some((pair.name(), serde_json::to_value(pair.propagated()?)))).collect();
/// assert!(matches!(&sent[..], [("region", Ok(value))] if value == "eu"));
///
/// let received = declared_key("region")?.deserialize_pair(&serde_json::json!("eu"))?;
/// assert_eq!(received.get(&REGION).unwrap(), "eu");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[proc_macro_attribute]
pub fn frame_key(args: TokenStream, item: TokenStream) -> TokenStream {
    key::frame_key(args.into(), item.into()).into()
}

/// Names resolvers that this program relies on: where one is not linked, the program does not link.
///
/// In a `staticlib` it also pulls them in: the linker takes out of an archive only what something refers to. There,
/// write it in the module of a function that the C side calls, or inside that function.
///
/// ```
/// # use frame_registry::{Options, Pair, ResolveContext, frame_resolver};
/// # #[frame_resolver(order = 1)]
/// # fn tenant(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, std::convert::Infallible> { Ok(None) }
/// frame_registry::require_resolvers!("tenant");
/// ```
///
/// A `crate = path` before the names says where `frame_registry` is, if not at `::frame_registry`.
#[proc_macro]
pub fn require_resolvers(names: TokenStream) -> TokenStream {
    require::require_resolvers(names.into()).into()
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
