//! `require_resolvers!`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::parse::{ParseStream, Parser};
use syn::{LitStr, Path, Result, Token};

use crate::args;
use crate::name::Name;
use crate::paths::{at, private};

pub(crate) fn require_resolvers(tokens: TokenStream) -> TokenStream {
    match parse.parse2(tokens) {
        Ok((krate, names)) => expand(krate.as_ref(), &names),
        Err(error) => error.into_compile_error(),
    }
}

fn parse(input: ParseStream<'_>) -> Result<(Option<Path>, Vec<Name>)> {
    let mut krate = None;
    if input.peek(Token![crate]) {
        input.parse::<Token![crate]>()?;
        krate = Some(args::krate(input)?);
        input.parse::<Token![,]>()?;
    }
    if input.is_empty() {
        return Err(input.error("name the resolvers: write `require_resolvers!(\"name\")`"));
    }
    let literals = input.parse_terminated(<LitStr as syn::parse::Parse>::parse, Token![,])?;
    Ok((krate, literals.iter().map(Name::of_literal).collect::<Result<_>>()?))
}

fn expand(krate: Option<&Path>, names: &[Name]) -> TokenStream {
    let private = private(krate);
    let idents: Vec<_> = (0..names.len()).map(|index| format_ident!("__FRAME_RESOLVER_{index}")).collect();
    let statics = names.iter().zip(&idents).map(|(name, ident)| {
        let symbol = name.linked_resolver_symbol();
        quote_spanned! {at(name.span)=>
            #[link_name = #symbol]
            safe static #ident: &'static #private::LinkedResolver;
        }
    });
    let count = names.len();
    quote! {
        const _: () = {
            // SAFETY: only `#[frame_resolver]` defines symbols of these names, each as the address of a resolver.
            #[allow(improper_ctypes)]
            unsafe extern "C" {
                #(#statics)*
            }
            #[used]
            static __FRAME_RESOLVERS: [&&#private::LinkedResolver; #count] = [#(&#idents),*];
        };
    }
}
