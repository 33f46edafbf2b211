//! Frame-context resolvers, registered at compile time.
//!
//! A runtime that spawns functions and processes gives each a [`Frame`]: typed pairs that the unit, and whatever
//! it spawns, reads its surroundings from. [`Options`] of the call decide what goes on it. Adding such an option
//! is one annotated function, and no dispatcher is edited for it:
//!
//! ```
//! use frame_registry::{FrameOption, Key, Options, Pair, ResolveContext, frame_option, frame_resolver};
//! use std::convert::Infallible;
//!
//! /// Whose work this is.
//! #[frame_option(name = "tenant")]
//! pub static TENANT: FrameOption<String>;
//!
//! /// The tenant of this frame; forks inherit it.
//! pub static TENANT_KEY: Key<String> = Key::new("tenant").inherit();
//!
//! #[frame_resolver(order = 300, covers(TENANT))]
//! fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
//!     Ok(options.pair(&TENANT, &TENANT_KEY))
//! }
//! ```
//!
//! Every dispatcher makes one call, knowing none of them:
//!
//! ```
//! use frame_registry::{App, Frame, Options, ResolveContext, ResolveError};
//!
//! fn child_frame(app: &App, parent: &Frame, options: &Options) -> Result<Frame, ResolveError> {
//!     let mut child = parent.fork();
//!     app.resolvers().resolve(&ResolveContext::new(app, Some(parent)), options, child.pairs_mut())?;
//!     Ok(child.seal())
//! }
//! ```
//!
//! - The table of resolvers is **sorted by the linker**: it stands in the program's file in the order in which
//!   resolvers run. No code runs before `main`, and nothing is sorted, allocated or locked at boot.
//! - **Wiring mistakes do not link**: a resolver name used twice, or an option whose resolver was not linked in.
//! - **Free when unused**: a registry without resolvers costs one compare.
//! - **Open at runtime**: [`FrameResolvers::register`] adds resolvers while other threads resolve.
//!
//! # Conventions
//!
//! Builders, which are [`AppBuilder`] and [`FrameBuilder`], have setters that take and return `&mut self`, and end by value
//! in [`build`](AppBuilder::build) or [`seal`](FrameBuilder::seal). What is not a builder is extended by value:
//! [`Options::with`], [`Resolver::covers`], [`Key::inherit`].
//!
//! # Cargo features
//!
//! - `json` (default): options can be given as JSON, by their declared names, and implement serde's traits; values of keys
//!   can be read by scripts as JSON, and propagate to other nodes through serde.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[doc(hidden)]
#[path = "private.rs"]
#[allow(missing_docs)]
pub mod __private;
mod app;
mod boundary;
mod error;
mod frame;
mod hold;
mod id;
mod inline_vec;
#[cfg(feature = "json")]
mod json;
mod key;
mod link;
mod location;
mod merged;
mod observe;
mod option;
mod options;
mod output;
mod pair;
mod publish;
mod registration;
mod resolver;
mod resolvers;
mod sorted_view;
mod sync;
#[cfg(feature = "json")]
pub mod text;
mod value;

pub use self::app::ResolveContext;
pub use crate::app::{App, AppBuilder, AppError};
pub use crate::boundary::{Boundary, DeclaredKey, declared_keys};
#[cfg(feature = "json")]
pub use crate::boundary::{KeyError, Propagated, declared_key};
pub use crate::error::{BoxError, RegisterError, ResolveError, ResolveErrorKind, WiringError};
pub use crate::frame::{Frame, FrameBuilder};
pub use crate::hold::StillInUse;
pub use crate::id::{Id, IdError, IdKind};
#[cfg(feature = "json")]
pub use crate::json::OptionError;
pub use crate::key::{Fork, Key};
pub use crate::link::Layout;
pub use crate::location::Location;
pub use crate::observe::{Observation, Outcome, Resolution, Step};
pub use crate::option::{DeclaredOption, FrameOption, Narrow, OptionKind, declared_options};
pub use crate::options::{OptionEntry, OptionValue, Options};
pub use crate::output::{IntoCause, IntoPairs};
pub use crate::pair::{IntoIter, Iter, Pair, Pairs};
pub use crate::registration::Registration;
pub use crate::resolver::{Origin, Resolver, ResolverInfo};
pub use crate::resolvers::FrameResolvers;
pub use crate::value::FrameValue;

pub use frame_registry_macros::{frame_key, frame_option, frame_resolver, require_resolvers};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
