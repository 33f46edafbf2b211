//! When something about a child is to be done.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::time::Duration;

use rustc_hash::FxBuildHasher;
use tokio::time::Instant;

use super::children::{Key, Rekeyed};

/// When something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    At(Instant),
    /// Later than any time that can be counted.
    Never,
}

impl Due {
    pub(super) fn after(now: Instant, delay: Duration) -> Self {
        now.checked_add(delay).map_or(Self::Never, Self::At)
    }

    pub(super) fn time(self) -> Option<Instant> {
        match self {
            Self::At(time) => Some(time),
            Self::Never => None,
        }
    }
}

/// Children, each with a time: found by either. Nothing here looks at all of them.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    times: HashMap<Key, Due, FxBuildHasher>,
    in_time: BTreeSet<(Due, Key)>,
}

impl Schedule {
    /// Notes a child, or gives it another time.
    pub(super) fn set(&mut self, key: Key, due: Due) {
        if let Some(other) = self.times.insert(key, due) {
            self.in_time.remove(&(other, key));
        }
        self.in_time.insert((due, key));
    }

    pub(super) fn remove(&mut self, key: Key) {
        if let Some(due) = self.times.remove(&key) {
            self.in_time.remove(&(due, key));
        }
    }

    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.in_time.clear();
    }

    /// Knows the children by other keys.
    pub(super) fn rekey(&mut self, keys: &Rekeyed) {
        let times = mem::take(&mut self.times);
        self.in_time.clear();
        for (key, due) in times {
            self.set(keys.get(&key).copied().unwrap_or(key), due);
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<Due> {
        self.times.get(&key).copied()
    }

    pub(super) fn first(&self) -> Option<Due> {
        self.in_time.first().map(|&(due, _)| due)
    }

    pub(super) fn last(&self) -> Option<Due> {
        self.in_time.last().map(|&(due, _)| due)
    }

    /// Those whose time has come, the earliest first.
    pub(super) fn due(&self, now: Instant) -> Vec<Key> {
        self.in_time.range(..=(Due::At(now), Key::MAX)).map(|&(_, key)| key).collect()
    }

    /// All, in the order of the children.
    pub(super) fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<_> = self.times.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// None is later than `now` any more.
    pub(super) fn hurry(&mut self, now: Instant) {
        while let Some(&(due, key)) = self.in_time.last()
            && due > Due::At(now)
        {
            self.set(key, Due::At(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
            /// Against a list that is looked through.
            #[test]
            fn children_are_found_by_their_times(
                steps in prop::collection::vec((0_u64..6, 0_u64..9, 0_u8..9), 1..60),
            ) {
                let start = Instant::now();
                let at = |second| start + Duration::from_secs(second);
                let (mut model, mut schedule) = (BTreeMap::new(), Schedule::default());
                for (key, second, step) in steps {
                    match step {
                        0 => {
                            model.remove(&key);
                            schedule.remove(key);
                        }
                        1 => {
                            for due in model.values_mut() {
    *due = Due::At(at(second)).min(*due);
    }
                            schedule.hurry(at(second));
                        }
                        _ => {
                            let due = if step == 2 { Due::Never } else { Due::At(at(second)) };
                            model.insert(key, due);
                            schedule.set(key, due);
                        }
                    }
                    prop_assert_eq!(schedule.first(), model.values().min().copied());
                    prop_assert_eq!(schedule.last(), model.values().max().copied());
                    prop_assert_eq!(schedule.get(key), model.get(&key).copied());
                    prop_assert_eq!(schedule.keys(), model.keys().copied().collect::<Vec<_>>());
                    let mut due: Vec<_> = model.iter().filter(|&(_, &due)| due <= Due::At(at(5))).collect();
                    due.sort_unstable_by_key(|&(&key, &due)| (due, key));
                    prop_assert_eq!(schedule.due(at(5)), due.iter().map(|&(&key, _)| key).collect::<Vec<_>>());
                }
            }
        }
}
