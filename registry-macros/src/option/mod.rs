//! `#[frame_option]`.

mod args;
mod declaration;
mod expand;

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser;

use self::declaration::Declaration;
use crate::args::Errors;
use crate::item;

pub(crate) fn frame_option(args: TokenStream, item: TokenStream) -> TokenStream {
    if let (kind, span) = item::kind(&item)
        && kind != "a static"
    {
        let error = format!(
            "`#[frame_option]` goes on a static, and this is {kind}: write `static NAME: FrameOption<T>;`"
        );
        let error = syn::Error::new(span, error).into_compile_error();
        return quote!(#error #item);
    }
    let mut errors = Errors::default();
    let args = args::Args::parse(args, &mut errors);
    match Declaration::parse.parse2(item) {
        Ok(Some(declaration)) => {
            declaration.check(&mut errors);
            let error = errors.into_result().err().map(syn::Error::into_compile_error);
            let is_refused = error.is_some();
            let expanded = expand::expand(&args, &declaration, is_refused);
            quote!(#error #expanded)
        }
        Ok(None) => TokenStream::new(),
        Err(error) => {
            errors.push(error);
            errors.into_result().err().map(syn::Error::into_compile_error).unwrap_or_default()
        }
    }
}
