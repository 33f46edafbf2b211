//! What a function must be like to be a resolver, as far as its tokens tell.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericParam, Generics, ReturnType, Signature, Type};

use super::function::Function;
use crate::args::Errors;

const SIGNATURE: &str = "write `fn name(ctx: &Context<'_>, options: &Options) -> Result<Option<Pair>, E>`";

pub(crate) fn check(function: &Function, errors: &mut Errors) {
    let Signature { constness, asyncness, safety, abi, generics, inputs, variadic, output, paren_token, .. } =
        &function.sig;
    let mut refuse = |span: Span, why: &str| errors.push(Error::new(span, why));

    if let Some(token) = asyncness {
        refuse(token.span, "a frame resolver cannot be `async`: it runs before there is anything to wait for");
    }
    if let Some(token) = constness {
        refuse(token.span, "a frame resolver cannot be `const`: remove `const`");
    }
    if !safety.to_token_stream().is_empty() {
        refuse(safety.span(), "a frame resolver cannot be `unsafe`: every dispatcher calls it; remove `unsafe`");
    }
    if let Some(abi) = abi {
        refuse(abi.span(), "a frame resolver is a Rust function: remove `extern`");
    }
    check_generics(generics, &mut refuse);

    if let Some(receiver) = inputs.iter().find(|input| matches!(input, FnArg::Receiver(_))) {
        refuse(receiver.span(), "a frame resolver is a free function, not a method: move it out of the `impl`");
    } else if let Some(variadic) = variadic {
        refuse(variadic.span(), &format!("a frame resolver takes two arguments: {SIGNATURE}"));
    } else if inputs.len() != 2 {
        let span = inputs.iter().nth(2).map_or(paren_token.span.join(), Spanned::span);
        let given = match inputs.len() {
            0 => "none".to_owned(),
            given => given.to_string(),
        };
        refuse(span, &format!("a frame resolver takes two arguments, and this takes {given}: {SIGNATURE}"));
    } else {
        for ty in inputs.iter().filter_map(typed) {
            check_argument(ty, &mut refuse);
        }
    }
    check_output(function, output, &mut refuse);
}

fn check_generics(generics: &Generics, refuse: &mut impl FnMut(Span, &str)) {
    for parameter in &generics.params {
        match parameter {
            GenericParam::Lifetime(lifetime) if lifetime.bounds.is_empty() => {}
            GenericParam::Lifetime(lifetime) => refuse(
                lifetime.span(),
                "a frame resolver is called with references that live for one call: remove the bound",
            ),
            other => refuse(other.span(), "a frame resolver cannot be generic: it is linked in once"),
        }
    }
    if let Some(clause) = &generics.where_clause {
        refuse(clause.span(), "a frame resolver cannot have a `where` clause: remove it");
    }
}

fn typed(input: &FnArg) -> Option<&Type> {
    match input {
        FnArg::Typed(input) => Some(&input.ty),
        FnArg::Receiver(_) => None,
    }
}

fn check_argument(ty: &Type, refuse: &mut impl FnMut(Span, &str)) {
    if let Type::ImplTrait(_) = ty {
        refuse(ty.span(), "a frame resolver cannot be generic: write `&Context<'_>` or `&Options`");
    } else if let Some(lifetime) = static_lifetime(ty.to_token_stream()) {
        refuse(
            lifetime,
            "a frame resolver is called with references that live for one call: write `&Context<'_>` and `&Options`",
        );
    }
}

/// Where `'static` stands in a type.
fn static_lifetime(tokens: TokenStream) -> Option<Span> {
    let mut is_behind_quote = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                if let Some(span) = static_lifetime(group.stream()) {
                    return Some(span);
                }
            }
            TokenTree::Ident(ident) if is_behind_quote && ident == "static" => return Some(ident.span()),
            TokenTree::Punct(punct) if punct.as_char() == '\'' => {
                is_behind_quote = true;
                continue;
            }
            _ => {}
        }
        is_behind_quote = false;
    }
    None
}

fn check_output(function: &Function, output: &ReturnType, refuse: &mut impl FnMut(Span, &str)) {
    match output {
        ReturnType::Default => refuse(
            function.sig.ident.span(),
            "a frame resolver returns its pairs: write `-> Result<Option<Pair>, E>`",
        ),
        ReturnType::Type(_, ty) => match &**ty {
            Type::Tuple(unit) if unit.elems.is_empty() => {
                refuse(ty.span(), "a frame resolver returns its pairs: write `Result<Option<Pair>, E>`");
            }
            _ => {}
        },
    }
}
