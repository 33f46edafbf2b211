//! Which options the interceptors of a call saw, to notice those that nobody did.

use std::iter::successors;
use std::ptr;
use std::sync::Arc;

use frame_registry::{DeclaredOption, FrameOption, FrameValue, OptionKind, Options};

use super::chain::Link;
use super::{MAX_CONCURRENT, RATE_LIMIT, RETRY, TIMEOUT, TRACED};
use crate::error::CallError;

/// Interceptors that a call came to with the same options: some that it passed by and, unless it came to the function, one
/// that it called.
#[derive(Clone, Copy)]
pub(super) struct OptionAudit<'a> {
    /// The last is the one that was called.
    pub(super) links: &'a [Arc<Link>],
    pub(super) options: &'a Options,
    /// Those further outside.
    pub(super) outer: Option<&'a OptionAudit<'a>>,
}

impl OptionAudit<'_> {
    /// Refuses options that somebody gave to have something done, and that nobody reads: for those in front of the
    /// function.
    pub(super) fn check(&self) -> Result<(), CallError> {
        self.options
            .iter()
            .filter(|option| option.kind() == OptionKind::Dispatcher)
            .try_for_each(|option| self.check_one(option))
    }

    fn check_one(&self, option: &DeclaredOption) -> Result<(), CallError> {
        let mut setter = None;
        for seen in self.outwards() {
            if !is_same(option, seen.options, self.options) {
                setter = seen.links.last();
                break;
            }
            if seen.links.iter().any(|link| link.reads(option)) {
                return Ok(());
            }
        }
        if setter.is_some_and(|setter| setter.reads(option)) {
            return Ok(());
        }
        let name = option.name();
        let mut passed = self.outwards().flat_map(|seen| seen.links.iter().rev());
        Err(CallError::invalid(match (setter, passed.find(|link| link.reads(option))) {
            (Some(setter), Some(reader)) => format!(
                "the option `{name}` was set by the interceptor `{setter}`, which is further inside than `{reader}`, \
                 which reads it; give `{setter}` a lower order",
                setter = setter.name(),
                reader = reader.name(),
            ),
            _ => format!(
                "the option `{name}` is set, and no interceptor that reads it is registered; register one, or leave \
                 the option out"
            ),
        }))
    }

    fn outwards(&self) -> impl Iterator<Item = &Self> {
        successors(Some(self), |seen| seen.outer)
    }
}

/// Whether an option was set already, to what it is now. Of one that is not built in the values cannot be compared.
fn is_same(option: &DeclaredOption, then: &Options, now: &Options) -> bool {
    fn is_changed<T: FrameValue + PartialEq>(
        known: &'static FrameOption<T>,
        option: &DeclaredOption,
        then: &Options,
        now: &Options,
    ) -> bool {
        ptr::eq(known.declared(), option) && then.get(known) != now.get(known)
    }
    then.iter().any(|set| ptr::eq(set, option))
        && !is_changed(&TIMEOUT, option, then, now)
        && !is_changed(&RETRY, option, then, now)
        && !is_changed(&RATE_LIMIT, option, then, now)
        && !is_changed(&MAX_CONCURRENT, option, then, now)
        && !is_changed(&TRACED, option, then, now)
}
