//! Schedules of children: when each is to be stopped or restarted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::time::Duration;

use rustc_hash::FxBuildHasher;
use tokio::time::Instant;

use super::children::{Key, Rekeyed};

/// The time at which a child is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    At(Instant),
    /// Later than any time that can be represented.
    Never,
}

impl Due {
    pub(crate) fn after(now: Instant, delay: Duration) -> Self {
        now.checked_add(delay).map_or(Self::Never, Self::At)
    }

    pub(crate) fn time(self) -> Option<Instant> {
        match self {
            Self::At(time) => Some(time),
            Self::Never => None,
        }
    }
}

/// Times of children, found by child and by time. No operation but [`keys`](Self::keys) and [`rekey`](Self::rekey) visits all of them.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    times: HashMap<Key, Due, FxBuildHasher>,
    in_time: BTreeSet<(Due, Key)>,
}

impl Schedule {
    /// Adds a child, or sets its time.
    pub(crate) fn set(&mut self, key: Key, due: Due) {
        if let Some(other) = self.times.insert(key, due) {
            self.in_time.remove(&(other, key));
        }
        self.in_time.insert((due, key));
    }

    pub(crate) fn remove(&mut self, key: Key) {
        if let Some(due) = self.times.remove(&key) {
            self.in_time.remove(&(due, key));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.times.clear();
        self.in_time.clear();
    }

    /// Replaces the keys of children.
    pub(crate) fn rekey(&mut self, keys: &Rekeyed) {
        let times = mem::take(&mut self.times);
        self.in_time.clear();
        for (key, due) in times {
            self.set(keys.get(&key).copied().unwrap_or(key), due);
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Due> {
        self.times.get(&key).copied()
    }

    pub(crate) fn first(&self) -> Option<Due> {
        self.in_time.first().map(|&(due, _)| due)
    }

    pub(crate) fn last(&self) -> Option<Due> {
        self.in_time.last().map(|&(due, _)| due)
    }

    /// Returns the children that are due, the earliest first.
    pub(crate) fn due(&self, now: Instant) -> Vec<Key> {
        self.in_time.range(..=(Due::At(now), Key::MAX)).map(|&(_, key)| key).collect()
    }

    /// Returns all children in order.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<_> = self.times.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// Makes all children due that are later than `now`.
    pub(crate) fn hurry(&mut self, now: Instant) {
        while let Some(&(due, key)) = self.in_time.last()
            && due > Due::At(now)
        {
            self.set(key, Due::At(now));
        }
    }
}

/// The children to be restarted, each not before its time. They have to be down first.
#[derive(Debug, Default)]
pub(crate) struct Recovering {
    /// The children whose processes have not ended.
    up: BTreeMap<Key, Due>,
    down: Schedule,
}

impl Recovering {
    /// Adds a child, or sets its time.
    pub(crate) fn set(&mut self, key: Key, is_down: bool, due: Due) {
        if is_down {
            self.down.set(key, due);
        } else {
            self.up.insert(key, due);
        }
    }

    /// Notes that the process of a child has ended. Returns whether the child is to be restarted.
    pub(crate) fn ended(&mut self, key: Key) -> bool {
        if let Some(due) = self.up.remove(&key) {
            self.down.set(key, due);
        }
        self.contains(key)
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.up.remove(&key);
        self.down.remove(key);
    }

    pub(crate) fn clear(&mut self) {
        self.up.clear();
        self.down.clear();
    }

    /// Replaces the keys of children.
    pub(crate) fn rekey(&mut self, keys: &Rekeyed) {
        let up = mem::take(&mut self.up);
        self.up = up.into_iter().map(|(key, due)| (keys.get(&key).copied().unwrap_or(key), due)).collect();
        self.down.rekey(keys);
    }

    pub(crate) fn contains(&self, key: Key) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn get(&self, key: Key) -> Option<Due> {
        self.up.get(&key).copied().or_else(|| self.down.get(key))
    }

    /// Returns the last child that is not down yet.
    pub(crate) fn last_up(&self) -> Option<Key> {
        self.up.last_key_value().map(|(&key, _)| key)
    }

    pub(crate) const fn down(&self) -> &Schedule {
        &self.down
    }

    /// Returns when all can be started. `None` if one is not down yet.
    pub(crate) fn all_due(&self) -> Option<Due> {
        if self.up.is_empty() { self.down.last() } else { None }
    }

    /// Makes all of them due.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.up.values_mut().for_each(|due| *due = Due::At(now).min(*due));
        self.down.hurry(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
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
