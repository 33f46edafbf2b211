//! `#[frame_key]`.

mod args;
mod expand;

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::Errors;
use crate::declaration::{Declaration, KEY};

pub(crate) fn frame_key(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = args::KeyArgs::parse(args, &mut errors);
    match Declaration::read(item, &KEY, &mut errors) {
        Ok(declaration) => {
            if let args::Boundary::Propagates(_) = args.boundary
                && declaration.has_reference()
            {
                let error = "what another node reads borrows nothing: write an owned type, such as `String`";
                errors.refuse(&declaration.ty, error);
            }
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
