//! `require_resolvers!`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Ident, LitStr, Path, Result, Token};

use crate::args;
use crate::name::Name;
use crate::paths::{at, emit, private, require_here, where_link_guarded};

pub(crate) fn require_resolvers(tokens: TokenStream) -> TokenStream {
    match parse.parse2(tokens) {
        Ok((krate, names)) => expand(krate.as_ref(), &names),
        Err(error) => error.into_compile_error(),
    }
}

fn parse(input: ParseStream<'_>) -> Result<(Option<Path>, Vec<Name>)> {
    let mut krate = None;
    if input.peek(Token![crate]) {
        krate = Some(args::krate(&input.call(Ident::parse_any)?, input)?);
        if !input.is_empty() {
            comma(input)?;
        }
    }
    if input.is_empty() {
        let error = "no resolver is named: write `require_resolvers!(\"name\")`";
        return Err(Error::new(Span::call_site(), error));
    }
    let mut names: Vec<Name> = Vec::new();
    while !input.is_empty() {
        if !input.peek(LitStr) {
            return Err(input.error("the name is a string literal: write `require_resolvers!(\"name\")`"));
        }
        let name = Name::of_literal(&input.parse()?)?;
        if names.iter().any(|other| other.text == name.text) {
            return Err(Error::new(name.span, "this resolver is required already; name it once"));
        }
        names.push(name);
        if !input.is_empty() {
            comma(input)?;
        }
    }
    Ok((krate, names))
}

fn comma(input: ParseStream<'_>) -> Result<()> {
    if !input.peek(Token![,]) {
        return Err(input.error("expected `,` between the names"));
    }
    input.parse::<Token![,]>()?;
    Ok(())
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
    let symbols: Vec<_> = names.iter().map(Name::linked_resolver_symbol).collect();
    let required_here = where_link_guarded(&private, &require_here(&symbols), &TokenStream::new());
    let tokens = quote! {
        const _: () = {
            // SAFETY: only `#[frame_resolver]` defines symbols of these names, each as the address of a resolver.
            unsafe extern "C" {
                #(#statics)*
            }
            #[used]
            static __FRAME_RESOLVERS: [&&#private::LinkedResolver; #count] = [#(&#idents),*];
            #required_here
        };
    };
    emit(&private, &tokens)
}
