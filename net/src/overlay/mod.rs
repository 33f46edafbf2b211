//! The option that chooses a frame's network, the key that carries the choice, and the resolver between them.

use std::sync::Arc;

use frame_registry::{
    App, FrameOption, Key, Options, Pair, ResolveContext, frame_key, frame_option, frame_resolver,
};

use crate::error::{ChosenBy, InsteadOf, NetworkError};
use crate::network::NetworkId;
use crate::registry::{DEFAULT, require};

/// The overlay network that the frame's traffic goes through: `namespace:name`.
///
/// In text, whatever is no [`NetworkId`] is refused, an empty string included: a variable that was left empty does not
/// mean clearnet. Of a script or a component an empty string is as good as no option, so that it has the network that
/// it would have without.
///
/// ```
/// use frame_net::{NETWORK, NetworkId};
/// use frame_registry::Options;
/// use serde_json::json;
///
/// let error = Options::from_json(&json!({ "network": "" })).unwrap_err();
/// assert_eq!(error.to_string(), "option `network` is empty; leave it out, or give it a value");
/// assert!(Options::from_json(&json!({ "network": null })).is_err());
///
/// let preset = Options::from_json(&json!({ "network": "app:tor" }))?;
/// let call = Options::from_untrusted_json(&json!({ "network": "" }))?;
/// assert_eq!(preset.merged_under(&call).get(&NETWORK).unwrap().as_str(), "app:tor");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[frame_option(name = "network", empty_is_unset)]
pub static NETWORK: FrameOption<NetworkId>;

/// The overlay network of a frame; forks inherit it. A frame without one is on the app's default, or on clearnet.
#[frame_key(name = "net.overlay", propagates, inherit, public)]
pub static NETWORK_KEY: Key<NetworkId>;

/// Chooses the overlay network of a frame: the option, or else what the parent's frame carries, or else the app's
/// default. Without any of them it adds nothing, and the frame is on clearnet.
///
/// What the parent's frame carries is added again, so that it holds also where the new frame is no fork of it.
///
/// # Errors
///
/// [`NetworkError::NotFound`] if the network that won is not registered, or if the app has no networks at all.
/// [`NetworkError::NotSelectable`] if code chose it that is not trusted, and [may not](crate#who-may-choose). The next
/// candidate is not tried: what was asked for is not to be had.
#[frame_resolver(order = 200, covers(NETWORK))]
fn overlay(ctx: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, NetworkError> {
    let given = given(options);
    let is_judged = given.is_some() && !options.is_trusted(&NETWORK);
    let Some(Chosen { id, pair, by }) = given.or_else(|| without_option(ctx)) else {
        return Ok(None);
    };
    let registered = require(ctx.app(), id, by)?;
    if is_judged && !registered.is_selectable {
        check_choice(id, ctx, options)?;
    }
    Ok(Some(pair))
}

/// Refuses a network that code chose that is not trusted, unless it is the one that the frame would have without.
fn check_choice(id: &NetworkId, ctx: &ResolveContext<'_>, options: &Options) -> Result<(), NetworkError> {
    let instead_of = if options.replaces_trusted(&NETWORK) {
        InsteadOf::Preset
    } else {
        match without_option(ctx) {
            Some(without) if without.id == id => return Ok(()),
            Some(without) => InsteadOf::Network(without.id.clone()),
            None => InsteadOf::Clearnet,
        }
    };
    Err(NetworkError::NotSelectable { id: id.clone(), instead_of })
}

/// A network, the pair that a frame gets for it, and who chose it.
struct Chosen<'a> {
    id: &'a NetworkId,
    pair: Pair,
    by: ChosenBy,
}

fn given(options: &Options) -> Option<Chosen<'_>> {
    let (id, pair) = (options.get(&NETWORK)?, options.pair(&NETWORK, &NETWORK_KEY)?);
    Some(Chosen { id, pair, by: ChosenBy::Option })
}

fn without_option<'a>(ctx: &ResolveContext<'a>) -> Option<Chosen<'a>> {
    inherited(ctx).or_else(|| default(ctx.app()))
}

fn inherited<'a>(ctx: &ResolveContext<'a>) -> Option<Chosen<'a>> {
    let parent = ctx.parent()?;
    let (id, pair) = (parent.get(&NETWORK_KEY)?, parent.pair(&NETWORK_KEY)?.clone());
    Some(Chosen { id, pair, by: ChosenBy::ParentFrame })
}

fn default(app: &App) -> Option<Chosen<'_>> {
    let id = app.get(&DEFAULT)?;
    Some(Chosen { id, pair: NETWORK_KEY.pair_shared(Arc::clone(id)), by: ChosenBy::AppDefault })
}

#[cfg(test)]
mod tests;
