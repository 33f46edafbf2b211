//! A name that is looked for in lists, with the names that it is below.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::LazyLock;

use crate::direct::bare;
use crate::endpoint::HostName;

/// More labels do not fit into a name.
const MAX_LABELS: usize = HostName::MAX_LEN.div_ceil(2);

/// The keys of the hashes of names, the same for all lists. They are random because scripts choose rules and names.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A name in lower case, with its hash and those of the names that it is below. They are the same for every list, so a chain
/// of lists hashes a name once.
pub(super) struct HashedName {
    text: [u8; HostName::MAX_LEN],
    len: usize,
    hash: u64,
    /// Where the names that it is below begin, and their hashes, the shortest first.
    parents: [u8; MAX_LABELS],
    hashes: [u64; MAX_LABELS],
    parents_len: usize,
}

impl HashedName {
    /// That of `name`, with the names that it is below of at most `max_labels` labels.
    pub(super) fn new(name: &HostName, max_labels: usize) -> Option<Self> {
        let name = bare(name);
        let mut hashed = Self {
            text: [0; HostName::MAX_LEN],
            len: name.len(),
            hash: 0,
            parents: [0; MAX_LABELS],
            hashes: [0; MAX_LABELS],
            parents_len: 0,
        };
        let text = hashed.text.get_mut(..name.len())?;
        text.copy_from_slice(name.as_bytes());
        text.make_ascii_lowercase();
        let mut places = hashed.parents.iter_mut().zip(&mut hashed.hashes).take(max_labels);
        hashed.hash = hash_labels(text, |begin, hash| {
            if let Some((place, place_hash)) = places.next()
                && let Ok(begin) = u8::try_from(begin)
            {
                (*place, *place_hash) = (begin, hash());
                hashed.parents_len += 1;
            }
        });
        Some(hashed)
    }

    /// The name and its hash.
    pub(super) fn whole(&self) -> (&[u8], u64) {
        (self.from(0), self.hash)
    }

    /// The names that it is below and their hashes, the shortest first.
    pub(super) fn parents(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let parents = self.parents.iter().zip(&self.hashes).take(self.parents_len);
        parents.map(|(begin, hash)| (self.from(usize::from(*begin)), *hash))
    }

    fn from(&self, begin: usize) -> &[u8] {
        self.text.get(begin..self.len).unwrap_or_default()
    }
}

/// The hash of a name in lower case.
pub(super) fn hash(name: &[u8]) -> u64 {
    hash_labels(name, |_, _| ())
}

/// Hashes a name from its last label on, so that its hash begins as those of the names that it is below. Calls `parent` with
/// where each of them begins, and what computes its hash.
fn hash_labels(name: &[u8], mut parent: impl FnMut(usize, &dyn Fn() -> u64)) -> u64 {
    let mut hasher = KEYS.build_hasher();
    let mut end = name.len();
    while let Some(dot) = name[..end.saturating_sub(1)].iter().rposition(|byte| *byte == b'.') {
        // With its dot, so that names of the same letters are told apart.
        hasher.write(&name[dot + 1..end]);
        parent(dot + 1, &|| hasher.finish());
        end = dot + 1;
    }
    hasher.write(&name[..end]);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashed(name: &str, max_labels: usize) -> HashedName {
        HashedName::new(&name.parse().unwrap(), max_labels).unwrap()
    }

    #[test]
    fn a_name_has_the_hashes_of_the_names_that_it_is_below() {
        let name = hashed("A.b.Example.COM.", 9);
        assert_eq!(name.whole(), (&b"a.b.example.com"[..], hash(b"a.b.example.com")));
        let parents = [&b"com"[..], b"example.com", b"b.example.com"].map(|parent| (parent, hash(parent)));
        assert_eq!(name.parents().collect::<Vec<_>>(), parents);
        assert_eq!(hashed("a.b.example.com", 2).parents().count(), 2);
        assert_ne!(hash(b"ab.c"), hash(b"a.bc"));
    }

    #[test]
    fn the_longest_name_fits() {
        let longest = format!("{}a", "a.".repeat(HostName::MAX_LEN / 2));
        let name = hashed(&longest, usize::MAX);
        assert_eq!((name.whole().0, name.parents().count()), (longest.as_bytes(), HostName::MAX_LEN / 2));
    }
}
