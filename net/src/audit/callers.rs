//! The units that called a unit.

use std::convert::Infallible;
use std::sync::Arc;

use frame_registry::{Key, Options, Pair, ResolveContext, frame_resolver};

use super::AUDIT;
use crate::limits::Unit;

/// The units that called the unit of a frame. Only the frames of an app with an [audit log](AUDIT) carry it.
pub static CALLERS: Key<Callers> = Key::new("net.callers");

/// The units that called a unit, directly or through others.
///
/// The nearest [`MAX`](Self::MAX) are kept. A unit that calls itself again and again is there once for each level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Callers {
    nearest: Arc<[Unit]>,
    omitted: u32,
}

impl Callers {
    /// How many are kept.
    pub const MAX: usize = 8;

    /// Returns the callers, the nearest first.
    pub fn nearest(&self) -> &[Unit] {
        &self.nearest
    }

    /// Returns how many more there are, further away.
    pub const fn omitted(&self) -> u32 {
        self.omitted
    }

    /// Those of what `unit` calls, if these are its own.
    fn followed_by(&self, unit: Unit) -> Self {
        let kept = self.nearest.len().min(Self::MAX - 1);
        let dropped = u32::try_from(self.nearest.len() - kept).unwrap_or(u32::MAX);
        let nearest = std::iter::once(unit).chain(self.nearest[..kept].iter().cloned()).collect();
        Self { nearest, omitted: self.omitted.saturating_add(dropped) }
    }
}

/// Adds the parent's unit to the callers that the parent's frame carries. It covers no option.
///
/// Code without a unit, such as what starts the app, does not count as a caller.
///
/// # Errors
///
/// None.
#[frame_resolver(order = 220)]
pub fn callers(ctx: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {
    let Some(parent) = ctx.parent().filter(|_| ctx.app().get(&AUDIT).is_some()) else { return Ok(None) };
    let unit = Unit::of(parent, ctx.app());
    let callers = match (parent.get(&CALLERS), unit.is_named()) {
        (None, false) => return Ok(None),
        (Some(carried), false) => carried.clone(),
        (carried, true) => carried.cloned().unwrap_or_default().followed_by(unit),
    };
    Ok(Some(CALLERS.pair(callers)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_callers_are_kept_and_the_others_counted() {
        let unit = |number: usize| Unit::new("function", format!("app:{number}"));
        let all = (0..20).fold(Callers::default(), |callers, number| callers.followed_by(unit(number)));
        let nearest: Vec<_> = (12..20).rev().map(unit).collect();
        assert_eq!(all.nearest(), nearest);
        assert_eq!(all.omitted(), 12);
    }
}
