//! The resolver that puts the chosen overlay network on the frame.

use std::sync::Arc;

use frame_registry::{App, Context, Options, Pair, Pairs, frame_resolver};

use crate::error::{ChosenBy, NetworkError};
use crate::id::NetworkId;
use crate::option::{NETWORK, OVERLAY};
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
    let Some(Chosen { id, pair, by }) = chosen else {
        return Ok(None);
    };
    require(ctx.app(), id, by)?;
    Ok(Some(pair))
}

/// Appends what [`overlay`] decides to `pairs`. What other options decide, [`ISOLATION`](crate::ISOLATION) among them,
/// it does not.
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

/// A network, the pair that a frame gets for it, and who chose it.
struct Chosen<'a> {
    id: &'a NetworkId,
    pair: Pair,
    by: ChosenBy,
}

fn given(options: &Options) -> Option<Chosen<'_>> {
    let (id, pair) = (options.get(&NETWORK)?, options.pair(&NETWORK, &OVERLAY)?);
    Some(Chosen { id, pair, by: ChosenBy::Option })
}

fn inherited<'a>(ctx: &Context<'a>) -> Option<Chosen<'a>> {
    let parent = ctx.parent()?;
    let (id, pair) = (parent.get(&OVERLAY)?, parent.pair(&OVERLAY)?.clone());
    Some(Chosen { id, pair, by: ChosenBy::ParentFrame })
}

fn default(app: &App) -> Option<Chosen<'_>> {
    let id = app.get(&DEFAULT)?;
    Some(Chosen { id, pair: OVERLAY.pair_shared(Arc::clone(id)), by: ChosenBy::AppDefault })
}

#[cfg(test)]
mod tests;
