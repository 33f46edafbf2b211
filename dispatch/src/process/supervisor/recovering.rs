//! The children that are to be down, and then up again.

use std::collections::BTreeMap;
use std::mem;

use tokio::time::Instant;

use super::children::{Key, Rekeyed};
use super::schedule::{Due, Schedule};

/// Those that are to be down, and then up again, each not before its time.
#[derive(Debug, Default)]
pub(super) struct Recovering {
    /// Those whose processes have not ended.
    up: BTreeMap<Key, Due>,
    down: Schedule,
}

impl Recovering {
    /// Notes one, with its time, whatever that was before.
    pub(super) fn set(&mut self, key: Key, is_down: bool, due: Due) {
        if is_down {
            self.down.set(key, due);
        } else {
            self.up.insert(key, due);
        }
    }

    /// The process of one has ended. Says whether it is one of these.
    pub(super) fn ended(&mut self, key: Key) -> bool {
        if let Some(due) = self.up.remove(&key) {
            self.down.set(key, due);
        }
        self.contains(key)
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.up.remove(&key);
        self.down.remove(key);
    }

    pub(super) fn clear(&mut self) {
        self.up.clear();
        self.down.clear();
    }

    /// Knows the children by other keys.
    pub(super) fn rekey(&mut self, keys: &Rekeyed) {
        let up = mem::take(&mut self.up);
        self.up = up.into_iter().map(|(key, due)| (keys.get(&key).copied().unwrap_or(key), due)).collect();
        self.down.rekey(keys);
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn get(&self, key: Key) -> Option<Due> {
        self.up.get(&key).copied().or_else(|| self.down.get(key))
    }

    /// The last of those that are not down yet.
    pub(super) fn last_up(&self) -> Option<Key> {
        self.up.last_key_value().map(|(&key, _)| key)
    }

    pub(super) const fn down(&self) -> &Schedule {
        &self.down
    }

    /// When all can be started: none if one is not down yet.
    pub(super) fn all_due(&self) -> Option<Due> {
        if self.up.is_empty() { self.down.last() } else { None }
    }

    /// None has to wait for its time any more.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.up.values_mut().for_each(|due| *due = Due::At(now).min(*due));
        self.down.hurry(now);
    }
}
