//! A program with a given number of linked resolvers, and its first use of them.

#[path = "cold.rs"]
mod cold;

use frame_registry::FrameResolvers;

static RESOLVERS: FrameResolvers = FrameResolvers::linked();

/// `linked!(count);` defines that many resolvers, and the `main` that measures their first use.
macro_rules! linked {
    (0) => {
        linked!(@main);
    };
    ($count:tt) => {
        static KEY: frame_registry::Key<u64> = frame_registry::Key::new("number");

        seq_macro::seq!(N in 0..$count {
            #[frame_registry::frame_resolver(order = N)]
            #[allow(clippy::unnecessary_wraps)]
            fn resolver~N(
                _: &frame_registry::ResolveContext<'_>,
                _: &frame_registry::Options,
            ) -> Result<Option<frame_registry::Pair>, std::convert::Infallible> {
                Ok(Some(KEY.pair(N)))
            }
        });
        linked!(@main);
    };
    (@main) => {
        fn main() {
            linked::measure();
        }
    };
}

/// Measures the first use of all resolvers of the program.
pub(crate) fn measure() {
    let is_done = cold::measure("registry", |ctx, options, pairs| {
        RESOLVERS.resolve(ctx, options, pairs).expect("they do not fail");
    });
    if is_done {
        println!("How the table came into order: {}\n", RESOLVERS.layout().as_str());
    }
}
