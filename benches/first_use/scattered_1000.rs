//! A thousand elements of `scattered-collect`, sorted by a constructor before `main`.

mod cold;

use std::cmp::Ordering;

use frame_registry::{BoxError, Key, Options, Pairs, ResolveContext};
use scattered_collect::sorted_slice::ScatteredSortedSlice;
use scattered_collect::{gather, scatter};

static KEY: Key<u64> = Key::new("number");

struct Element {
    order: i32,
    name: &'static str,
    run: fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError>,
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.order, self.name).cmp(&(other.order, other.name))
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

#[gather]
static ELEMENTS: ScatteredSortedSlice<Element>;

seq_macro::seq!(N in 0..1000 {
    #[allow(clippy::unnecessary_wraps)]
    fn resolver~N(_: &ResolveContext<'_>, _: &Options, pairs: &mut Pairs) -> Result<(), BoxError> {
        pairs.push(KEY.pair(N));
        Ok(())
    }

    #[scatter(ELEMENTS)]
    const _: Element = Element { order: N, name: stringify!(N), run: resolver~N };
});

fn main() {
    cold::measure("scattered-collect", |ctx, options, pairs| {
        for element in &ELEMENTS {
            (element.run)(ctx, options, pairs).expect("they do not fail");
        }
    });
}
