//! The resolver that puts the chosen overlay network on the frame.

use std::sync::Arc;

use frame_registry::{App, Context, Options, Pair, Pairs, frame_resolver};

use crate::error::{ChosenBy, NetworkError};
use crate::id::NetworkId;
use crate::option::{NETWORK, NetworkChoice, OVERLAY};
use crate::registry::{DEFAULT, require};

/// Chooses the overlay network of a frame: the option, or else what the parent's frame carries, or else the app's
/// default. Without any of them it adds nothing, and the frame is on clearnet.
///
/// What the parent's frame carries is added again, so that it holds also where the new frame is no fork of it.
///
/// # Errors
///
/// [`NetworkError::NotFound`] if the network that won is not registered, or if the app has no networks at all.
/// The next candidate is not tried: what was asked for is not to be had.
#[frame_resolver(order = 200, covers(NETWORK))]
pub fn overlay(ctx: &Context<'_>, options: &Options) -> Result<Option<Pair>, NetworkError> {
    let chosen = given(options).or_else(|| inherited(ctx)).or_else(|| default(ctx.app()));
    let Some(Chosen { id, by, pair }) = chosen else {
        return Ok(None);
    };
    require(ctx.app(), id, by)?;
    Ok(Some(pair))
}

/// Appends what [`overlay`] decides to `pairs`.
///
/// # Errors
///
/// As [`overlay`].
#[deprecated(
    note = "call `app.resolvers().resolve(&ctx, &options, &mut pairs)`, which runs every resolver, this one included"
)]
pub fn apply_overlay_pair(
    ctx: &Context<'_>,
    options: &Options,
    pairs: &mut Pairs,
) -> Result<(), NetworkError> {
    pairs.extend(overlay(ctx, options)?);
    Ok(())
}

struct Chosen<'a> {
    id: &'a NetworkId,
    by: ChosenBy,
    pair: Pair,
}

impl<'a> Chosen<'a> {
    fn new(id: &'a Arc<NetworkId>, by: ChosenBy) -> Self {
        Self { id, by, pair: OVERLAY.pair_shared(Arc::clone(id)) }
    }
}

fn given(options: &Options) -> Option<Chosen<'_>> {
    options.get(&NETWORK).and_then(NetworkChoice::shared).map(|id| Chosen::new(id, ChosenBy::Option))
}

fn inherited<'a>(ctx: &Context<'a>) -> Option<Chosen<'a>> {
    let carried = |pair: &'a Pair| {
        let id = pair.get(&OVERLAY)?;
        Some(Chosen { id, by: ChosenBy::ParentFrame, pair: pair.clone() })
    };
    ctx.parent()?.iter().find_map(carried)
}

fn default(app: &App) -> Option<Chosen<'_>> {
    app.get(&DEFAULT).map(|id| Chosen::new(id, ChosenBy::AppDefault))
}

#[cfg(test)]
mod tests;
