//! What a function must be like to be a resolver, as far as its tokens tell.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Error, FnArg, GenericParam, Generics, ReturnType, Signature, Type};

use super::function::Function;
use crate::args::Errors;

const SIGNATURE: &str =
    "write `fn name(ctx: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, E>`";
pub(super) const NO_BODY: &str =
    "a frame resolver is a free function with a body: move it out of where functions have none";
const ONE_CALL: &str = "a frame resolver is called with references that live for one call";

pub(crate) fn check(function: &Function, errors: &mut Errors) {
    let signature = &function.sig;
    if !function.has_body() {
        return errors.refuse(&signature.ident, NO_BODY);
    }
    check_qualifiers(signature, errors);
    check_generics(&signature.generics, errors);
    check_arguments(signature, errors);
    check_output(signature, errors);
}

fn check_qualifiers(signature: &Signature, errors: &mut Errors) {
    let Signature { constness, asyncness, safety, abi, .. } = signature;
    if asyncness.is_some() {
        errors.refuse(
            asyncness,
            "a frame resolver cannot be `async`: who spawns does not wait; remove `async`",
        );
    }
    if constness.is_some() {
        errors.refuse(constness, "a frame resolver cannot be `const`: remove `const`");
    }
    if !safety.to_token_stream().is_empty() {
        errors.refuse(
            safety,
            "a frame resolver cannot be `unsafe`: every dispatcher calls it; remove `unsafe`",
        );
    }
    if let Some(abi) = abi {
        let text = abi.to_token_stream();
        errors.refuse(abi, format!("a frame resolver is a Rust function: remove `{text}`"));
    }
}

fn check_generics(generics: &Generics, errors: &mut Errors) {
    for parameter in &generics.params {
        match parameter {
            GenericParam::Lifetime(lifetime) if lifetime.bounds.is_empty() => {}
            GenericParam::Lifetime(lifetime) => {
                errors.refuse(lifetime, format!("{ONE_CALL}: remove the bound"));
            }
            other => errors.refuse(other, "a frame resolver cannot be generic: it is linked in once"),
        }
    }
    if let Some(clause) = &generics.where_clause {
        errors.refuse(clause, "a frame resolver cannot have a `where` clause: remove it");
    }
}

fn check_arguments(signature: &Signature, errors: &mut Errors) {
    let Signature { inputs, variadic, paren_token, .. } = signature;
    let types: Vec<&Type> = inputs.iter().filter_map(typed).collect();
    if let Some(receiver) = inputs.iter().find(|input| matches!(input, FnArg::Receiver(_))) {
        errors
            .refuse(receiver, "a frame resolver is a free function, not a method: move it out of the `impl`");
    } else if let Some(variadic) = variadic {
        errors.refuse(variadic, format!("a frame resolver takes two arguments: {SIGNATURE}"));
    } else if types.len() > 2 {
        let surplus = inputs.iter().skip(2);
        let why =
            format!("a frame resolver takes two arguments, and this takes {}: {SIGNATURE}", types.len());
        errors.refuse(quote!(#(#surplus),*), why);
    } else if types.len() < 2 {
        let given = if types.is_empty() { "none" } else { "one" };
        let why = format!("a frame resolver takes two arguments, and this takes {given}: {SIGNATURE}");
        errors.push(Error::new(paren_token.span.join(), why));
    } else if are_swapped(&types) {
        errors
            .refuse(inputs, "the arguments are swapped: write `ctx: &ResolveContext<'_>, options: &Options`");
    } else {
        for ty in types {
            check_argument(ty, errors);
        }
    }
}

fn typed(input: &FnArg) -> Option<&Type> {
    match input {
        FnArg::Typed(input) => Some(&input.ty),
        FnArg::Receiver(_) => None,
    }
}

/// Whether the types are `&Options` and `&ResolveContext`, by the names that this crate gives them. Without it the mistake
/// would be two errors.
fn are_swapped(types: &[&Type]) -> bool {
    let is = |ty: &Type, name: &str| match ty {
        Type::Reference(reference) => match &*reference.elem {
            Type::Path(path) => path.path.segments.last().is_some_and(|segment| segment.ident == name),
            _ => false,
        },
        _ => false,
    };
    types.iter().zip(["Options", "ResolveContext"]).all(|(ty, name)| is(ty, name))
}

fn check_argument(ty: &Type, errors: &mut Errors) {
    if let Type::ImplTrait(_) = ty {
        errors.refuse(ty, "a frame resolver cannot be generic: write `&ResolveContext<'_>` or `&Options`");
    } else if let Some(lifetime) = static_lifetime(ty.to_token_stream()) {
        errors.push(Error::new(lifetime, format!("{ONE_CALL}: write `&ResolveContext<'_>` and `&Options`")));
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

fn check_output(signature: &Signature, errors: &mut Errors) {
    match &signature.output {
        ReturnType::Default => {
            let why = "a frame resolver returns its pairs: write `-> Result<Option<Pair>, E>`";
            errors.refuse(&signature.ident, why);
        }
        ReturnType::Type(_, ty) => {
            if let Type::Tuple(unit) = &**ty
                && unit.elems.is_empty()
            {
                errors.refuse(ty, "a frame resolver returns its pairs: write `Result<Option<Pair>, E>`");
            }
        }
    }
}
