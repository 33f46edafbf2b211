//! The table that the linker made, checked once before it is trusted.
//!
//! Three things are there, by their reliability:
//! - [`RESOLVERS`] and [`OPTIONS`], gathered by linkme: every one that is linked, in no useful order. The truth.
//! - The sorted view, on ELF: each resolver also puts its address into a section of its own, named by order and
//!   name, and the linker script lays these sections side by side in the order of their names. It is there only
//!   where the linker took the script (`build.rs`), which its two bounds tell: weak, so null without the script.
//! - The guards: one strong symbol a name, so that two of a name do not link, and one undefined symbol for each
//!   option, so that an option without a resolver does not link.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use crate::boundary;
use crate::error::WiringError;
use crate::location::Location;
use crate::options::Options;
use crate::option::{DeclaredOption, OptionKind};
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
    /// The entry's own: under thin LTO two options of one name become one static, and this is what is left to tell
    /// where the other was.
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
        TABLE.get_or_init(|| Self::new(RESOLVERS.static_slice(), sorted_by_linker(), options()))
    }

    fn new(
        elements: &'static [LinkedResolver],
        by_linker: Option<&'static [&'static LinkedResolver]>,
        options: &[ListedOption],
    ) -> Self {
        let (sorted, layout) = match by_linker {
            Some(view) if is_in_order(view, elements) => (view, Layout::LinkTime),
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

    /// Whether each of `options` is plain, or covered by a resolver of this table according to the linker.
    #[inline]
    pub(crate) fn covers_all_by_link(&self, options: &Options) -> bool {
        if options.is_empty() {
            return true;
        }
        let elements = self.elements.as_ptr_range();
        options.all(|option| match option.covered_by {
            Some(resolver) => elements.contains(&std::ptr::from_ref(*resolver)),
            None => option.kind == OptionKind::Plain,
        })
    }

    fn check(&self, options: &[ListedOption]) -> Result<(), WiringError> {
        let names = options.iter().map(|listed| (listed.option.name, listed.location));
        if let Some((name, first, second)) = duplicate(&names) {
            return Err(WiringError::DuplicateOption { name, first, second });
        }
        let names = self.resolvers().iter().map(|resolver| (resolver.name, resolver.location));
        if let Some((name, first, second)) = duplicate(&names) {
            return Err(WiringError::DuplicateResolver { name, first, second });
        }
        boundary::check()
    }
}

/// Order first, then name, then place: the last only tells duplicates apart the same way in every build.
fn run_order(resolver: &LinkedResolver) -> (i32, &'static str, Location) {
    (resolver.order, resolver.name, resolver.location)
}

/// Whether `view` holds each of `elements` once, in the order they run: as many, each one of them, and each
/// behind the one before it.
fn is_in_order(view: &[&'static LinkedResolver], elements: &'static [LinkedResolver]) -> bool {
    let known = elements.as_ptr_range();
    view.len() == elements.len()
        && view.iter().all(|resolver| known.contains(&std::ptr::from_ref(*resolver)))
        && view.is_sorted_by(|left, right| run_order(left) < run_order(right))
}

/// The first name that appears twice, with both places.
///
/// Needs no memory but a set of bits on the stack, one a hash: only where two names share a bit are they
/// compared with each other.
fn duplicate(
    names: &(impl Iterator<Item = (&'static str, Location)> + Clone),
) -> Option<(&'static str, Location, Location)> {
    const WORDS: usize = 1024;
    // Of fewer than two names none is there twice, and clearing the bits would be most of the work.
    names.clone().nth(1)?;
    let mut seen = [0_u64; WORDS];
    for (index, (name, location)) in names.clone().enumerate() {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let hash = usize::try_from(hasher.finish() % (WORDS as u64 * 64)).expect("a small number");
        let (word, bit) = (hash / 64, 1 << (hash % 64));
        if seen[word] & bit != 0
            && let Some((_, first)) = names.clone().take(index).find(|(earlier, _)| *earlier == name)
        {
            return Some((name, first.min(location), first.max(location)));
        }
        seen[word] |= bit;
    }
    None
}
