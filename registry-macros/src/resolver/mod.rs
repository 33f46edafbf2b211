//! `#[frame_resolver]`.

mod args;
mod check;
mod expand;
mod function;

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::Errors;
use crate::item;
use crate::paths::quotable;

pub(crate) fn frame_resolver(args: TokenStream, item: TokenStream) -> TokenStream {
    let (kind, span) = item::kind(&item);
    if kind != "a function" {
        let error = format!("`#[frame_resolver]` goes on a free function, and this is {kind}");
        let error = syn::Error::new(span, error).into_compile_error();
        return quote!(#error #item);
    }
    let function: function::Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => return unread(&error, item),
    };
    let mut errors = Errors::default();
    let args = errors.take(args::ResolverArgs::parse(args, &function));
    check::check(&function, &mut errors);
    match (errors.into_result(), args) {
        (Ok(()), Some(args)) => expand::expand(&args, &function),
        (Err(error), _) => {
            let error = error.into_compile_error();
            let function = function.refused();
            quote!(#error #function)
        }
        (Ok(()), None) => unreachable!("arguments are missing only where there is an error"),
    }
}

/// The function and an error, if this macro cannot read it. Usually the compiler cannot either, and reports that; then it
/// never assembles anything, and the second error does not show. But a syntax newer than this macro must not pass in silence.
///
/// `safe` is not newer syntax. Only functions in an `extern` block have it.
fn unread(error: &syn::Error, mut item: TokenStream) -> TokenStream {
    if let Some(safe) = item::first_word(&item).filter(|word| word == "safe") {
        let error = format!("{}, and remove this word", check::NO_BODY);
        let error = syn::Error::new(safe.span(), error).into_compile_error();
        return quote!(#error #item);
    }
    let line =
        format!(".error \"`#[frame_resolver]` cannot read a function: {}\"", quotable(&error.to_string()));
    item.extend(quote!(::core::arch::global_asm!(#line, options(raw));));
    item
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::frame_resolver;

    #[test]
    fn a_function_that_cannot_be_read_stays_and_is_an_error() {
        let function = quote!(fn tenant(ctx: &ResolveContext<'_>, options {new: syntax}) {});
        let emitted = frame_resolver(quote!(order = 200), function.clone()).to_string();
        assert!(emitted.starts_with(&function.to_string()), "{emitted}");
        assert!(emitted.contains(".error"), "{emitted}");
    }
}
