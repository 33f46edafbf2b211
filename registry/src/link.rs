//! The table that the linker made, checked once before it is trusted.
//!
//! Three things are there, by their reliability:
//! - [`RESOLVERS`] and [`OPTIONS`], gathered by linkme: every one that is linked, in no useful order. The truth.
//! - The sorted view, on ELF: each resolver also puts its address into a section of its own, named by order and
//!   name, and the linker script lays these sections side by side in the order of their names. It is there only
//!   where the linker took the script (`build.rs`), which its two bounds tell: weak, so null without the script.
//! - The guards: one strong symbol a name, so that two of a name do not link, and one undefined symbol for each
//!   option, so that an option without a resolver does not link. They are hidden, but for the symbols of the options
//!   themselves: a program refers to those where they are in a shared library together with the registry.

use std::fmt;
use std::sync::OnceLock;
use std::{mem, ptr};

use crate::boundary;
use crate::error::WiringError;
use crate::location::Location;
use crate::option::{DeclaredOption, OptionKind};
use crate::options::Options;
use crate::resolver::LinkedResolver;
use crate::sorted_view::sorted_by_linker;

/// Every resolver that is linked into the program.
#[linkme::distributed_slice]
pub static RESOLVERS: [LinkedResolver];

/// Every option that is declared in the program.
#[linkme::distributed_slice]
pub static OPTIONS: [ListedOption];

/// An entry of the list of declared options.
#[derive(Debug)]
pub struct ListedOption {
    pub(crate) option: &'static DeclaredOption,
    /// The entry's own, as the next: under thin LTO two options of one name become one static, and this is what is left of
    /// the other.
    pub(crate) is_secret: bool,
    pub(crate) location: Location,
}

/// Every option that is declared in the program, in no useful order.
pub(crate) fn options() -> &'static [ListedOption] {
    OPTIONS.static_slice()
}

/// How the table came into order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// It stands in order in the program's file.
    LinkTime,
    /// The linker could not sort it, so it was sorted when it was first used.
    FirstUse,
}

impl Layout {
    /// `link-time` or `first-use`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LinkTime => "link-time",
            Self::FirstUse => "first-use",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The linked resolvers, in the order they run.
pub(crate) struct LinkedTable {
    /// Where the elements themselves are.
    elements: &'static [LinkedResolver],
    /// The elements in the order they run.
    sorted: &'static [&'static LinkedResolver],
    layout: Layout,
    checked: Result<(), WiringError>,
}

