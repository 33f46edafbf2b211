//! `#[frame_option]`.

mod args;
mod expand;

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::Errors;
use crate::declaration::{Declaration, OPTION};

pub(crate) fn frame_option(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = args::OptionArgs::parse(args, &mut errors);
    match Declaration::read(item, &OPTION, &mut errors) {
        Ok(declaration) => {
            let error = errors.into_compile_error();
            let expanded = expand::expand(&args, &declaration, error.is_some());
            quote!(#error #expanded)
        }
        Err(instead) => {
            let error = instead.is_empty().then(|| errors.into_compile_error());
            quote!(#error #instead)
        }
    }
}
