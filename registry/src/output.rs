//! What the function under `#[frame_resolver]` takes and returns: the compiler's words for what does not fit.

use crate::app::ResolveContext;
use crate::error::BoxError;
use crate::options::Options;
use crate::pair::{Pair, Pairs};

/// The first argument of a resolver.
#[diagnostic::on_unimplemented(
    message = "the first argument of a frame resolver is `&frame_registry::ResolveContext<'_>`, not `{Self}`",
    label = "write `&frame_registry::ResolveContext<'_>`"
)]
pub trait ContextArgument<'a> {
    /// It, from what the dispatcher gave.
    fn of(ctx: &'a ResolveContext<'a>) -> Self;
}

impl<'a> ContextArgument<'a> for &'a ResolveContext<'a> {
    #[inline]
    /// It, from what the dispatcher gave.
    fn of(ctx: &'a ResolveContext<'a>) -> Self {
        ctx
    }
}

/// The second argument of a resolver.
#[diagnostic::on_unimplemented(
    message = "the second argument of a frame resolver is `&frame_registry::Options`, not `{Self}`",
    label = "write `&frame_registry::Options`"
)]
pub trait OptionsArgument<'a> {
    /// It, from what the dispatcher gave.
    fn of(options: &'a Options) -> Self;
}

impl<'a> OptionsArgument<'a> for &'a Options {
    #[inline]
    /// It, from what the dispatcher gave.
    fn of(options: &'a Options) -> Self {
        options
    }
}

/// What a resolver returns.
#[diagnostic::on_unimplemented(
    message = "a frame resolver returns a `Result` of pairs, not `{Self}`",
    label = "write `Result<Option<Pair>, E>`",
    note = "the pairs are anything that is `IntoIterator<Item = frame_registry::Pair>`; a resolver that cannot fail has the error `std::convert::Infallible`"
)]
pub trait ResolverOutput {
    /// Appends the pairs.
    ///
    /// # Errors
    ///
    /// The cause, where the resolver failed.
    fn append_to(self, pairs: &mut Pairs) -> Result<(), BoxError>;
}

impl<I: IntoPairs, E: IntoCause> ResolverOutput for Result<I, E> {
    #[inline]
    fn append_to(self, pairs: &mut Pairs) -> Result<(), BoxError> {
        match self {
            Ok(made) => {
                made.append_to(pairs, Sealed);
                Ok(())
            }
            Err(cause) => Err(cause.into_cause(Sealed)),
        }
    }
}

/// Seals [`IntoPairs`] and [`IntoCause`]: other crates have no name for it, so they can neither implement the methods
/// that take it nor call them. A supertrait would be the one that the compiler misses, in place of what it says here.
#[derive(Debug)]
pub struct Sealed;

/// What a resolver succeeds with: anything that is `IntoIterator<Item = Pair>`.
#[diagnostic::on_unimplemented(
    message = "the `Ok` of what a frame resolver returns is pairs, not `{Self}`",
    label = "write `Result<Option<Pair>, E>`",
    note = "pairs are anything that is `IntoIterator<Item = frame_registry::Pair>`: `Option<Pair>`, `[Pair; N]`, `Vec<Pair>`"
)]
pub trait IntoPairs {
    #[doc(hidden)]
    fn append_to(self, pairs: &mut Pairs, _: Sealed);
}

#[diagnostic::do_not_recommend]
impl<I: IntoIterator<Item = Pair>> IntoPairs for I {
    #[inline]
    fn append_to(self, pairs: &mut Pairs, _: Sealed) {
        pairs.extend(self);
    }
}

/// What a resolver fails with: anything that converts into `Box<dyn Error + Send + Sync>`, such as every error
/// that is `Send + Sync`, `String` and `&str`.
#[diagnostic::on_unimplemented(
    message = "the `Err` of what a frame resolver returns is an error, not `{Self}`",
    label = "`{Self}` does not convert into `Box<dyn Error + Send + Sync>`",
    note = "implement `std::error::Error` for it; or write `String`, `Box<dyn Error + Send + Sync>`, or `std::convert::Infallible` where nothing can fail"
)]
pub trait IntoCause {
    #[doc(hidden)]
    fn into_cause(self, _: Sealed) -> BoxError;
}

#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> IntoCause for E {
    #[cold]
    fn into_cause(self, _: Sealed) -> BoxError {
        self.into()
    }
}