impl LinkedTable {
    /// The program's table; the first call checks it.
    pub(crate) fn get() -> &'static Self {
        static TABLE: OnceLock<LinkedTable> = OnceLock::new();
        TABLE.get_or_init(|| {
            let elements = RESOLVERS.static_slice();
            Self::new(elements, sorted_by_linker(elements), options())
        })
    }

    fn new(
        elements: &'static [LinkedResolver],
        by_linker: Option<&'static [&'static LinkedResolver]>,
        options: &[ListedOption],
    ) -> Self {
        let (sorted, layout) = match by_linker {
            Some(view) if is_in_order(view) => (view, Layout::LinkTime),
            _ => {
                let mut view: Vec<_> = elements.iter().collect();
                view.sort_unstable_by_key(|resolver| run_order(resolver));
                // The table is made once and lives as long as the program, so this is not a leak.
                (&*view.leak(), Layout::FirstUse)
            }
        };
        let mut table = Self { elements, sorted, layout, checked: Ok(()) };
        table.checked = table.check(options);
        table
    }

    /// The resolvers in the order they run.
    #[inline]
    pub(crate) fn resolvers(&self) -> &'static [&'static LinkedResolver] {
        self.sorted
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// What is wrong with the program, if anything.
    #[inline]
    pub(crate) fn checked(&self) -> Result<(), &WiringError> {
        match &self.checked {
            Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What is wrong with the options and keys of the program, if anything, whatever its resolvers are.
    pub(crate) fn declarations_checked(&self) -> Result<(), &WiringError> {
        // These are looked for first, so no other error hides them.
        match self.checked() {
            Err(WiringError::DuplicateResolver { .. } | WiringError::DuplicateCover { .. }) => Ok(()),
            checked => checked,
        }
    }

    /// Whether each of `options` is plain, or covered by a resolver of this table according to the linker.
    #[inline]
    pub(crate) fn covers_all_by_link(&self, options: &Options) -> bool {
        if options.is_empty() {
            return true;
        }
        let elements = self.elements.as_ptr_range();
        options.all(|option| match option.covered_by {
            Some(resolver) => elements.contains(&ptr::from_ref(*resolver)),
            None => option.kind == OptionKind::Dispatcher,
        })
    }

    fn check(&self, options: &[ListedOption]) -> Result<(), WiringError> {
        let names = options.iter().map(|listed| (listed.option.name, listed.location));
        if let Some((name, first, second)) = duplicate(&names) {
            return Err(WiringError::DuplicateOption { name, first, second });
        }
        boundary::check()?;

        let hash = |resolver: &&LinkedResolver| resolver.name_hash;
        let resolvers = self.sorted.iter().copied();
        if let Some((one, other)) = first_same(&resolvers, hash, |one, other| one.name == other.name) {
            let (first, second) = in_order(one.location, other.location);
            return Err(WiringError::DuplicateResolver { name: one.name, first, second });
        }

        self.check_covers()
    }

    fn check_covers(&self) -> Result<(), WiringError> {
        if self.sorted.iter().all(|resolver| resolver.covers.is_empty()) {
            return Ok(());
        }
        let covers = self.sorted.iter().flat_map(|resolver| {
            resolver.covers.iter().map(|option| Cover { option: option.declared(), resolver })
        });
        // A resolver that names an option twice covers it once.
        let are_same = |one: &Cover, other: &Cover| {
            one.option.is(other.option) && !ptr::eq(one.resolver, other.resolver)
        };
        if let Some((one, other)) = first_same(&covers, |cover| name_hash(cover.option.name), are_same) {
            let place = |cover: &Cover| (cover.resolver.location, cover.resolver.name);
            let ((first, one_name), (second, other_name)) = in_order(place(&one), place(&other));
            let (option, resolvers) = (one.option.name, [one_name, other_name]);
            return Err(WiringError::DuplicateCover { option, resolvers, first, second });
        }
        Ok(())
    }
}

/// An option, and a resolver that covers it.
struct Cover {
    option: &'static DeclaredOption,
    resolver: &'static LinkedResolver,
}

fn in_order<T: Ord>(one: T, other: T) -> (T, T) {
    if one <= other { (one, other) } else { (other, one) }
}

/// Order first, then name, then place: the last only tells duplicates apart the same way in every build.
fn run_order(resolver: &LinkedResolver) -> (i32, &'static str, Location) {
    (resolver.order, resolver.name, resolver.location)
}

/// Whether `view`, which has as many elements as the table and none that is not of it, is in the order they run.
fn is_in_order(view: &[&'static LinkedResolver]) -> bool {
    let Some((mut last, later)) = view.split_first() else { return true };
    later.iter().all(|resolver| {
        // Most are told apart by the order alone.
        let last = mem::replace(&mut last, resolver);
        last.order < resolver.order || (last.order == resolver.order && run_order(last) < run_order(resolver))
    })
}

/// The hash of a name: FNV-1a, which a `const fn` can compute, so that the first use of the table need not.
pub(crate) const fn name_hash(name: &str) -> u32 {
    let bytes = name.as_bytes();
    let mut hash = 0x811c_9dc5_u32;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u32).wrapping_mul(0x0100_0193);
        index += 1;
    }
    hash
}

/// The first name that appears twice, with both places.
fn duplicate(
    names: &(impl Iterator<Item = (&'static str, Location)> + Clone),
) -> Option<(&'static str, Location, Location)> {
    let same = first_same(names, |(name, _)| name_hash(name), |(one, _), (other, _)| one == other);
    same.map(|((name, one), (_, other))| {
        let (first, second) = in_order(one, other);
        (name, first, second)
    })
}

/// The first two items that are the same. Those have the same hash.
///
/// Needs no memory but a set of bits on the stack, two a hash: only an item whose bits are both set is compared with
/// those before it.
fn first_same<T>(
    items: &(impl Iterator<Item = T> + Clone),
    hash: impl Fn(&T) -> u32,
    are_same: impl Fn(&T, &T) -> bool,
) -> Option<(T, T)> {
    // Of fewer than two items none is there twice, and clearing the bits would be most of the work.
    items.clone().nth(1)?;
    let mut seen = Seen([0; 1 << Seen::WORD_BITS]);
    for (index, item) in items.clone().enumerate() {
        if seen.insert(hash(&item))
            && let Some(earlier) = earlier(items.clone().take(index), &item, &hash, &are_same)
        {
            return Some((earlier, item));
        }
    }
    None
}

/// Not a part of the loop that calls this, which would keep what this needs in memory.
#[cold]
#[inline(never)]
fn earlier<T>(
    mut items: impl Iterator<Item = T>,
    item: &T,
    hash: impl Fn(&T) -> u32,
    are_same: impl Fn(&T, &T) -> bool,
) -> Option<T> {
    items.find(|earlier| hash(earlier) == hash(item) && are_same(earlier, item))
}

/// A set of hashes that may take one for another: a Bloom filter, of two bits in one word for each.
struct Seen([u64; 1 << Self::WORD_BITS]);

impl Seen {
    const WORD_BITS: u32 = 10;

    /// Whether the hash may have been inserted before.
    #[inline]
    fn insert(&mut self, hash: u32) -> bool {
        let word = &mut self.0[(hash >> (u32::BITS - Self::WORD_BITS)) as usize];
        let bits = 1 << (hash % 64) | 1 << ((hash / 64) % 64);
        let before = *word;
        *word |= bits;
        *word == before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::__private::{ResolverParts, linked_resolver};

    /// A table of resolvers with these names. What they cover is checked in whole programs.
    fn table(names: &[&'static str]) -> LinkedTable {
        let elements: Vec<_> = names
            .iter()
            .zip(1..)
            .map(|(name, line)| {
                linked_resolver(ResolverParts {
                    name,
                    order: 0,
                    module: "test",
                    file: "test.rs",
                    line,
                    covers: &[],
                    run: |_, _, _| Ok(()),
                })
            })
            .collect();
        LinkedTable::new(elements.leak(), None, &[])
    }

    #[test]
    fn names_whose_hashes_collide_are_told_apart_and_duplicates_among_them_are_found() {
        // Known collisions of the 32 bits of FNV-1a.
        for [one, other] in [["costarring", "liquid"], ["declinate", "macallums"], ["altarage", "zinke"]] {
            assert_eq!(name_hash(one), name_hash(other));
            assert_eq!(table(&[one, other]).checked(), Ok(()));
            let twice = table(&[other, one, "overlay", other]);
            let Err(WiringError::DuplicateResolver { name, first, second }) = twice.checked() else {
                panic!("not found")
            };
            assert_eq!((*name, first.line(), second.line()), (other, 1, 4));
        }
    }

    #[test]
    fn every_name_of_a_large_table_is_told_apart() {
        // So many that hundreds of them share a bit.
        let names: Vec<&'static str> =
            (0..10_000).map(|number| &*format!("resolver{number}").leak()).collect();
        assert_eq!(table(&names).checked(), Ok(()));
        let twice: Vec<_> = names.iter().copied().chain(["resolver7777"]).collect();
        assert!(matches!(
            table(&twice).checked(),
            Err(WiringError::DuplicateResolver { name: "resolver7777", .. })
        ));
    }
}
