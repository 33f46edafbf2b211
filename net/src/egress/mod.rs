//! The option `egress`: where a unit may connect.
//!
//! The option is a list of [rules](EgressRule), such as `["*.example.com:443", "10.0.0.0/8"]`. A unit reaches a destination
//! only if a rule covers it, whichever network carries the traffic. Without the option all destinations are allowed, and
//! with `[]` none is.
//!
//! - **It covers what goes out**: connections, each datagram by its peer, lookups of names, and so each redirect of an HTTP
//!   request and each request over a connection that was kept. Answers on connections that a listener accepts are not
//!   covered: to accept none, allow no [`listen`](crate::DirectConfig).
//! - **It is checked before anything is sent.** A name that no rule covers is not looked up. A rule for addresses covers
//!   addresses that were given as such, and never a name.
//! - **It is inherited, and each level only narrows.** Whatever a unit spawns has its lists, and may add one of its own. A
//!   destination must pass all of them. This holds for trusted options, too: neither a preset of what is called nor an option
//!   of a call widens what the caller has.
//! - **It is about the unit.** What a network connects to for itself, such as its proxy, is part of its configuration. The
//!   rules of the network, such as those of a [`Direct`](crate::Direct) one, hold beside the lists.
//!
//! ```standalone_crate
//! use frame_net::{EGRESS_KEY, NetConfig, dialer};
//! use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, Options, ResolveContext};
//! use serde_json::json;
//!
//! let mut app = App::builder();
//! app.set_resolvers(FrameResolvers::linked())?;
//! frame_net::boot(&mut app, NetConfig::default())?;
//! let app = app.build();
//!
//! let frame = |parent: Option<&Frame>, rules| {
//!     let options = Options::from_json(&json!({ "egress": rules }))?;
//!     let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
//!     app.resolvers().resolve(&ResolveContext::new(&app, parent), &options, frame.pairs_mut())?;
//!     Ok::<_, Box<dyn std::error::Error>>(frame.seal())
//! };
//! let parent = frame(None, json!(["*.example.com"]))?;
//! let child = frame(Some(&parent), json!(["api.example.com:443", "api.example.org:443"]))?;
//!
//! let egress = child.get(&EGRESS_KEY).unwrap();
//! assert!(egress.check(&"api.example.com:443".parse()?).is_allowed());
//! assert!(!egress.check(&"api.example.org:443".parse()?).is_allowed(), "the caller has no such rule");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Narrowing further in another crate
//!
//! A [`Dialer`](crate::Dialer) obeys every pair of its frame whose value is an [`Egress`], whatever the key. So a crate with
//! an option of its own that limits destinations declares a key of its own, and its resolver returns a pair of it:
//!
//! ```standalone_crate
//! use frame_net::{Egress, EgressList};
//! use frame_registry::{FrameOption, Key, Options, Pair, ResolveContext, frame_option, frame_resolver};
//! # use std::convert::Infallible;
//!
//! /// Whether the call may reach this machine only.
//! #[frame_option(name = "local_only")]
//! pub static LOCAL_ONLY: FrameOption<bool>;
//!
//! /// What is left of the destinations then. Forks inherit it.
//! pub static LOCAL_ONLY_KEY: Key<Egress> = Key::new("local_only.egress").inherit();
//!
//! #[frame_resolver(order = 400, covers(LOCAL_ONLY))]
//! fn local_only(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, frame_net::EgressListError> {
//!     // What the parent has is inherited, so that `false` takes nothing back.
//!     if options.get(&LOCAL_ONLY) != Some(&true) {
//!         return Ok(None);
//!     }
//!     Ok(Some(LOCAL_ONLY_KEY.pair(Egress::new(EgressList::parse(["127.0.0.0/8", "::1"])?))))
//! }
//! ```

mod chain;
mod list;
mod name;
mod refusal;
mod rule;

use frame_registry::{
    FrameOption, Key, Options, Pair, ResolveContext, frame_key, frame_option, frame_resolver,
};

pub use self::chain::{Egress, Verdict};
pub use self::list::{EgressList, EgressListError};
pub use self::refusal::EgressRefusal;
pub use self::rule::{EgressRule, EgressRuleError};

/// The destinations that the call and what it spawns may reach: a list of rules such as `"*.example.com:443"`, of which one
/// must cover the destination (see [`EgressRule`]). An empty list allows none. Without the option, the call may reach what
/// its caller may.
///
/// Each level only narrows: where a preset and a call both have the option, both lists hold.
///
/// ```
/// use frame_net::EGRESS;
/// use frame_registry::Options;
/// use serde_json::json;
///
/// let preset = Options::from_json(&json!({ "egress": ["*.example.com"] }))?;
/// let call = Options::from_untrusted_json(&json!({ "egress": ["api.example.com", "evil.example"] }))?;
/// let merged = preset.merged_under(&call);
/// let egress = merged.get(&EGRESS).unwrap();
/// assert!(egress.check(&"api.example.com:443".parse()?).is_allowed());
/// assert!(!egress.check(&"evil.example:443".parse()?).is_allowed());
/// assert!(!egress.check(&"www.example.com:443".parse()?).is_allowed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[frame_option(name = "egress")]
pub static EGRESS: FrameOption<Egress>;

/// The destinations that a frame may reach; forks inherit it. A frame without it may reach all.
///
/// The resolver [`egress`](egress()) alone makes pairs of it. To narrow a frame otherwise, [push](frame_registry::FrameBuilder::push) a pair
/// of a key of your own: this one is replaced by that of the parent's frame. Scripts do not see it.
#[frame_key(name = "net.egress", propagates, inherit)]
pub static EGRESS_KEY: Key<Egress>;

/// How many rules the option can have if a script or a component gives it, with those that are preset. Their memory does not
/// count as the script's.
const MAX_UNTRUSTED_RULES: usize = 256;

/// Puts the lists of the parent's frame and that of the option on the frame. Without either it adds nothing, and the frame may
/// reach all destinations.
///
/// # Errors
///
/// [`EgressError`] if there would be too many lists or rules.
#[frame_resolver(order = 220, covers(EGRESS))]
pub fn egress(ctx: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, EgressError> {
    let inherited = ctx.parent().and_then(|parent| parent.pair(&EGRESS_KEY));
    let Some(given) = options.get(&EGRESS) else {
        return Ok(inherited.cloned());
    };
    if !options.is_trusted(&EGRESS) && given.rules_len() > MAX_UNTRUSTED_RULES {
        return Err(EgressError::TooManyRules);
    }
    let narrowed = match inherited.and_then(|pair| pair.get(&EGRESS_KEY)) {
        Some(inherited) => inherited.narrowed_by(given),
        None => given.clone(),
    };
    if narrowed.lists().count() > Egress::MAX_LISTS {
        return Err(EgressError::TooManyLists);
    }
    Ok(Some(EGRESS_KEY.pair(narrowed)))
}

/// The option `egress` cannot be honoured, so there is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// Units that call each other have given too many different lists.
    #[error(
        "calls are nested in {} different `egress` lists already; leave the option out, or give one of these lists again",
        Egress::MAX_LISTS
    )]
    TooManyLists,
    /// A script or a component gave a long list.
    #[error(
        "scripts and components can give at most {MAX_UNTRUSTED_RULES} rules in `egress`, including those that are preset; \
         leave the option out, or cover several destinations with one rule"
    )]
    TooManyRules,
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
