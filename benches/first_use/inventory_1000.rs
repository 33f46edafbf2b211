//! A thousand elements of `inventory`, collected and sorted at the first use.

mod cold;

use std::sync::OnceLock;

use frame_registry::{BoxError, Key, Options, Pairs, ResolveContext};

static KEY: Key<u64> = Key::new("number");

struct Element {
    order: i32,
    name: &'static str,
    run: fn(&ResolveContext<'_>, &Options, &mut Pairs) -> Result<(), BoxError>,
}

inventory::collect!(Element);

seq_macro::seq!(N in 0..1000 {
    #[allow(clippy::unnecessary_wraps)]
    fn resolver~N(_: &ResolveContext<'_>, _: &Options, pairs: &mut Pairs) -> Result<(), BoxError> {
        pairs.push(KEY.pair(N));
        Ok(())
    }

    inventory::submit! { Element { order: N, name: stringify!(N), run: resolver~N } }
});

static SORTED: OnceLock<Vec<&Element>> = OnceLock::new();

fn main() {
    cold::measure("inventory", |ctx, options, pairs| {
        let sorted = SORTED.get_or_init(|| {
            let mut collected: Vec<_> = inventory::iter::<Element>().collect();
            collected.sort_unstable_by_key(|element| (element.order, element.name));
            collected
        });
        for element in sorted {
            (element.run)(ctx, options, pairs).expect("they do not fail");
        }
    });
}
