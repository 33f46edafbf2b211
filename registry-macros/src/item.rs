//! What an attribute may find itself on.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Meta, Path, Token, Visibility};

/// What kind of item `tokens` are, in words, and the token that says so.
pub(crate) fn kind(tokens: &TokenStream) -> (&'static str, Span) {
    let parser = |input: ParseStream<'_>| {
        input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        let span = input.span();
        let kind = if input.peek(Token![const]) && !input.peek2(Token![fn]) && !input.peek2(Token![unsafe]) {
            "a constant"
        } else if input.peek(Token![static]) {
            "a static"
        } else if input.peek(Token![struct]) {
            "a struct"
        } else if input.peek(Token![enum]) {
            "an enum"
        } else if input.peek(Token![union]) {
            "a union"
        } else if input.peek(Token![trait]) {
            "a trait"
        } else if input.peek(Token![impl]) {
            "an impl block"
        } else if input.peek(Token![mod]) {
            "a module"
        } else if input.peek(Token![type]) {
            "a type alias"
        } else if input.peek(Token![use]) {
            "an import"
        } else if is_function(input) {
            "a function"
        } else if is_macro_call(input) {
            "a macro call"
        } else {
            "something else"
        };
        input.parse::<TokenStream>()?;
        Ok((kind, span))
    };
    parser.parse2(tokens.clone()).unwrap_or_else(|_| ("something else", tokens.span()))
}

fn is_function(input: ParseStream<'_>) -> bool {
    input.peek(Token![fn])
        || input.peek(Token![const])
        || input.peek(Token![async])
        || input.peek(Token![unsafe])
        || input.peek(Token![extern])
}

fn is_macro_call(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    ahead.call(Path::parse_mod_style).is_ok() && ahead.peek(Token![!])
}

/// The conditions under which an item with these attributes is there at all.
pub(crate) fn conditions(attrs: &[Attribute]) -> Vec<TokenStream> {
    attrs.iter().filter_map(condition).collect()
}

fn condition(attr: &Attribute) -> Option<TokenStream> {
    if attr.path().is_ident("cfg") {
        return Some(quote!(#attr));
    }
    let Meta::List(list) = &attr.meta else { return None };
    if !attr.path().is_ident("cfg_attr") {
        return None;
    }
    let parser = |input: ParseStream<'_>| {
        let predicate: Meta = input.parse()?;
        input.parse::<Token![,]>()?;
        let attrs = input.parse_terminated(<Meta as syn::parse::Parse>::parse, Token![,])?;
        let conditions: Vec<_> = attrs.into_iter().filter(|meta| meta.path().is_ident("cfg")).collect();
        Ok(quote!(#(#[cfg_attr(#predicate, #conditions)])*))
    };
    parser.parse2(list.tokens.clone()).ok()
}

/// The documentation comment, one line after the other.
pub(crate) fn doc(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(line), .. }) => Some(line.value()),
            _ => None,
        },
        _ => None,
    });
    lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}
