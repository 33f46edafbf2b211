//! `#[frame_resolver]`.

mod args;
mod check;
mod expand;
mod function;

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::Errors;
use crate::item;

pub(crate) fn frame_resolver(args: TokenStream, item: TokenStream) -> TokenStream {
    if let (kind, span) = item::kind(&item)
        && kind != "a function"
    {
        let error = format!("`#[frame_resolver]` goes on a free function, and this is {kind}");
        let error = syn::Error::new(span, error).into_compile_error();
        return quote!(#error #item);
    }
    let function: function::Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        // Not a function the compiler could read either, and its error is the better one.
        Err(_) => return item,
    };
    let mut errors = Errors::default();
    let args = errors.take(args::Args::parse(args, &function));
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
